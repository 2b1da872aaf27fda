"""Training under noise: any net, its callbacks, its errors, and nothing left behind."""

import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import make_net
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import cross_validate
from skorch import NeuralNetClassifier
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LRScheduler,
    PrintLog,
)
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
from skorch.utils import noop
from torch import nn
from torch.utils.data import Dataset, Subset

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.networks import MLP
from rs4a.noises import Gaussian, Uniform
from rs4a.objectives import NoiseAugmentation, Objective
from rs4a.training.train import train, training_under_noise

SEEN = []


class Recorder(nn.Module):
    """Linear net that keeps the batches it saw."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, X):
        SEEN.append((self.training, X.detach().clone()))
        return self.linear(X.flatten(1))


@pytest.fixture
def seen():
    SEEN.clear()
    return SEEN


@pytest.fixture(scope="module")
def small(digits):
    return digits[0][:256], digits[2][:256].astype(np.int64)


def recorder_net(**kwargs):
    options = {
        "criterion": nn.CrossEntropyLoss, "train_split": None, "batch_size": 256,
        "max_epochs": 2, "verbose": 0, "callbacks__print_log": None,
    }  # fmt: skip
    return NeuralNetClassifier(Recorder, **{**options, **kwargs})


def run(net, data, *, noise=None, objective=None, seed=0):
    X, y = data
    noise, objective = noise or Gaussian(sigma=0.5), objective or NoiseAugmentation()
    return train(net, X, y, noise=noise, objective=objective, n_classes=10, seed=seed)


def test_noise_is_drawn_afresh_for_every_batch(seen, small):
    run(recorder_net(), small)
    batches = [X for training, X in seen if training]
    assert len(batches) == 2
    clean = torch.from_numpy(small[0])
    for batch in batches:
        assert (batch - clean).std().item() == pytest.approx(0.5, rel=0.02)
    assert (batches[0] - batches[1]).std().item() == pytest.approx(0.5 * 2**0.5, rel=0.02)


def test_validation_is_under_noise(seen, small):
    net = run(recorder_net(train_split=ValidSplit(4)), small)
    validation = [X for training, X in seen[1:] if not training]  # the first: output check
    assert len(validation) == 2
    assert all((X < -0.5).any() for X in validation)
    assert {"valid_loss", "valid_acc", "train_loss"} <= set(net.history[-1])


def test_user_s_data_is_left_alone(small):
    X, y = small[0].copy(), small[1].copy()
    run(recorder_net(), (X, y))
    np.testing.assert_array_equal(X, small[0])
    np.testing.assert_array_equal(y, small[1])


def test_several_copies_share_a_batch(seen, small):
    run(recorder_net(max_epochs=1), small, objective=NoiseAugmentation(n_samples=3))
    (batch,) = [X for training, X in seen if training]
    assert batch.shape == (3 * 256, 1, 8, 8)
    copies = batch.unflatten(0, (3, 256))
    assert (copies - torch.from_numpy(small[0])).mean(dim=(1, 2, 3, 4)).abs().max() < 0.05
    assert not torch.equal(copies[0], copies[1])


def test_probability_nets_train_with_their_own_criterion(small):
    """NLLLoss nets output probabilities, which skorch itself turns into logarithms."""
    net = make_net(module=Softmax, module__input_shape=(1, 8, 8), criterion=nn.NLLLoss)
    X, y = small
    clf = SmoothedClassifier(net, noise=Uniform(sigma=0.2), random_state=0).fit(X, y)
    assert clf.score(X, y) > 0.8


class Softmax(nn.Module):
    def __init__(self, input_shape, n_classes, hidden):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 64), nn.Dropout(0.1), nn.ReLU(),
            nn.Linear(64, n_classes), nn.Softmax(dim=1),
        )  # fmt: skip

    def forward(self, X):
        return self.layers(X)


def test_score_callbacks_see_one_output_an_input(small):
    """Caches of EpochScoring stay aligned with the labels."""
    net = make_net(
        train_split=ValidSplit(4),
        callbacks=[EpochScoring("accuracy", on_train=True, name="train_acc")],
    )
    run(net, small, noise=Uniform(sigma=0.1), objective=NoiseAugmentation(n_samples=2))
    assert net.history[-1, "train_acc"] > 0.8
    assert net.history[-1, "valid_acc"] > 0.6


def test_skorch_s_callbacks_work(small, tmp_path, capsys):
    net = make_net(
        max_epochs=30,
        lr=0.5,
        optimizer=torch.optim.SGD,
        train_split=ValidSplit(4),
        verbose=1,
        callbacks__print_log=PrintLog(),
        callbacks=[
            ("stop", EarlyStopping(patience=3, sink=noop)),
            ("save", Checkpoint(dirname=tmp_path, f_pickle="net.pkl")),
            ("schedule", LRScheduler("StepLR", step_size=2, gamma=0.1)),
        ],
    )
    run(net, small)
    assert len(net.history) < 30  # the learning rate is gone after a few epochs
    assert "valid_loss" in capsys.readouterr().out
    assert net.optimizer_.param_groups[0]["lr"] < 0.5
    plain = make_net().initialize()
    plain.load_params(f_params=tmp_path / "params.pt")
    copy_ = pickle.loads((tmp_path / "net.pkl").read_bytes())
    assert type(copy_) is NeuralNetClassifier
    assert not hasattr(copy_, "smoothing_")


def test_copies_made_in_training_are_plain(small):
    copies = []

    class Copier(Callback):
        def on_epoch_end(self, net, **kwargs):
            copies.extend([copy.deepcopy(net), pickle.loads(pickle.dumps(net))])

    net = make_net(max_epochs=1)
    net.initialize()
    copier = Copier()
    copier.initialize()
    with training_under_noise(net, Gaussian(sigma=0.5), NoiseAugmentation()):
        copies.extend([copy.deepcopy(net), pickle.loads(pickle.dumps(net))])
        assert type(net) is not NeuralNetClassifier
        assert isinstance(net, NeuralNetClassifier)
    for each in copies:
        assert type(each) is NeuralNetClassifier
        assert not hasattr(each, "smoothing_")
        assert set(each.get_params(deep=False)) == set(make_net().get_params(deep=False))


class Failing(Callback):
    def __init__(self, error):
        self.error = error

    def on_batch_end(self, net, **kwargs):
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_nothing_is_left_behind_after_an_error(small, error):
    net = recorder_net(callbacks=[Failing(error)]).initialize()
    before = set(net.get_params())
    if isinstance(error, KeyboardInterrupt):
        run(net, small)  # skorch's own way: training ends early, the net stays usable
    else:
        with pytest.raises(RuntimeError, match="boom"):
            run(net, small)
    assert type(net) is NeuralNetClassifier
    assert "smoothing_" not in vars(net)
    assert set(net.get_params()) == before
    assert not net.module_._forward_pre_hooks
    assert not net.module_._forward_hooks


def test_context_restores_the_class_after_any_error():
    net = recorder_net().initialize()
    context = training_under_noise(net, Gaussian(sigma=1.0), NoiseAugmentation())
    with pytest.raises(KeyboardInterrupt), context:  # noqa: PT012
        assert type(net) is not NeuralNetClassifier
        raise KeyboardInterrupt
    assert type(net) is NeuralNetClassifier


class OwnSteps(NeuralNetClassifier):
    """A user's net with own steps; they run, on noisy batches."""

    def train_step_single(self, batch, **fit_params):
        self.sizes_ = [*getattr(self, "sizes_", []), len(batch[0])]
        return super().train_step_single(batch, **fit_params)

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        assert len(y_pred) == len(y_true)
        return 2 * super().get_loss(y_pred, y_true, *args, **kwargs)


def test_user_s_overrides_run(small):
    net = OwnSteps(
        Recorder, criterion=nn.CrossEntropyLoss, train_split=None, batch_size=256,
        max_epochs=2, verbose=0, callbacks__print_log=None,
    )  # fmt: skip
    run(net, small, objective=NoiseAugmentation(n_samples=2))
    assert net.sizes_ == [512, 512]
    assert type(net) is OwnSteps


def test_closures_of_optimizers_see_one_draw(seen, small):
    """LBFGS evaluates a batch several times: under the same noise, or it diverges."""
    net = recorder_net(optimizer=torch.optim.LBFGS, optimizer__max_iter=4, max_epochs=1)
    run(net, small)
    batches = [X for training, X in seen if training]
    assert len(batches) > 1
    assert all(torch.equal(X, batches[0]) for X in batches)


def test_training_is_reproducible_and_leaves_torch_s_generator(small):
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    one, two, other = (run(make_net(), small, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(2), expected)
    weights = [net.module_.layers[0].weight for net in (one, two, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_splits_at_random_are_reproducible(small):
    """skorch's ValidSplit reads numpy's global generator, which is left as it was."""
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    nets = [run(make_net(train_split=ValidSplit(0.2)), small) for _ in range(2)]
    assert np.random.rand() == expected
    assert torch.equal(*(net.module_.layers[0].weight for net in nets))


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, X):
        return self.linear(X.flatten(1)), X.flatten(1).mean(dim=1)


class OwnLoss(NeuralNetClassifier):
    """A loss of the user's own that wants everything that the net returns."""

    def get_loss(self, y_pred, y_true, *args, **kwargs):
        outputs, means = y_pred
        return super().get_loss(outputs, y_true, *args, **kwargs) + 0 * means.mean()


def test_own_loss_sees_all_that_the_net_returns(small):
    net = OwnLoss(
        TwoOutputs, criterion=nn.CrossEntropyLoss, train_split=None, max_epochs=1,
        verbose=0, callbacks__print_log=None,
    )  # fmt: skip
    run(net, small, objective=NoiseAugmentation(n_samples=2))
    assert len(net.history) == 1


class Double(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10).double()

    def forward(self, X):
        return self.linear(X.flatten(1))


def test_double_precision_nets_train_and_certify(small):
    net = NeuralNetClassifier(
        Double, criterion=nn.CrossEntropyLoss, train_split=None, max_epochs=2, verbose=0,
        callbacks__print_log=None,
    )  # fmt: skip
    clf = SmoothedClassifier(net, noise=Uniform(sigma=0.2), bound=ClopperPearson(n=100))
    assert clf.fit(*small).certify(small[0][:5]).n_votes.tolist() == [100] * 5
    assert 0 <= clf.base_score(*small) <= 1


def test_clones_made_in_training_train_plainly(small):
    net = make_net(max_epochs=1).initialize()
    X, y = small
    with training_under_noise(net, Gaussian(sigma=50.0), NoiseAugmentation(n_samples=2)):
        other = clone(net).set_params(max_epochs=10).fit(X, y)
    assert other.score(X, y) > 0.8


def test_dictionary_batches_are_refused(small):
    net = recorder_net().initialize()
    batch = {"X": torch.zeros(2, 64)}, torch.zeros(2, dtype=torch.int64)
    with (
        training_under_noise(net, Gaussian(sigma=1.0), NoiseAugmentation()),
        pytest.raises(TypeError, match="batches of one tensor, got dict"),
    ):
        net.train_step(batch)


def test_objectives_of_users_join_in(seen, small):
    class Spread(Objective):
        """Two copies; the loss is told which outputs belong together."""

        def __init__(self, n_samples=2):
            self.n_samples = n_samples

        def loss(self, answers):
            assert answers.outputs.shape == (2, 256, 10)
            assert answers.y.shape == (256,)
            return answers.base_loss() + answers.outputs.var(dim=0).mean()

    net = run(recorder_net(), small, objective=Spread())
    assert np.isfinite(net.history[:, "train_loss"]).all()


def test_logits_under_a_loss_of_probabilities_are_refused(digits):
    """skorch's default criterion takes logarithms of the outputs: the loss would be NaN."""
    X, y = digits[0][:64], digits[2][:64]
    clf = SmoothedClassifier(make_net(criterion=torch.nn.NLLLoss), random_state=0)
    with pytest.raises(ValueError, match=r"must be probabilities.*CrossEntropyLoss"):
        clf.fit(X, y)

    class OwnLoss(NeuralNetClassifier):
        def get_loss(self, y_pred, y_true, *args, **kwargs):
            return torch.nn.functional.cross_entropy(y_pred, y_true)

    own = OwnLoss(**make_net(criterion=torch.nn.NLLLoss).get_params(deep=False))
    fitted = SmoothedClassifier(own, noise=Uniform(sigma=0.1), random_state=0).fit(X, y)
    assert np.isfinite(fitted.estimator_.history[-1, "train_loss"])


def test_probabilities_under_a_loss_of_logits_are_warned_of(digits):
    X, y = digits[0][:64], digits[2][:64]
    net = NeuralNetClassifier(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(dim=1)),
        criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0, train_split=None,
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"CrossEntropyLoss, takes logits.*NLLLoss"):
        SmoothedClassifier(net, random_state=0).fit(X, y)
    SmoothedClassifier(net.set_params(criterion=nn.NLLLoss), random_state=0).fit(X, y)


# Validation sets that the net brings along


NAMES = np.array([f"digit {each}" for each in range(10)])
#: What labels of digits are called, and the net's own list of them.
LABELS = {
    "from 1": (lambda y: y + 1, None),
    "text": (lambda y: NAMES[y], None),
    "other order": (lambda y: y, list(range(9, -1, -1))),
}
VALIDATION_SETS = {
    "skorch": lambda X, y: SkorchDataset(X, y),
    "subset": lambda X, y: Subset(SkorchDataset(X, y), np.arange(len(X))),
    "pairs": lambda X, y: Pairs(X, y),
}


class Pairs(Dataset):
    def __init__(self, X, y):
        self.pairs = list(zip(torch.from_numpy(X), y.tolist(), strict=True))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, row):
        return self.pairs[row]


def fit_with_split(small, labels, train_split, as_dataset=False, **kwargs):
    X, y = small
    rename, classes = LABELS[labels]
    net = make_net(max_epochs=4, classes=classes, train_split=train_split, **kwargs)
    clf = SmoothedClassifier(net, noise=Gaussian(sigma=0.1), random_state=0)
    X, y = X[:200], rename(y[:200])
    return clf.fit(Pairs(X, y)) if as_dataset else clf.fit(X, y)


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("kind", VALIDATION_SETS)
@pytest.mark.parametrize("as_dataset", [False, True])
def test_predefined_validation_labels_are_those_of_y(small, labels, kind, as_dataset):
    X, y = small
    rename, _ = LABELS[labels]
    valid = VALIDATION_SETS[kind](X[200:], rename(y[200:]))
    split = predefined_split(valid)
    clf = fit_with_split(small, labels, split, as_dataset)
    best = max(clf.estimator_.history[:, "valid_acc"])
    assert best > 0.5
    assert min(clf.estimator_.history[:, "valid_loss"]) < 2.0


@pytest.mark.parametrize("labels", LABELS)
def test_splits_of_the_training_set_keep_their_indices(small, labels):
    def subsets(dataset, y):
        return Subset(dataset, range(150)), Subset(dataset, range(150, 200))

    def slices(dataset, y):
        X = dataset.X
        return SkorchDataset(X[:150], y[:150]), SkorchDataset(X[150:], y[150:])

    for split in (subsets, slices, ValidSplit(4, stratified=True)):
        history = fit_with_split(small, labels, split).estimator_.history
        assert max(history[:, "valid_acc"]) > 0.4


def test_validation_on_the_inputs_of_training(small):
    X, y = small
    valid = SkorchDataset(X[:200], y[:200] + 1)
    clf = fit_with_split(small, "from 1", predefined_split(valid))
    assert clf.estimator_.history[-1, "valid_acc"] > 0.5


def test_partial_fit_early_stopping_and_scores_of_epochs(small):
    X, y = small
    valid = SkorchDataset(X[200:], NAMES[y[200:]])
    score = EpochScoring("accuracy", name="own", use_caching=False, lower_is_better=False)
    callbacks = [("own", score), ("stop", EarlyStopping(patience=3))]
    net = make_net(max_epochs=3, train_split=predefined_split(valid), callbacks=callbacks)
    clf = SmoothedClassifier(net, noise=Gaussian(sigma=0.1), random_state=0)
    clf.partial_fit(X[:100], NAMES[y[:100]], classes=NAMES)
    clf.partial_fit(X[100:200], NAMES[y[100:200]])
    assert clf.estimator_.history[-1, "own"] > 0.4
    assert clf.estimator_.history[-1, "valid_acc"] > 0.4


@pytest.mark.parametrize(
    ("valid", "message"),
    [
        (lambda X, y: SkorchDataset(X, y), "labels that .* does not know: \\[0\\]"),
        (lambda X, y: SkorchDataset(X), "y must be given: the items of X have no labels"),
        (lambda X, y: SkorchDataset(X[:, :, :4], y + 1), "must have shape"),
        (lambda X, y: Pairs((X * 16).round(), y + 1), "the scale that fit saw"),
        (lambda X, y: X, "must give torch Datasets .* got ndarray"),
    ],
)
def test_validation_sets_that_cannot_be_used(small, valid, message):
    X, y = small
    with pytest.raises((TypeError, ValueError), match=message):
        fit_with_split(small, "from 1", predefined_split(valid(X[200:], y[200:])))


# Modules that are trained already


def tuning_net(module, **kwargs):
    options = {"criterion": nn.CrossEntropyLoss, "max_epochs": 2, "train_split": None}
    return NeuralNetClassifier(
        module, verbose=0, callbacks__print_log=None, **options, **kwargs
    )


def test_each_fold_starts_from_the_weights_of_a_module_that_is_given(small):
    module = MLP((1, 8, 8), 10, hidden=(16,))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    clf = SmoothedClassifier(tuning_net(module, lr=1e-30), noise=Uniform(sigma=0.2))
    folds = cross_validate(clf, *small, cv=3, return_estimator=True)["estimator"]
    trained = clf.set_params(estimator__lr=0.1).fit(*small).estimator_.module_
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
        for fold in folds:
            assert torch.equal(fold.estimator_.module_.state_dict()[name], value)
        assert not torch.equal(trained.state_dict()[name], value) or name in ("mean", "std")


def test_frozen_layers_keep_their_weights(small):
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 10)
    )
    module[:3].requires_grad_(False)
    module[2].momentum = 0.0
    clf = SmoothedClassifier(tuning_net(module, lr=0.1), noise=Uniform(sigma=0.2))
    trained = clf.fit(*small).estimator_.module_.state_dict()
    same = {name for name, value in module.state_dict().items()
            if torch.equal(trained[name], value)}  # fmt: skip
    assert module.state_dict().keys() - same == {
        "2.num_batches_tracked", "3.weight", "3.bias"
    }  # fmt: skip


# TorchScript


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_torchscript_trains_from_a_function_and_votes_frozen(small):
    X, y = small
    scripted = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    options = {"criterion": nn.CrossEntropyLoss, "train_split": None, "verbose": 0}
    with pytest.raises(TypeError, match="Give the net the module that was scripted"):
        SmoothedClassifier(NeuralNetClassifier(scripted, **options)).fit(X, y)
    net = NeuralNetClassifier(scripted, classes=list(range(10)), **options).initialize()
    clf = SmoothedClassifier(FrozenEstimator(net), bound=ClopperPearson(n=50)).fit(X, y)
    assert len(clf.certify(X[:3])) == 3

    def make():
        return torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))

    net = NeuralNetClassifier(make, lr=0.5, max_epochs=20, **options)
    assert SmoothedClassifier(net, noise=Gaussian(sigma=0.1)).fit(X, y).score(X, y) > 0.5
