"""Weights of inputs, and metadata that is routed to fit and score."""

import numpy as np
import pytest
import sklearn
import torch
from conftest import make_net
from every import quick_objectives
from sklearn.base import clone
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import EpochScoring
from skorch.dataset import ValidSplit
from torch import nn
from torch.utils.data import TensorDataset

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.noises import Gaussian
from rs4a.objectives import (
    Consistency,
    NoiseAugmentation,
    Objective,
    SmoothAdv,
    Stability,
)
from rs4a.objectives.base import NoisyOutputs
from rs4a.training.noisy_net import _weighted_loss

OBJECTIVES = [
    each.set_params(objective=Consistency()) if isinstance(each, SmoothAdv) else each
    for each in quick_objectives(n_samples=2, radius=0.1, steps=1)
]


@pytest.fixture(scope="module")
def data(digits):
    X_train, X_test, y_train, y_test = digits
    X, X_test = (each.reshape(len(each), -1) for each in (X_train, X_test))
    return X[:200], X_test[:100], y_train[:200], y_test[:100]


def smoothed(base=None, **kwargs):
    options = {"noise": Gaussian(sigma=0.1), "bound": ClopperPearson(n=100)}
    return SmoothedClassifier(base, **{**options, "random_state": 0, **kwargs})


def small_net(**kwargs):
    return make_net(module__input_shape=(64,), max_epochs=3, **kwargs)


def weights_of(clf):
    return torch.cat([p.detach().flatten() for p in clf.estimator_.module_.parameters()])


def answers(weights, n=6, **kwargs):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, n, 3, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0, 1, 2])[:n]
    net = NeuralNetClassifier(nn.Linear, module__in_features=1, module__out_features=1)
    net.set_params(criterion=nn.CrossEntropyLoss, **kwargs).initialize()

    def own_loss(n_copies):
        rows, targets = outputs[:n_copies].flatten(0, 1), y.repeat(n_copies)
        return _weighted_loss(net, lambda: net.criterion_(rows, targets), targets, weights)

    noise = Gaussian(sigma=1.0)
    return NoisyOutputs(
        outputs, y, noise, 4, own_loss, lambda x: x.log_softmax(dim=-1), weights
    )


def parts(whole, rows):
    outputs, y = whole.outputs[:, rows], whole.y[rows]

    def own_loss(n_copies):
        rows = outputs[:n_copies].flatten(0, 1)
        return nn.functional.cross_entropy(rows, y.repeat(n_copies))

    return NoisyOutputs(outputs, y, whole.noise, 4, own_loss, whole.to_log_proba)


# The loss


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_whole_weights_are_repeats_and_zero_leaves_out(objective):
    weights = torch.tensor([3.0, 0.0, 2.0, 1.0, 0.0, 0.0])
    rows = [0, 0, 0, 2, 2, 3]
    loss = objective.loss(answers(weights))
    expected = objective.loss(parts(answers(None), rows))
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_weights_of_one_are_none(objective):
    loss = objective.loss(answers(torch.ones(6)))
    torch.testing.assert_close(loss, objective.loss(answers(None)))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("ignored", [-100, 1])
def test_weights_of_classes_and_ignored_ones_count_besides(reduction, ignored):
    options = {
        "criterion__weight": torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64),
        "criterion__reduction": reduction,
        "criterion__ignore_index": ignored,
        "criterion__label_smoothing": 0.1,
    }
    loss = NoiseAugmentation().loss(answers(torch.ones(6), **options))
    expected = NoiseAugmentation().loss(answers(None, **options))
    torch.testing.assert_close(loss, expected)


def test_criteria_and_losses_without_a_number_per_input_are_refused(data):
    X, _, y, _ = data
    weights = np.arange(1, 201)
    with pytest.raises(ValueError, match="sample_weight needs a criterion with reduction"):
        smoothed(small_net(criterion=Mean)).fit(X, y, weights)
    net = OwnMean(**small_net().get_params(deep=False))
    with pytest.raises(ValueError, match="needs a get_loss that gives one loss per input"):
        smoothed(net).fit(X, y, weights)


class Mean(nn.Module):
    def forward(self, outputs, y):
        return nn.functional.cross_entropy(outputs, y)


class OwnMean(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return super().get_loss(y_pred, y_true, *args, **kwargs).mean()


class Unweighted(Objective):
    n_samples = 1

    def loss(self, answers):
        return answers.log_proba.square().mean()


class StabilityOfOnesOwn(Stability):
    def loss(self, answers):
        return answers.log_proba.square().mean()


@pytest.mark.parametrize("objective", [Unweighted(), StabilityOfOnesOwn()], ids=str)
def test_objectives_that_heed_no_weights_are_refused(data, objective):
    X, _, y, _ = data
    for each in (objective, SmoothAdv(objective=objective)):
        with pytest.raises(ValueError, match="not known to use weights"):
            smoothed(small_net(), objective=each).fit(X, y, np.arange(1, 201))


# Training


def test_equal_weights_train_the_same_net(data):
    X, _, y, _ = data
    net = small_net(train_split=ValidSplit(4, stratified=True))
    expected = weights_of(smoothed(net).fit(X, y))
    for weights in (np.ones(200), [2] * 200):
        assert torch.equal(weights_of(smoothed(net).fit(X, y, weights)), expected)


@pytest.mark.parametrize("base", [None, LogisticRegression(), "net"])
def test_weights_decide_between_contradicting_labels(data, base):
    X, X_test, y, y_test = data
    base = small_net() if base == "net" else base
    both, labels = np.concatenate([X, X]), np.concatenate([y, (y + 1) % 10])
    for first, second, expected in ((1, 0.001, y_test), (0, 3, (y_test + 1) % 10)):
        weights = np.repeat([first, second], 200)
        clf = smoothed(base).fit(both, labels, sample_weight=weights)
        assert clf.score(X_test, expected) > 0.6


def test_validation_callbacks_partial_fit_and_datasets(data):
    X, _, y, _ = data
    weights = np.linspace(0.0, 2.0, 200)
    callbacks = [
        ("clean", EpochScoring("accuracy", name="clean", use_caching=False)),
        ("loss", EpochScoring("neg_log_loss", name="loss", on_train=True)),
    ]
    split = ValidSplit(4, stratified=True)
    net = small_net(train_split=split, callbacks=callbacks[1:])
    array = smoothed(net).fit(X, y, weights)
    items = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    lazy = smoothed(net).fit(items, sample_weight=torch.from_numpy(weights))
    assert torch.equal(weights_of(array), weights_of(lazy))
    assert array.estimator_.history[-1, "valid_acc"] > 0.2
    assert not torch.equal(weights_of(array), weights_of(smoothed(net).fit(X, y)))
    more = clone(array).partial_fit(X, y, sample_weight=weights)
    assert torch.equal(weights_of(array), weights_of(more))


def test_memory_tells_weights_apart(data, tmp_path):
    X, _, y, _ = data
    weights = np.linspace(0.5, 1.5, 200)
    first = smoothed(small_net(), memory=tmp_path).fit(X, y, weights)
    again = smoothed(small_net(), memory=tmp_path).fit(X, y, weights)
    assert again.estimator_.history[-1, "dur"] == first.estimator_.history[-1, "dur"]
    other = smoothed(small_net(), memory=tmp_path).fit(X, y, weights[::-1])
    assert not torch.equal(weights_of(first), weights_of(other))
    plain = smoothed(small_net(), memory=tmp_path).fit(X, y)
    assert not torch.equal(weights_of(first), weights_of(plain))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(3), r"one number for each of the 200 inputs.* shape \(3,\)"),
        (np.ones((200, 1)), r"shape \(200, 1\)"),
        (["heavy"] * 200, "dtype <U5"),
        ([1.0] * 199 + [np.nan], "sample_weight must be finite and at least 0, got nan"),
        ([1.0] * 199 + [np.inf], "sample_weight must be finite and at least 0, got inf"),
        ([-1.0] + [1.0] * 199, "sample_weight must be finite and at least 0, got -1"),
        (np.zeros(200), "sample_weight must not be zero for all inputs"),
    ],
)
@pytest.mark.parametrize("base", [None, LogisticRegression()])
def test_bad_weights_are_refused(data, base, weights, message):
    X, _, y, _ = data
    for method in ("fit", "partial_fit") if base is None else ("fit",):
        with pytest.raises(ValueError, match=message):
            getattr(smoothed(base), method)(X, y, sample_weight=weights)


# scikit-learn's classifiers


class Spy(LogisticRegression):
    def fit(self, X, y, sample_weight=None, groups=None, level=None):
        self.seen_ = len(X), sample_weight, groups, level
        return super().fit(X, y, sample_weight)


def test_what_has_an_entry_for_each_input_is_repeated(data):
    X, _, y, _ = data
    weights, groups = np.arange(1.0, 201.0), list(range(200))
    objective = NoiseAugmentation(n_samples=3)
    clf = smoothed(Spy(), objective=objective)
    n, seen, seen_groups, level = clf.fit(
        X, y, sample_weight=weights, groups=groups, level="high"
    ).estimator_.seen_
    assert n == 600
    np.testing.assert_array_equal(seen, np.tile(weights, 3))
    np.testing.assert_array_equal(seen_groups, np.tile(groups, 3))
    assert level == "high"
    pipeline = make_pipeline(StandardScaler(), make_pipeline(StandardScaler(), Spy()))
    clf = smoothed(pipeline, objective=objective).fit(X, y, weights)
    np.testing.assert_array_equal(clf.estimator_[-1][-1].seen_[1], np.tile(weights, 3))
    pipeline = make_pipeline(StandardScaler(), Spy())
    clf = smoothed(pipeline, objective=objective).fit(X, y, spy__groups=groups)
    np.testing.assert_array_equal(clf.estimator_[-1].seen_[2], np.tile(groups, 3))


def test_partial_fit_passes_weights_on(data):
    X, _, y, _ = data
    weights = np.where(y == 0, 0.0, 1.0)
    clf = smoothed(SGDClassifier(random_state=0)).partial_fit(X, y, sample_weight=weights)
    clf.partial_fit(X, y, sample_weight=weights)
    assert 0 not in clf.predict(X[y == 0])


def test_fit_parameters_that_nothing_takes_are_refused(data):
    X, _, y, _ = data
    with pytest.raises(TypeError, match="takes no groups for a skorch net"):
        smoothed(small_net()).fit(X, y, groups=y)
    with pytest.raises(TypeError, match="takes no groups for a skorch net"):
        smoothed(small_net()).partial_fit(X, y, groups=y)
    for base in (KNeighborsClassifier(), make_pipeline(KNeighborsClassifier())):
        with pytest.raises(TypeError, match="must be None for KNeighborsClassifier"):
            smoothed(base).fit(X, y, np.ones(200))
    search = GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2)
    smoothed(search).fit(X, y, np.ones(200))  # its fit takes them among other parameters


def test_what_is_frozen_ignores_weights(data):
    X, _, y, _ = data
    base = FrozenEstimator(LogisticRegression().fit(X, y))
    clf = smoothed(base).fit(X, y, np.arange(200)).partial_fit(X, y, None, np.arange(200))
    assert clf.estimator_ is base.estimator
    with pytest.raises(
        ValueError, match="sample_weight must be finite and at least 0, got -1"
    ):
        smoothed(base).fit(X, y, -np.ones(200))


# Routing


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.parametrize("base", ["net", "plain", "pipeline"])
def test_searches_route_weights_to_fit_and_score(data, routing, base):
    X, _, y, _ = data
    last = LogisticRegression().set_fit_request(sample_weight=True)
    scaler = StandardScaler().set_fit_request(sample_weight=False)
    bases = {
        "net": small_net().set_params(max_epochs=15),
        "plain": last,
        "pipeline": make_pipeline(scaler, last),
    }
    clf = smoothed(bases[base]).set_fit_request(sample_weight=True)
    clf.set_score_request(sample_weight=True)
    order = np.random.default_rng(0).permutation(400)
    both, labels = np.tile(X, (2, 1))[order], np.concatenate([y, (y + 1) % 10])[order]
    weights = np.repeat([1.0, 0.0], 200)[order]
    search = GridSearchCV(clf, {"noise__sigma": [0.05]}, cv=2, error_score="raise")
    search.fit(both, labels, sample_weight=weights)
    assert search.best_score_ > 0.6
    assert search.best_estimator_.score(X, y, sample_weight=np.ones(200)) > 0.6


def test_routing_names_the_base(data, routing):
    X, _, y, _ = data
    clf = smoothed(LogisticRegression())
    assert "estimator" in str(clf.get_metadata_routing())
    assert clf.get_metadata_routing().consumes("fit", ["sample_weight"]) == set()
    with pytest.raises(UnsetMetadataPassedError, match="LogisticRegression"):
        clf.fit(X, y, sample_weight=np.ones(200))
    clf.set_params(estimator=LogisticRegression().set_fit_request(sample_weight=True))
    assert clf.get_metadata_routing().consumes("fit", ["sample_weight"])
    clf.fit(X, y, sample_weight=np.ones(200))
    sgd = SGDClassifier().set_partial_fit_request(sample_weight=True)
    smoothed(sgd).partial_fit(X, y, sample_weight=np.ones(200))
    assert smoothed().fit(X, y, sample_weight=np.ones(200)).score(X, y) > 0.6
