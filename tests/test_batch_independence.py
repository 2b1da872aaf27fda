"""Nets that are no function of one input are noticed, and no others are."""

import warnings

import numpy as np
import pytest
import torch
from conftest import frozen
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, minmax_scale, scale
from torch import nn

from rs4a import CertificationWarning, SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.noises import Gaussian, Splitting, Uniform
from rs4a.voting.batch_independence import depends_on_batch

X = np.random.default_rng(0).random((20, 4), dtype=np.float32)
Y = np.arange(20) % 2
NOISE = Gaussian(sigma=0.25)


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return frozen(Net, [0, 1]).estimator


def smoothed(base, **kwargs):
    options = {"noise": NOISE, "bound": ClopperPearson(n=100), "random_state": 0}
    return SmoothedClassifier(base, **{**options, **kwargs}).fit(X, Y)


# What is no function of one input


class Stubborn(Net):
    """Has a batch normalisation that stays in training mode."""

    def forward(self, X):
        self[1].training = len(X) > 1
        return super().forward(X)


class DropsOut(Net):
    def forward(self, X):
        return nn.functional.dropout(super().forward(X), 0.5, training=True)


class Centres(Net):
    def forward(self, X):
        return super().forward(X - X.mean(dim=0))


class CentresByFirst(Net):
    def forward(self, X):
        return super().forward(X - X[:1])


class Energies(Centres):
    """Outputs whose common part is much larger than what decides."""

    def forward(self, X):
        return super().forward(X) - 5000.0


class ByLength(Net):
    def forward(self, X):
        return super().forward(X) * (1.0 if len(X) % 2 else -1.0)


def masked(module):
    """With a third class that is excluded."""

    class Masked(module):
        def __init__(self, mask):
            super().__init__()
            self.mask = mask

        def forward(self, X):
            excluded = torch.full((len(X), 1), self.mask)
            return torch.cat([super().forward(X), excluded], dim=1)

    return Masked


@pytest.mark.parametrize("mask", [-np.inf, -1e9, -1e4])
@pytest.mark.parametrize("module", [Net, Centres, ByLength])
def test_an_excluded_class_hides_nothing(module, mask):
    torch.manual_seed(0)
    net = frozen(masked(module), [0, 1, 2], module__mask=mask).estimator
    if module is Net:
        assert not depends_on_batch(net, X, NOISE, 3)
    else:
        assert depends_on_batch(net, X, NOISE, 3)


@pytest.mark.parametrize(
    "module", [Stubborn, DropsOut, Centres, CentresByFirst, Energies, ByLength]
)
@pytest.mark.parametrize("n", [1, 3])
def test_batch_dependence_is_warned_of(module, n):
    torch.manual_seed(0)
    clf = smoothed(frozen(module, [0, 1]))
    with pytest.warns(CertificationWarning, match="no function of one input"):
        record = clf.certify(X[:n])
    reason = "the net's answer to an input changes with its batch"
    assert reason in record.report["warned"]
    assert f"No certificate holds: {reason}." in str(record)


def winsorised(X):
    return np.clip(X, np.quantile(X, 0.05, axis=0), np.quantile(X, 0.95, axis=0))


def centred(X):
    return X - X.mean(axis=0)


@pytest.mark.parametrize("by_batch", [centred, scale, minmax_scale, winsorised])
@pytest.mark.parametrize("n", [1, 10])
def test_transformers_that_go_by_the_batch_are_warned_of(by_batch, n):
    y = (X[:, 0] > 0.5).astype(int)
    base = make_pipeline(FunctionTransformer(by_batch), LogisticRegression())
    base.fit(X.astype(np.float64), y)
    clf = smoothed(FrozenEstimator(base), noise=Uniform(sigma=0.2))
    with pytest.warns(CertificationWarning, match="no function of one input"):
        clf.certify(X[:n])


def in_range(X):
    if np.abs(X).max() > 2.0:
        raise ValueError("out of range")
    return X


@pytest.mark.parametrize("n", [1, 10])
def test_a_pipeline_that_refuses_strangers_is_tried_all_the_same(n):
    y = (X[:, 0] > 0.5).astype(int)
    steps = FunctionTransformer(in_range), FunctionTransformer(scale), LogisticRegression()
    base = make_pipeline(*steps).fit(X.astype(np.float64), y)
    clf = smoothed(FrozenEstimator(base), noise=Uniform(sigma=0.2))
    with pytest.warns(CertificationWarning, match="no function of one input"):
        clf.certify(X[:n])


def test_a_nonlinearity_over_the_batch_is_warned_of():
    torch.manual_seed(0)
    clf = smoothed(
        frozen(Net, [0, 1], predict_nonlinearity=lambda outputs: outputs.softmax(dim=0))
    )
    with pytest.warns(CertificationWarning, match="no function of one input"):
        clf.certify(X[:3])


class Adapts(Net):
    """Subtracts a mean that follows its inputs, slowly."""

    momentum = 1e-6

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, X):
        self.follow(X.mean(dim=0) - self.mean)
        return super().forward(X - self.mean)

    def follow(self, step):
        self.mean.add_(self.momentum * step)


class AdaptsAnew(Adapts):
    """Keeps the mean in new memory: copies of the net for threads have their own."""

    def follow(self, step):
        self.mean = self.mean + self.momentum * step


@pytest.fixture(params=[1, 2])
def n_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("n_threads")
@pytest.mark.parametrize("module", [Adapts, AdaptsAnew])
def test_nets_that_change_as_they_vote_are_warned_of(module):
    clf = smoothed(frozen(module, [0, 1]), bound=ClopperPearson(n=1000))
    with pytest.warns(CertificationWarning, match="changed while it voted"):
        record = clf.certify(X[:3])
    assert record.report["warned"] == ["the net changed while it voted"]


class Keeps(Net):
    """Keeps what it saw last."""

    def forward(self, X):
        self.last = X
        return super().forward(X)


class Counts(Net):
    n_calls = 0

    def forward(self, X):
        self.n_calls += 1
        return super().forward(X)


class Resets(Net):
    """Has a state that each call begins anew."""

    def forward(self, X):
        self.potential = torch.zeros(len(X), 2)
        for _ in range(3):
            self.potential = 0.5 * self.potential + super().forward(X)
        return self.potential


@pytest.mark.usefixtures("n_threads")
@pytest.mark.parametrize("module", [Keeps, Counts, Resets])
def test_state_that_no_answer_depends_on_is_no_change(module):
    clf = smoothed(frozen(module, [0, 1]), bound=ClopperPearson(n=1000))
    assert clf.certify(X[:3]).report["warned"] == []


class Fails(Counts):
    """Fails as it votes, after the trial."""

    def forward(self, X):
        outputs = super().forward(X)
        if self.n_calls == 10:
            raise ValueError("of the net")
        return outputs


def test_a_net_that_failed_is_not_asked_again():
    clf = smoothed(frozen(Fails, [0, 1]), batch_size=64)
    with pytest.raises(ValueError, match="of the net"):
        clf.certify(X[:3])
    assert clf.estimator_.module_.n_calls == 10


@pytest.mark.parametrize("module", [Keeps, Resets])
@pytest.mark.parametrize("batch_size", [64, "auto"])
def test_a_record_goes_on_whatever_the_votes_left_in_the_net(module, batch_size):
    bound = ConfidenceSequence(max_n=500)
    clf = smoothed(frozen(module, [0, 1]), bound=bound, batch_size=batch_size)
    first = clf.certify(X[:3], max_votes=300)
    again = clf.certify(X[:3], previous=first)
    assert again.n_votes.sum() > first.n_votes.sum()


# What is one


@pytest.mark.parametrize("n", [1, 2, 20])
@pytest.mark.parametrize(
    "noise", [NOISE, Uniform(sigma=1e-6), Splitting(lambd=0.2, seed=0)]
)
def test_sound_nets_are_not_warned_of(net, n, noise):
    images = np.rint(255 * X) / np.float32(255)
    assert not depends_on_batch(net, images[:n], noise, 2)


def test_large_numbers_are_not_warned_of(net):
    assert not depends_on_batch(net, 1e20 * X, NOISE, 2)
    assert not depends_on_batch(net, 1e38 * X, NOISE, 2)


class Deep(nn.Sequential):
    """Random layers, after which the outputs nearly tie."""

    def __init__(self, depth=30):
        layers = [(nn.Linear(64, 64), nn.Tanh()) for _ in range(depth)]
        super().__init__(nn.Linear(4, 64), *sum(layers, ()), nn.Linear(64, 10))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_near_ties_are_not_warned_of(dtype, seed):
    torch.manual_seed(seed)
    net = frozen(Deep, list(range(10))).estimator
    net.module_.to(dtype)
    assert not depends_on_batch(net, X, NOISE, 10)


class Experts(nn.Module):
    """Sends inputs to one of two nets: how many go there changes with the batch."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList([Deep(3), Deep(3)])

    def forward(self, X):
        outputs = X.new_zeros(len(X), 10)
        goes_first = X[:, 0] > X[:, 1]
        for expert, chosen in zip(self.experts, [goes_first, ~goes_first], strict=True):
            outputs[chosen] = expert(X[chosen])
        return outputs


def test_experts_are_not_warned_of():
    torch.manual_seed(0)
    net = frozen(Experts, list(range(10))).estimator
    assert not depends_on_batch(net, X, NOISE, 10)


class Builds(Net):
    """Makes a part of itself in its first forward pass."""

    def forward(self, X):
        if not hasattr(self, "offset"):
            self.offset = torch.ones(4)
        return super().forward(X - self.offset)


def test_parts_that_are_built_at_first_are_no_change():
    record = smoothed(frozen(Builds, [0, 1])).certify(X[:3])
    assert record.report["warned"] == []


def test_a_classifier_that_refuses_strangers_is_not_warned_of():
    y = (X[:, 0] > 0.5).astype(int)
    base = make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()).fit(X, y)
    clf = smoothed(FrozenEstimator(base), noise=Uniform(sigma=0.2))
    assert clf.certify(X[:3]).report["warned"] == []


# The trial itself


class Ranges(Net):
    """Notes how large its inputs are, and how many."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, X):
        self.seen.append((float(X.abs().max()), len(X)))
        return super().forward(X)


class Decides(Ranges):
    def forward(self, X):
        return nn.functional.one_hot(super().forward(X).argmax(dim=1), 2).float()


@pytest.mark.parametrize(("module", "n_rows"), [(Ranges, 89), (Decides, 281)])
def test_strangers_come_last_and_the_trial_is_short(module, n_rows):
    net = frozen(module, [0, 1]).estimator
    assert not depends_on_batch(net, X, Uniform(sigma=0.1), 2)
    ranges, sizes = zip(*net.module_.seen, strict=True)
    strange = np.array(ranges) > 1.2
    assert strange.any()
    assert (np.sort(strange) == strange).all()
    assert sum(sizes) == n_rows


def test_nobody_hears_of_strangers():
    def loud(X):
        if np.abs(X).max() > 2.0:
            warnings.warn("out of range", RuntimeWarning, stacklevel=1)
        return np.sqrt(X + 1.0)

    y = (X[:, 0] > 0.5).astype(int)
    base = make_pipeline(FunctionTransformer(loud), LogisticRegression()).fit(X, y)
    clf = smoothed(FrozenEstimator(base), noise=Uniform(sigma=0.2))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        clf.certify(X[:3])
    assert heard == []


class FarCentres(nn.Linear):
    """Goes by the batch only where the noise is large."""

    def __init__(self):
        super().__init__(4, 2)

    def forward(self, X):
        return super().forward(X - X.mean(dim=0) if X.abs().median() > 20.0 else X)


def test_another_noise_needs_another_trial():
    base = frozen(FarCentres, [0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smoothed(base).certify(X[:3])
    for _ in range(2):  # a failed trial is repeated
        with pytest.warns(CertificationWarning, match="with the other inputs of its batch"):
            smoothed(base, noise=Gaussian(sigma=100.0)).certify(X[:3])


def test_the_trial_leaves_the_modules_alone(net):
    net.module_.train()
    depends_on_batch(net, X, NOISE, 2)
    assert all(module.training for module in net.module_.modules())


def test_the_trial_draws_from_no_generator_but_its_own(net):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    depends_on_batch(net, X, NOISE, 2)
    assert torch.equal(torch.rand(3), expected)
