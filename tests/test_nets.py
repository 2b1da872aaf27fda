"""What smoothing needs of a net: its fingerprint, twins, and answers by themselves."""

import numpy as np
import pytest
import torch
from conftest import Threshold, frozen
from torch import nn

from rs4a import CertificationWarning, Inference, SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.nets import evaluating, fingerprint, voting_nets, warn_of_batch_dependence

X = np.random.default_rng(0).random((20, 4), dtype=np.float32)


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


@pytest.fixture
def net():
    return frozen(Net, [0, 1]).estimator


# Whether an answer depends on the batch


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


@pytest.mark.parametrize("module", [Stubborn, DropsOut, Centres])
def test_batch_dependence_is_warned_of(module):
    torch.manual_seed(0)
    clf = SmoothedClassifier(
        frozen(module, [0, 1]), bound=ClopperPearson(n=100), random_state=0
    )
    clf.fit(X, np.arange(20) % 2)
    with pytest.warns(CertificationWarning, match="no function of one input"):
        clf.certify(X[:3])


@pytest.mark.parametrize("n", [1, 2, 20])
def test_sound_nets_are_not_warned_of(net, n):
    warn_of_batch_dependence(net, X[:n])
    warn_of_batch_dependence(net, 1e20 * X[:n])


def test_the_trial_leaves_the_modes_alone(net):
    net.module_.train()
    warn_of_batch_dependence(net, X)
    assert all(module.training for module in net.module_.modules())


# Fingerprints


def test_fingerprint_changes_with_every_weight(net):
    before = fingerprint(net)
    assert fingerprint(net) == before
    for value in net.module_.state_dict().values():
        flat = value.view(-1)
        old = flat[-1].item()
        flat[-1] = old + 1
        assert fingerprint(net) != before
        flat[-1] = old
        assert fingerprint(net) == before


def test_fingerprint_knows_names_and_types(net):
    before = fingerprint(net)
    net.module_.double()
    assert fingerprint(net) != before
    renamed = frozen(nn.Linear, [0, 1], module__in_features=1, module__out_features=1)
    assert fingerprint(renamed.estimator) != before


def test_fingerprint_knows_classes_and_arguments():
    def digest(module, **kwargs):
        torch.manual_seed(0)
        return fingerprint(frozen(module, [0, 1], **kwargs).estimator)

    class Other(Net):
        pass

    assert digest(Net) != digest(Other)
    assert digest(Threshold, module__t=0.5) == digest(Threshold, module__t=0.5)
    assert digest(Threshold, module__t=0.5) != digest(Threshold, module__t=0.6)


# Nets for threads


def test_twins_share_weights_and_nothing_else(net):
    with evaluating(net):
        first, second = voting_nets(net, None, 2)
    assert len({id(each.module_) for each in (net, first, second)}) == 3
    for one, other in zip(
        net.module_.parameters(), first.module_.parameters(), strict=True
    ):
        assert one is other
    assert first.module_[1].running_mean is net.module_[1].running_mean
    assert not first.module_.training


def test_inference_applies_to_every_twin(net):
    batch = torch.from_numpy(X)
    half = Inference(dtype="bfloat16")
    with evaluating(net), torch.inference_mode():
        nets = voting_nets(net, half, 2)
        assert [each.infer(batch).dtype for each in nets] == [torch.bfloat16] * 2
        assert net.infer(batch).dtype == torch.float32


class Normalised(Net):
    """Has a buffer that is not saved, and a setting that is no argument."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4), persistent=False)
        self.slope = 0.1


def test_fingerprint_knows_what_is_not_saved():
    net = frozen(Normalised, [0, 1]).estimator
    before = fingerprint(net)
    net.module_.mean += 1
    shifted = fingerprint(net)
    assert shifted != before
    net.module_.slope = 0.2
    assert fingerprint(net) not in (before, shifted)


class Lambda(Net):
    def __init__(self):
        super().__init__()
        self.activation = lambda x: x.relu()

    def forward(self, X):
        return super().forward(self.activation(X))


def test_a_net_that_cannot_be_pickled_has_twins():
    net = frozen(Lambda, [0, 1]).estimator
    with evaluating(net):
        nets = voting_nets(net, Inference(dtype="bfloat16"), 3)
    assert len(nets) == 3
    assert len({id(each.module_) for each in nets}) == 3
