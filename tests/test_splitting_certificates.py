"""Classifiers under splitting noise: certificates against all attacks, and their use."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from conftest import make_net
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, train_test_split
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import TensorDataset

from rs4a import Certification, SmoothedClassifier
from rs4a.attacks import PGD
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.callbacks import certified_epoch_scoring
from rs4a.metrics import (
    RadiusDisplay,
    certified_accuracy_score,
    certified_accuracy_table,
    make_certified_scorer,
    noise_name,
)
from rs4a.networks import MLP, make_network
from rs4a.noises import Splitting, Uniform
from rs4a.objectives import MACER, Consistency, SmoothAdv, Stability


class Erratic(nn.Module):
    """Classifier without any regularity: a hash of what it sees."""

    def __init__(self, dim=2, n_classes=3, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(dim, n_classes, generator=generator, dtype=torch.float64)
        self.weights = nn.Parameter(1e4 * weights)

    def forward(self, X):
        return torch.sin(X.double() @ self.weights).float()


class Table(nn.Module):
    """Any classifier of one coordinate in steps of 1/32."""

    def __init__(self, answers):
        super().__init__()
        self.answers = nn.Parameter(torch.tensor(answers), requires_grad=False)

    def forward(self, X):
        classes = self.answers[(X[:, 0] * 32).round().long() % 33]
        return nn.functional.one_hot(classes, 2).float()


def frozen(module, noise, X, classes, **params):
    net = NeuralNetClassifier(module, classes=classes, criterion=nn.CrossEntropyLoss)
    clf = SmoothedClassifier(FrozenEstimator(net.initialize()), noise=noise, **params)
    return clf.fit(X[: len(classes)], classes)


def grid(dim, levels):
    points = itertools.product(range(levels + 1), repeat=dim)
    return np.array(list(points), dtype=np.float32) / np.float32(levels)


# Every attack on the grid


@pytest.mark.parametrize(
    ("dim", "levels", "n_views"),
    [(2, 8, 3), (2, 8, 8), (2, 8, 13), (3, 8, 5), (3, 8, 11), (4, 4, 3), (4, 4, 7)],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_input_within_the_radius_has_another_label(dim, levels, n_views, seed):
    X = grid(dim, levels)
    noise = Splitting(lambd=n_views / (2 * levels), levels=levels, seed=seed)
    clf = frozen(Erratic(dim, seed=seed), noise, X, [0, 1, 2])
    certification = clf.certify(X)
    steps = np.rint(certification.radius(norm=1) * levels).astype(int)
    assert steps.max() > 0  # there is something to refute
    places = np.rint(X * levels).astype(int)
    for place, radius, label in zip(places, steps, certification.labels, strict=True):
        near = np.abs(places - place).sum(axis=1) <= radius
        assert (certification.labels[near] == label).all()


@pytest.mark.parametrize("n_views", [8, 9, 12])
@pytest.mark.parametrize("top", [0, 1])
def test_radius_is_tight(n_views, top):
    """For any votes there is a classifier that errs one step beyond the radius."""
    levels, other = 8, 1 - top
    noise = Splitting(lambd=n_views / (2 * levels), levels=levels, seed=1)
    views = {x: np.rint(32 * views_of(noise, x)).astype(int) for x in range(levels + 1)}
    for n_top in range(n_views // 2 + 1, n_views + 1):
        steps = (n_top - (n_views - n_top) - (other < top)) // 2
        if steps + 1 > levels:
            continue
        changed = views[0] != views[steps + 1]
        assert changed.sum() == steps + 1
        own = views[0][~changed & (views[0] < 16)]  # of views that no cut shares
        if len(own) < n_views - n_top:
            continue
        answers = np.full(33, top)
        answers[own[: n_views - n_top]] = other
        answers[views[steps + 1][changed]] = other
        X = np.array([[0.0], [(steps + 1) / levels]], dtype=np.float32)
        clf = frozen(Table(answers.tolist()), noise, X, [0, 1])
        certification = clf.certify(X)
        assert certification.counts[0, top] == n_top
        assert certification.radius(norm=1)[0] == steps / levels
        assert certification.labels.tolist() == [top, other]


def views_of(noise, steps):
    out = torch.empty(noise.n_views(1), 1)
    noise.viewer(1, torch.float32)(torch.tensor([steps / noise.levels]), 0, out)
    return out[:, 0].numpy()


# On digits


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split((X / 16).astype(np.float32), y, random_state=0)


def make(noise=None, **params):
    noise = noise or Splitting(sigma=0.5, levels=16)
    net = make_net(module__input_shape=(64,), max_epochs=30)
    params = {"estimator": net, "noise": noise, "random_state": 0, **params}
    return SmoothedClassifier(**params)


@pytest.fixture(scope="module")
def fitted(digits):
    X, _, y, _ = digits
    return make().fit(X, y)


@pytest.mark.slow
def test_order_of_the_noises(digits):
    """Deterministic splitting certifies most, uniform noise least, as was published."""
    X, X_test, y, y_test = digits
    accuracy = {}
    for noise in (
        Uniform(sigma=1.0),
        Splitting(sigma=1.0, deterministic=False),
        Splitting(sigma=1.0, levels=16),
    ):
        clf = make(noise, bound=ClopperPearson(n=2000)).fit(X, y)
        certification = clf.certify(X_test)
        accuracy[noise_name(noise)] = certified_accuracy_score(
            y_test, certification, radius=[0.25, 0.5, 1.0], norm=1
        )
    uniform, independent, deterministic = accuracy.values()
    assert (uniform < independent).all()
    assert (independent < deterministic).all()
    assert deterministic[1] > 0.5


def test_certificate_is_deterministic(fitted, digits):
    _, X, _, _ = digits
    certification = fitted.certify(X[:50])
    assert certification.deterministic
    assert "deterministic" in repr(certification)
    assert (certification.alpha, certification.bound) == (0.0, None)
    assert not certification.abstained.any()
    assert (certification.n_votes == fitted.noise_.n_views(64)).all()
    np.testing.assert_array_equal(certification.labels, fitted.predict(X[:50]))
    np.testing.assert_array_equal(
        fitted.predict_proba(X[:50]), certification.counts / fitted.noise_.n_views(64)
    )
    np.testing.assert_array_equal(
        certification.prob_lower, certification.counts.max(axis=1) / certification.n_votes
    )


def test_votes_depend_on_neither_batches_nor_jobs_nor_order(fitted, digits):
    _, X, _, _ = digits
    wanted = fitted.certify(X[:40]).counts
    for params in ({"batch_size": 7}, {"n_jobs": 2}, {"random_state": 5}):
        clf = copy.deepcopy(fitted).set_params(**params)
        np.testing.assert_array_equal(clf.certify(X[:40]).counts, wanted)
    np.testing.assert_array_equal(fitted.certify(X[39::-1]).counts, wanted[::-1])


def test_template_belongs_to_the_fitted_classifier(digits):
    X, X_test, y, _ = digits
    clf = make()
    seeds = {
        clf.set_params(random_state=s).fit(X[:300], y[:300]).noise_.seed for s in (0, 1)
    }
    assert len(seeds) == 2
    assert clf.noise.seed is None
    again = make().fit(X[:300], y[:300])
    assert again.noise_.seed == make().fit(X[:300], y[:300]).noise_.seed
    certification = again.certify(X_test[:5])
    assert certification.noise.seed == again.noise_.seed
    copied = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(copied.certify(X_test[:5]).counts, certification.counts)


def test_net_remembers_its_template(fitted, digits):
    X, X_test, y, _ = digits
    net = pickle.loads(pickle.dumps(fitted.estimator_))
    clf = make(estimator=FrozenEstimator(net), random_state=9).fit(X, y)
    assert clf.noise_.seed == fitted.noise_.seed
    np.testing.assert_array_equal(clf.predict(X_test), fitted.predict(X_test))
    other = Splitting(sigma=0.5, levels=16, seed=fitted.noise_.seed + 1)
    with pytest.raises(ValueError, match="the template that the net was trained under"):
        clf.set_params(noise=other).fit(X, y)
    with pytest.raises(ValueError, match="the template that the net was trained under"):
        make(other, estimator=net).partial_fit(X, y)
    tuned = make(estimator=net).partial_fit(X[:100], y[:100])
    assert tuned.noise_.seed == fitted.noise_.seed


def test_net_with_other_weights_has_no_known_template(fitted, digits):
    X, _, y, _ = digits
    net = pickle.loads(pickle.dumps(fitted.estimator_))
    with torch.no_grad():
        next(net.module_.parameters()).add_(0.1)
    with pytest.raises(ValueError, match="the net does not say"):
        make(estimator=FrozenEstimator(net)).fit(X, y)


@pytest.mark.parametrize("levels", [16, 255])
def test_checkpoint_says_the_grid(tmp_path, levels):
    path = tmp_path / "net.safetensors"
    net = NeuralNetClassifier(
        make_network, module__name="MLP", module__dataset="digits",
        criterion=nn.CrossEntropyLoss,
    ).initialize()  # fmt: skip
    net.save_params(f_params=path, use_safetensors=True)
    for noise in (
        Splitting(sigma=0.5, levels=levels, seed=0),
        Uniform(sigma=0.5, exact=True, levels=levels),
    ):
        assert SmoothedClassifier.from_checkpoint(path, noise=noise).unit_range_


def test_template_of_an_unknown_net_is_asked_for(digits):
    X, _, y, _ = digits
    net = NeuralNetClassifier(MLP, module__input_shape=(64,), module__n_classes=10)
    frozen_net = FrozenEstimator(net.initialize())
    with pytest.raises(ValueError, match=r"seed of .* the net does not say"):
        make(estimator=frozen_net).fit(X, y)
    noise = Splitting(sigma=0.5, levels=16, seed=0)
    assert make(noise, estimator=frozen_net).fit(X, y).noise_.seed == 0


def test_record_is_saved_with_its_template(fitted, digits, tmp_path):
    _, X, _, _ = digits
    certification = fitted.certify(X[:20])
    certification.save(tmp_path / "record.npz")
    loaded = Certification.load(tmp_path / "record.npz")
    assert repr(loaded) == repr(certification)
    assert loaded.noise.seed == fitted.noise_.seed
    np.testing.assert_array_equal(loaded.radius(), certification.radius())
    both = Certification.concatenate([certification, loaded])
    np.testing.assert_array_equal(both.radius(), np.tile(certification.radius(), 2))
    again = certification.recompute(alpha=0.5, bound=ConfidenceSequence(), norm=2)
    assert again.alpha == 0.0
    np.testing.assert_array_equal(again.radius(norm=1), certification.radius())


def test_votes_on_some_views_prove_nothing():
    noise = Splitting(lambd=0.5, levels=16, seed=0)
    good = Certification.from_counts([[16, 0], [9, 7]], noise=noise, dim=4)
    np.testing.assert_array_equal(good.radius(), [8 / 16, 1 / 16])
    with pytest.raises(ValueError, match="must both be the votes on all 16 views"):
        Certification.from_counts([[16, 0], [9, 6]], noise=noise, dim=4)


def test_inputs_off_the_grid_are_refused(fitted, digits):
    X, X_test, y, _ = digits
    off = np.abs(X_test[:5] - np.float32(0.01))
    message = "multiples of 1/16 for Splitting"
    for use in (fitted.certify, fitted.predict, fitted.predict_proba):
        with pytest.raises(ValueError, match=message):
            use(off)
    with pytest.raises(ValueError, match=message):
        fitted.certify(TensorDataset(torch.from_numpy(off)))
    with pytest.raises(ValueError, match=message):
        make().fit(off, y[:5])
    with pytest.raises(ValueError, match=r"X must lie in \[0, 1\]"):
        make().fit(X * 16, y)


def test_a_dataset_gives_the_same_votes(fitted, digits):
    _, X, _, _ = digits
    data = TensorDataset(torch.from_numpy(X[:10]))
    np.testing.assert_array_equal(
        fitted.certify(data).counts, fitted.certify(X[:10]).counts
    )


def test_arguments_for_drawn_votes_are_refused(fitted, digits):
    _, X, _, _ = digits
    clf = copy.deepcopy(fitted).set_params(bound=ConfidenceSequence())
    with pytest.raises(ValueError, match="max_votes needs .* noise that is drawn"):
        clf.certify(X[:5], max_votes=100)
    with pytest.raises(ValueError, match="box needs noise"):
        clf.set_params(box=(0, 1)).certify(X[:5])


@pytest.mark.parametrize("objective", [Stability(), Consistency(), MACER()], ids=str)
@pytest.mark.parametrize("deterministic", [True, False])
def test_objectives_train_under_it(digits, objective, deterministic):
    X, X_test, y, y_test = digits
    noise = Splitting(sigma=0.25, levels=16, deterministic=deterministic)
    clf = make(noise, objective=objective).fit(X[:400], y[:400])
    assert clf.score(X_test, y_test) > 0.7


def test_attacks_by_gradients_say_that_there_are_none(fitted, digits):
    X, _, y, _ = digits
    with pytest.raises(ValueError, match="PGD moves inputs along gradients"):
        PGD(norm=1).perturb(fitted, X[:5], y[:5])
    with pytest.raises(ValueError, match="SmoothAdv moves inputs along gradients"):
        make(objective=SmoothAdv()).fit(X, y)


def test_epochs_are_scored_by_all_views(digits):
    X, _, y, _ = digits
    score = certified_epoch_scoring(
        radius=0.25, norm=1, n_images=20, n_votes=100, on_train=True
    )
    net = NeuralNetClassifier(
        MLP, module__input_shape=(64,), module__n_classes=10, max_epochs=2, verbose=0,
        criterion=nn.CrossEntropyLoss, callbacks=[("certified", score)], lr=0.01,
        optimizer=torch.optim.Adam, train_split=None,
    )  # fmt: skip
    clf = make(estimator=net).fit(X, y)
    rows = np.unique(np.linspace(0, len(X) - 1, 20).astype(int))
    wanted = certified_accuracy_score(y[rows], clf.certify(X[rows]), radius=0.25, norm=1)
    assert clf.estimator_.history[-1, "certified_accuracy"] == wanted > 0.0


@pytest.mark.slow
def test_in_a_search_beside_other_noises(digits):
    X, _, y, _ = digits
    noises = [Uniform(), Splitting(levels=16), Splitting(deterministic=False)]
    search = GridSearchCV(
        make(bound=ClopperPearson(n=300)),
        {"noise": noises, "noise__sigma": [0.4]},
        scoring={f"r={r}": make_certified_scorer(radius=r, norm=1) for r in (0.1, 0.3)},
        refit="r=0.3",
        cv=2,
        error_score="raise",
    ).fit(X[:600], y[:600])
    assert search.best_params_["noise"].deterministic
    assert (search.cv_results_["mean_test_r=0.1"] > 0.2).all()


def test_in_figures_and_tables_beside_other_noises(fitted, digits):
    _, X, _, y = digits
    noises = [Uniform(sigma=1), Splitting(sigma=1), Splitting(sigma=1, deterministic=False)]
    display = RadiusDisplay.from_noises(noises, norm=1, dim=64)
    radii = [line.get_ydata() for line in display.lines_]
    np.testing.assert_allclose(radii[0], radii[2], rtol=1e-12)
    assert np.abs(radii[1] - radii[0]).max() < 2 / 255
    table = certified_accuracy_table([(fitted.certify(X), y)], radii=[0.25])
    assert table.index.tolist() == ["Splitting(levels=16)"]
