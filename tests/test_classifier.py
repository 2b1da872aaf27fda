"""Inputs, labels, nets and parameters of SmoothedClassifier; errors in words."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Threshold, frozen, make_net
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

import rs4a.classifier
from rs4a import CertificationWarning, Inference, SmoothedClassifier, UnsupportedNormError
from rs4a.attacks import PGD
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.metrics import make_certified_scorer
from rs4a.nets.provenance import merge_runs
from rs4a.noises import Clean, Gaussian, Laplace, Splitting, Uniform
from rs4a.objectives import NoiseAugmentation
from rs4a.training.bases import base_of

NORMS = [1, 2, math.inf]


def quick(estimator=None, **kwargs):
    options = {
        "noise": Uniform(sigma=0.3),
        "bound": ClopperPearson(n=200),
        "random_state": 0,
    }
    return SmoothedClassifier(estimator, **{**options, **kwargs})


@pytest.fixture(scope="module")
def small(digits):
    X, X_test, y, y_test = digits
    return X[:200], X_test[:20], y[:200], y_test[:20]


@pytest.fixture(scope="module")
def trained(small):
    """A trained net, for use in a FrozenEstimator."""
    return make_net().fit(small[0], small[2].astype(np.int64))


# What a user gets


@pytest.mark.parametrize("noise", [Gaussian, Laplace, Uniform])
def test_certification_of_every_noise(fitted, digits, noise):
    _, X, _, y = digits
    clf = fitted[noise.__name__]
    certification = clf.certify(X[:50])
    assert certification.classes.tolist() == clf.classes_.tolist()
    np.testing.assert_array_equal(certification.n_votes, 1000)
    np.testing.assert_array_equal(certification.selection_counts.sum(axis=1), 64)
    assert np.mean(certification.labels == y[:50]) > 0.8
    for norm in NORMS:
        radius = certification.radius(norm)
        assert radius.dtype == np.float64
        assert ((radius > 0) == ~certification.abstained).all()
        assert np.isfinite(radius).all()


def test_parameters_set_after_fit_count_at_certify(fitted, digits):
    X = digits[1][:10]
    clf = clone(fitted["Uniform"]).set_params(
        estimator=FrozenEstimator(fitted["Uniform"].estimator_)
    )
    clf.fit(X, digits[3][:10])
    certification = clf.set_params(alpha=0.05, norm=2, n_selection=10, bound__n=77).certify(
        X
    )
    assert certification.alpha == 0.05
    assert certification.norm == 2
    assert (certification.n_votes == 77).all()
    assert (certification.selection_counts.sum(axis=1) == 10).all()


def test_certificates_are_about_the_noise_of_the_fit(small):
    X, X_test, y, _ = small
    clf = quick().fit(X, y)
    clf.noise.set_params(sigma=99.0)
    with pytest.warns(CertificationWarning, match=r"sigma=0.3.*sigma=99.0.*call fit"):
        assert clf.certify(X_test).noise.sigma == 0.3


def test_jobs_do_not_change_votes(fitted, digits):
    X = digits[1][:9]
    clf = fitted["Uniform"]
    expected = clf.certify(X)
    try:
        parallel = clf.set_params(n_jobs=2).certify(X)
        np.testing.assert_array_equal(clf.predict(X), expected.labels)
    finally:
        clf.set_params(n_jobs=None)
    np.testing.assert_array_equal(parallel.counts, expected.counts)
    np.testing.assert_array_equal(parallel.selection_counts, expected.selection_counts)


@pytest.mark.parametrize("batch_size", [7, 64, 1024])
def test_batch_size_does_not_change_votes(fitted, digits, batch_size):
    X = digits[1][:6]
    clf = fitted["Laplace"]
    expected = clf.certify(X).counts
    try:
        np.testing.assert_array_equal(
            clf.set_params(batch_size=batch_size).certify(X).counts, expected
        )
    finally:
        clf.set_params(batch_size=1024)


def test_random_state_none_is_fixed_by_fit(small):
    X, X_test, y, _ = small
    clf = quick(random_state=None).fit(X, y)
    np.testing.assert_array_equal(clf.certify(X_test).counts, clf.certify(X_test).counts)


def test_random_state_leaves_global_generators_alone(small):
    X, X_test, y, _ = small
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    quick().fit(X, y).certify(X_test)
    assert torch.equal(torch.rand(3), expected)


def test_progress_bar(small, capsys):
    X, X_test, y, _ = small
    clf = quick(verbose=1).fit(X, y)
    clf.certify(X_test)
    shown = capsys.readouterr().err
    assert f"{len(X_test)}/{len(X_test)}" in shown
    assert " votes" in shown
    clf.set_params(verbose=0).certify(X_test)
    assert capsys.readouterr().err == ""


def test_base_score_is_the_net_alone(small, trained):
    X, X_test, _, y_test = small
    clf = quick(FrozenEstimator(trained), batch_size=7).fit(X_test, y_test)
    assert clf.base_score(X_test, y_test) == trained.score(X_test, y_test)


def test_too_few_votes_warn(small):
    X, X_test, y, _ = small
    clf = quick(bound=ClopperPearson(n=9)).fit(X, y)
    with pytest.warns(
        CertificationWarning, match=r"ClopperPearson\(n=9\) with alpha=0.001"
    ):
        certification = clf.certify(X_test)
    assert certification.abstained.all()
    np.testing.assert_array_equal(certification.radius(), 0.0)
    clf.set_params(bound=ClopperPearson(n=10)).certify(X_test)  # no warning, or it raises


# Inputs


def test_kinds_of_inputs(small):
    X, X_test, y, _ = small
    clf = quick().fit(X, y)
    expected = clf.certify(X_test).counts
    for other in (
        X_test.astype(np.float64),
        torch.from_numpy(X_test),
        torch.from_numpy(X_test).requires_grad_(),
        X_test.tolist(),
        np.asfortranarray(X_test),
    ):
        np.testing.assert_array_equal(clf.certify(other).counts, expected)
    coarse = torch.from_numpy(X_test).to(torch.bfloat16)
    np.testing.assert_array_equal(clf.predict(coarse), clf.predict(coarse.float()))
    same = quick().fit(torch.from_numpy(X).requires_grad_(), torch.from_numpy(y))
    np.testing.assert_array_equal(same.certify(X_test).counts, expected)


def test_data_frames():
    X, y = load_iris(return_X_y=True, as_frame=True)
    clf = quick().fit(X, y)
    assert clf.feature_names_in_.tolist() == list(X)
    assert clf.score(X, y) > 0.8
    with pytest.raises(ValueError, match="feature names should match"):
        clf.predict(X[X.columns[::-1]])
    some = X.iloc[[140, 3, 70]]
    certification = clf.certify(some)
    assert certification.to_frame().index.tolist() == [140, 3, 70]
    assert certification[1:].to_frame().index.tolist() == [3, 70]


def test_wide_scales_are_learnt():
    """The default net standardises; noise and radii keep the units of X."""
    X, y = load_iris(return_X_y=True)
    clf = quick(noise=Uniform(sigma=100.0)).fit(1000 * X, y)
    certification = clf.certify(1000 * X)
    assert clf.score(1000 * X, y) > 0.9
    assert certification.radius(1).max() > 50


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_a_number(small, bad):
    X, X_test, y, _ = small
    broken = X_test.copy()
    broken[3, 0, 2, 2] = bad
    clf = quick().fit(X, y)
    for method in (clf.predict, clf.certify):
        with pytest.raises(ValueError, match="contains NaN|contains infinity"):
            method(broken)
    with pytest.raises(ValueError, match="contains NaN|contains infinity"):
        quick().fit(broken, small[3])


def test_integer_images_are_refused(small):
    X, X_test, y, _ = small
    clf = quick().fit(X, y)
    bytes_ = (255 * X_test).astype(np.uint8)
    with pytest.raises(
        ValueError, match=r"floating-point images, got dtype uint8.*X / 255"
    ):
        clf.certify(bytes_)
    with pytest.raises(ValueError, match="floating-point images, got dtype uint8"):
        quick().fit(torch.from_numpy(bytes_), small[3])


def test_whole_numbers_in_tables_are_no_bytes():
    X = np.random.default_rng(0).random((60, 2))
    clf = quick().fit(X, X[:, 0] > 0.5)
    assert clf.predict([[2.0, 0.0]]).tolist() == [True]


def test_read_only_inputs(small):
    X, X_test, y, _ = small
    X = X.copy()
    X.setflags(write=False)
    quick().fit(X, y).certify(X[:3])


def test_other_scale_than_in_fit_is_refused(small):
    X, X_test, y, _ = small
    flat, flat_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    clf = quick().fit(flat, y)
    grey = np.rint(16 * flat_test)  # as load_digits has them
    byte_valued = np.rint(255 * flat_test)
    for bad, divisor in (
        (byte_valued.astype(np.uint8), 255),
        (byte_valued, 255),
        (grey, 16),
    ):
        with pytest.raises(ValueError, match=rf"that fit saw, \[0, 1\].*X / {divisor}"):
            clf.certify(bad)
    mixed = flat_test.copy()
    mixed[1] = byte_valued[1]
    with pytest.raises(ValueError, match=r"that fit saw, \[0, 1\].*X / 255"):
        clf.certify(mixed)
    clf.certify(np.rint(flat_test))  # black and white is a picture in [0, 1]
    clf.certify(flat_test + 0.7)  # out of range, but no bytes: an input as any other


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_numbers_that_float32_cannot_hold_are_warned_of(norm, kind):
    seconds = np.array([[1_700_000_000, 3], [1_700_000_063, 5]], dtype=kind)
    base = DecisionTreeClassifier(max_depth=1).fit(seconds, [0, 1])
    clf = SmoothedClassifier(
        FrozenEstimator(base),
        noise=Uniform(sigma=1.0),
        bound=ClopperPearson(n=100),
        norm=norm,
        random_state=0,
    ).fit(seconds, [0, 1])
    for X in (seconds, pd.DataFrame(seconds), torch.from_numpy(seconds)):
        with pytest.warns(CertificationWarning, match="moves an input by up to 63 in l"):
            clf.certify(X)
    clf.certify(seconds.astype(np.float32))


@pytest.mark.parametrize("noise", [Uniform(sigma=0.01), Gaussian(sigma=0.01), Clean()])
def test_images_in_double_precision_are_not_warned_of(noise):
    images = np.random.default_rng(0).random((2, 3, 224, 224))
    net = frozen(Threshold, [0, 1])
    clf = SmoothedClassifier(net, noise=noise, bound=ClopperPearson(n=10), alpha=0.01)
    clf.fit(images, [0, 1]).certify(images)


def test_usual_tables_are_not_warned_of():
    for load in (load_iris, load_wine, load_breast_cancer):
        X, y = load(return_X_y=True)
        clf = SmoothedClassifier(
            FrozenEstimator(DecisionTreeClassifier().fit(X, y)),
            noise=Uniform(sigma=1.0),
            bound=ClopperPearson(n=100),
        )
        clf.fit(X, y).certify(X)


# Labels

LABELS = {
    "strings": np.array(["nought", "one", "two"]),
    "objects": np.array(["nought", "one", "two"], dtype=object),
    "gaps": np.array([3, 17, 40]),
    "negative": np.array([-1, 0, 1]),
    "floats": np.array([0.0, 1.0, 2.0]),
}


@pytest.mark.parametrize("name", LABELS)
def test_kinds_of_labels(small, name):
    X, X_test, y, y_test = small
    labels = LABELS[name]
    few, few_test = y < 3, y_test < 3
    clf = quick().fit(X[few], labels[y[few]])
    assert clf.classes_.tolist() == sorted(labels.tolist())
    certification = clf.certify(X_test[few_test])
    assert set(certification.labels.tolist()) <= set(labels.tolist())
    assert clf.score(X_test[few_test], labels[y_test[few_test]]) > 0.8
    np.testing.assert_array_equal(certification.labels, clf.predict(X_test[few_test]))


def test_booleans_and_pandas_labels(small):
    X, X_test, y, y_test = small
    clf = quick().fit(X, pd.Series(y > 4))
    assert clf.classes_.tolist() == [False, True]
    assert clf.score(X_test, pd.Series(y_test > 4)) > 0.6


def test_class_absent_from_a_fold(small):
    """A net with ten outputs meets nine classes: labels stay right."""
    X, X_test, y, y_test = small
    keep = y != 5
    clf = quick(make_net()).fit(X[keep], y[keep])
    assert clf.classes_.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    certification = clf.certify(X_test)
    assert certification.counts.shape == (20, 9)
    assert np.mean(certification.labels == y_test) > 0.6


def test_net_that_lists_its_classes(small):
    X, X_test, y, y_test = small
    names = np.array(["zero", "one", "two", "three", "four"])  # not sorted
    few, few_test = y < 4, y_test < 4  # "four" is absent
    net = make_net(classes=names.tolist(), module__n_classes=5)
    clf = quick(net).fit(X[few], names[y[few]])
    assert clf.classes_.tolist() == names.tolist()
    assert clf.score(X_test[few_test], names[y_test[few_test]]) > 0.8
    with pytest.raises(ValueError, match=r"does not know: \['nine'\]"):
        quick(net).fit(X[:2], ["zero", "nine"])


def test_continuous_labels_are_refused(small):
    with pytest.raises(ValueError, match="Unknown label type"):
        quick().fit(small[0], small[2] + 0.5)


# Nets


def test_fitted_nets_are_left_alone(small, trained):
    X, X_test, y, _ = small
    weights = {k: v.clone() for k, v in trained.module_.state_dict().items()}
    clf = quick(trained).fit(X, y)
    assert clf.estimator_ is not trained
    for name, value in trained.module_.state_dict().items():
        assert torch.equal(value, weights[name])
    assert type(trained) is NeuralNetClassifier


def test_frozen_nets_are_used_as_they_are(small, trained):
    X, X_test, y, y_test = small
    clf = quick(FrozenEstimator(trained)).fit(X_test, y_test)
    assert clf.estimator_ is trained
    assert len(trained.history) == 10
    assert clf.classes_.tolist() == list(range(10))
    assert clone(clf).fit(X_test[:3], y_test[:3]).estimator_ is trained
    assert clf.partial_fit(X_test, y_test).estimator_ is trained


def test_frozen_net_knows_its_labels(small, trained):
    X_test, y_test = small[1], small[3]
    with pytest.raises(
        ValueError, match=r"labels that the frozen net does not know: \[12, "
    ):
        quick(FrozenEstimator(trained)).fit(X_test, y_test + 12)
    unfitted = FrozenEstimator(make_net())
    with pytest.raises(
        NotFittedError, match="The net in the FrozenEstimator is not fitted"
    ):
        quick(unfitted).fit(X_test, y_test)


def test_outputs_of_a_frozen_net_are_indices(small):
    """skorch's targets are positions; a net trained on {3, 7} has outputs 0 to 9."""
    X, X_test, y, y_test = small
    keep = np.isin(y, [3, 7])
    net = make_net().fit(X[keep], y[keep].astype(np.int64))
    keep_test = np.isin(y_test, [3, 7])
    clf = quick(FrozenEstimator(net)).fit(X[keep], y[keep])
    np.testing.assert_array_equal(clf.predict(X_test[keep_test]), y_test[keep_test])


def test_partial_fit_goes_on_from_the_weights(small):
    X, X_test, y, y_test = small
    net = make_net(max_epochs=3)
    clf = quick(net).partial_fit(X[:100], y[:100], classes=np.arange(10))
    first = clf.score(X_test, y_test)
    for _ in range(5):
        clf.partial_fit(X[100:], y[100:])
    assert len(clf.estimator_.history) == 18
    assert clf.score(X_test, y_test) > first
    with pytest.raises(ValueError, match="the first call of partial_fit does not know"):
        clf.partial_fit(X[:2], [3, 11])


def test_partial_fit_fine_tunes_a_copy_of_a_fitted_net(small, trained):
    X, _, y, _ = small
    epochs = len(trained.history)
    weights = trained.module_.layers[0].weight.clone()
    clf = quick(trained).partial_fit(X, y)
    assert len(clf.estimator_.history) == 2 * epochs
    assert len(trained.history) == epochs
    assert torch.equal(trained.module_.layers[0].weight, weights)


def test_partial_fit_after_a_failed_first_call(small):
    X, X_test, y, _ = small
    clf = quick(make_net())
    with pytest.raises(ValueError, match="the first call of partial_fit does not know"):
        clf.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(NotFittedError):
        clf.predict(X_test)
    assert clf.partial_fit(X, y).classes_.tolist() == list(range(10))


def test_failed_fit_is_no_fit(small):
    X, X_test, y, _ = small
    clf = quick().fit(X, y)
    with pytest.raises(ValueError, match="at least 10 of them, got 4"):
        clf.set_params(estimator=make_net(module__n_classes=4)).fit(X, y)
    with pytest.raises(NotFittedError):
        clf.predict(X_test)


def test_classes_of_a_fitted_net_are_its_own(small, trained):
    with pytest.raises(ValueError, match="labels that the fitted net does not know"):
        quick(trained).partial_fit(small[0], small[2], classes=list("abcdefghij"))


def test_partial_fit_draws_fresh_noise_each_call(small):
    X, _, y, _ = small
    seen = []

    class Recorder(Threshold):
        def forward(self, X):
            if self.training:
                seen.append(X.clone())
            return super().forward(X) + self.unused

    net = NeuralNetClassifier(
        Recorder, max_epochs=1, batch_size=50, train_split=None, verbose=0,
        criterion=nn.CrossEntropyLoss, callbacks__print_log=None,
    )  # fmt: skip
    clf = quick(net)
    for _ in range(2):
        clf.partial_fit(X[:50], (y > 4)[:50])
    assert not torch.equal(seen[0], seen[1])


def test_default_objective_can_be_given(small):
    X, X_test, y, _ = small
    given = quick(objective=NoiseAugmentation()).fit(X, y).certify(X_test).counts
    np.testing.assert_array_equal(quick().fit(X, y).certify(X_test).counts, given)


NO_NETS = {
    "module": (nn.Linear(64, 10), "skorch net, got the torch module Linear. Wrap it"),
    "binary": (
        NeuralNetBinaryClassifier(nn.Linear),
        "one output per class, got a NeuralNetBinary",
    ),
    "other": ("MLP", r"must be a skorch.NeuralNetClassifier.*got str"),
}


@pytest.mark.parametrize("name", NO_NETS)
def test_what_is_no_net(small, name):
    estimator, message = NO_NETS[name]
    with pytest.raises(TypeError, match=message):
        quick(estimator).fit(small[0], small[2])


def test_net_with_too_few_outputs(small):
    with pytest.raises(
        ValueError, match="one output per class, at least 10 of them, got 4"
    ):
        quick(make_net(module__n_classes=4)).fit(small[0], small[2])
    with pytest.raises(ValueError, match="got 1. A net with one logit needs a second"):
        quick(make_net(module__n_classes=1)).fit(small[0], small[2] > 4)


def test_net_that_returns_nan(small):
    X, _, y, _ = small
    clf = quick().fit(X, y)
    with torch.no_grad():
        clf.estimator_.module_.layers[-1].bias[:] = torch.nan
    with pytest.raises(ValueError, match="returned NaN"):
        clf.certify(X[:3])
    with pytest.raises(ValueError, match="returned NaN"):
        clf.predict(X[:3])


class Distances(nn.Module):
    """Outputs of which the smallest is the class."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, X):
        return self.layer(X.flatten(1))


class NearestIsRight(nn.Module):
    def forward(self, distances, y):
        return nn.functional.cross_entropy(-distances, y)


def nearest(distances):
    return torch.softmax(-distances, dim=1)


def test_the_nonlinearity_of_a_net_decides_the_class(small):
    """As in the net's own predict: in votes, and without noise."""
    X, X_test, y, y_test = small
    net = NeuralNetClassifier(
        Distances,
        criterion=NearestIsRight,
        predict_nonlinearity=nearest,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=30,
        train_split=None,
        verbose=0,
    )
    clf = quick(net, noise=Uniform(sigma=0.05)).fit(X, y)
    right = clf.estimator_.predict(X_test) == y_test
    assert right.mean() > 0.8
    assert clf.base_score(X_test, y_test) == right.mean()
    assert clf.score(X_test, y_test) > 0.8
    record = clf.certify(X_test)
    assert (record.labels == y_test).mean() > 0.8
    attacked = PGD(2, 0.01, random_state=0).perturb(clf, X_test[:5], y_test[:5])
    assert np.isfinite(attacked).all()
    for usual in (None, "auto"):
        clf.estimator_.set_params(predict_nonlinearity=usual)
        assert clf.score(X_test, y_test) < 0.1
        assert clf.certify(X_test).net_digest != record.net_digest


# Parameters

BAD_PARAMETERS = {
    "alpha": [0.0, 1.0, -1, 2, math.nan, "x"],
    "n_selection": [0, -1, 1.5],
    "batch_size": [0, 2.5],
    "noise": ["gaussian", 0.5, Uniform],
    "objective": ["stability"],
    "bound": [1000, ClopperPearson],
    "random_state": ["seed"],
    "n_jobs": [1.5],
}


@pytest.mark.parametrize(
    ("name", "value"), [(k, v) for k, values in BAD_PARAMETERS.items() for v in values]
)
def test_bad_parameters(small, name, value):
    with pytest.raises(
        ValueError, match=f"'{name}' parameter of SmoothedClassifier must be"
    ):
        quick(**{name: value}).fit(small[0], small[2])
    clf = quick().fit(small[0], small[2]) if name in ("alpha", "batch_size") else None
    if clf is not None:
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            clf.set_params(**{name: value}).certify(small[1])


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ({"noise": Uniform()}, "exactly one of sigma and lambd, got neither"),
        ({"noise": Uniform(sigma=1, lambd=1)}, "exactly one of sigma and lambd, got both"),
        (
            {"noise": Uniform(sigma=-1)},
            r"sigma of Uniform must be a float in the range \(0, inf\)",
        ),
        ({"bound": ClopperPearson(n=0)}, "'n' parameter of ClopperPearson"),
        (
            {"objective": NoiseAugmentation(n_samples=0)},
            "'n_samples' parameter of NoiseAugment",
        ),
    ],
)
def test_bad_nested_parameters(small, parameter, message):
    with pytest.raises(ValueError, match=message):
        quick(**parameter).fit(small[0], small[2])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("noise__sigma", 1.0), ("noise__lambd", 0.5), ("noise__exact", True),
        ("bound__n", 77), ("objective__n_samples", 3), ("inference__dtype", "bfloat16"),
    ],
)  # fmt: skip
def test_numbers_inside_a_default_are_set_in_the_object_it_stands_for(name, value):
    owner = name.partition("__")[0]
    clf = SmoothedClassifier()
    assert clf.set_params(**{name: value}) is clf
    assert getattr(SmoothedClassifier(), owner) is None
    assert clf.get_params()[name] == clone(clf).get_params()[name] == value
    usual = SmoothedClassifier(**{owner: None}).set_params(**{owner: None, name: value})
    assert repr(getattr(usual, owner)) == repr(getattr(clf, owner))


def test_defaults_are_what_fit_takes(small):
    """So a parameter that is set to what it was changes nothing."""
    noise, bound = Gaussian(sigma=0.25), ClopperPearson()
    clf = SmoothedClassifier().set_params(noise__sigma=0.25, bound__n=bound.n)
    assert (repr(clf.noise), repr(clf.bound)) == (repr(noise), repr(bound))
    assert SmoothedClassifier().set_params(noise__lambd=0.5).noise.std(4) == 0.5
    plain = SmoothedClassifier().set_params(
        objective__n_samples=3, estimator=LogisticRegression()
    )
    assert plain.objective.n_samples == 3
    frozen = FrozenEstimator(LogisticRegression())
    usual = SmoothedClassifier(frozen).set_params(objective__n_samples=10).objective
    assert repr(usual) == repr(base_of(frozen).default_objective())
    fitted = SmoothedClassifier(DecisionTreeClassifier())
    assert fitted.fit(small[0].reshape(200, -1), small[2]).noise_.sigma == noise.sigma


def test_the_default_noise_is_searched(small):
    search = GridSearchCV(
        SmoothedClassifier(DecisionTreeClassifier(), bound=ClopperPearson(n=50)),
        {"noise__sigma": [0.1, 50.0]}, cv=2, error_score="raise",
    )  # fmt: skip
    search.fit(small[0].reshape(200, -1), small[2])
    assert search.best_estimator_.noise_.sigma == search.best_params_["noise__sigma"] == 0.1
    assert search.estimator.noise is None


def test_numbers_inside_a_default_that_is_no_object_cannot_be_set():
    with pytest.raises(ValueError, match=r"estimator__lr cannot be set: estimator is None"):
        SmoothedClassifier().set_params(estimator__lr=1.0)
    with pytest.raises(ValueError, match="Invalid parameter 'k' for estimator Gaussian"):
        SmoothedClassifier().set_params(noise__k=1.0)
    clf = SmoothedClassifier().set_params(noise=Uniform(), noise__sigma=1.0)
    assert clf.noise.sigma == 1.0


def test_frozen_net_of_another_shape(small, trained):
    with pytest.raises(ValueError, match=r"cannot take X, whose inputs have shape \(5,\)"):
        quick(FrozenEstimator(trained)).fit(np.zeros((3, 5)), [0, 1, 2])


@pytest.mark.parametrize("norm", [3, 0, "2"])
def test_unknown_norm(small, norm):
    with pytest.raises(UnsupportedNormError, match="norm must be 1, 2 or inf"):
        quick().fit(small[0], small[2]).set_params(norm=norm).certify(small[1])
    with pytest.raises(UnsupportedNormError, match="norm must be 1, 2 or inf"):
        quick(norm=norm).fit(small[0], small[2])


@pytest.mark.parametrize("method", ["predict", "predict_proba", "certify"])
def test_unfitted(small, method):
    with pytest.raises(NotFittedError):
        getattr(quick(), method)(small[1])


def test_frozen_threshold_net():
    """The nets that the validity tests rest on: labels by the known threshold."""
    clf = quick(frozen(Threshold, ["low", "high"]), noise=Gaussian(sigma=0.1))
    X = np.array([[-1.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    assert clf.fit(X, ["low", "high"]).predict(X).tolist() == ["low", "high"]


# Where warnings point to


class Means(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)

    def forward(self, X):
        return super().forward(X - X.mean(dim=0))


class Follows(Means):
    """Subtracts a mean of all that it saw, which a trial is too short to notice."""

    mean = 0.0

    def forward(self, X):
        self.mean = self.mean + 1e-6 * X.mean()
        return nn.Linear.forward(self, X - self.mean)


class Locked(Threshold):
    """Has what nobody can describe."""

    def __init__(self):
        super().__init__()
        self.rows = (each for each in "abc")


class Tight(Threshold):
    """Has memory for 100 inputs at a time."""

    def forward(self, X):
        if len(X) > 100:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(X)


class Stopped(Threshold):
    """Is interrupted in a forward pass after the trial and the selection votes."""

    def __init__(self):
        super().__init__(t=0.5)
        self.passes = 0

    def forward(self, X):
        self.passes += 1
        if self.passes == 20:
            raise KeyboardInterrupt
        return super().forward(X)


@pytest.mark.parametrize(
    ("module", "after_fit", "words"),
    [
        (Means, {}, "with the other inputs of its batch"),
        (Follows, {}, "changed while it voted"),
        (Threshold, {"noise": Uniform(sigma=0.2)}, "the noise of the fit"),
        (Threshold, {"bound": ClopperPearson(n=2)}, "certifies nothing"),
        (Locked, {"memory": "kept"}, "keeps no votes"),
        (Tight, {}, "does not fit into memory"),
        (Stopped, {"bound": ConfidenceSequence(), "batch_size": 64}, "was interrupted"),
    ],
)
def test_warnings_point_to_who_asked(module, after_fit, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)  # the votes of some weights are too few to change the mean
    inputs = np.random.default_rng(0).random((4, 4), dtype=np.float32)
    clf = quick(frozen(module, [0, 1])).fit(inputs, [0, 1, 0, 1]).set_params(**after_fit)
    with pytest.warns(CertificationWarning, match=words) as caught:
        clf.certify(inputs)
    assert {each.filename for each in caught} == {__file__}


def test_reasons_of_several_runs_are_one_list():
    def run(**more):
        return {"votes": 1, "votes_from_memory": 0, "seconds": 1.0, **more}

    assert merge_runs([run(), run()])["warned"] == []
    runs = [run(warned=["b"]), run(), run(warned=["b", "a"])]
    assert merge_runs(runs)["warned"] == ["a", "b"]
    assert merge_runs(runs[:1])["warned"] == ["b"]


# The trial of a net, seeds, one class


def count_trials(monkeypatch):
    trials = []
    original = rs4a.voting.batch_independence.depends_on_batch

    def counted(*args):
        trials.append(args)
        return original(*args)

    monkeypatch.setattr(rs4a.voting.batch_independence, "depends_on_batch", counted)
    return trials


def test_a_net_is_tried_once_and_again_when_it_changed(monkeypatch):
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    trials = count_trials(monkeypatch)
    bound = ClopperPearson(n=20)
    clf = SmoothedClassifier(noise=Uniform(sigma=0.1), bound=bound, random_state=0)
    clf.fit(X[:100], y[:100])
    for _ in range(3):
        clf.certify(X[:1])
    assert len(trials) == 1
    clf.set_params(alpha=0.01, batch_size=7).certify(X[:1])
    assert len(trials) == 1
    with torch.no_grad():
        next(clf.estimator_.module_.parameters()).mul_(1.01)
    clf.certify(X[:1])
    assert len(trials) == 2
    clf.set_params(inference=Inference(dtype="bfloat16")).certify(X[:1])
    assert len(trials) == 3
    clf.set_params(inference=None).partial_fit(X[:100], y[:100]).certify(X[:1])
    assert len(trials) == 4


def test_a_net_that_depends_on_its_batch_is_warned_of_at_every_call():
    X = np.random.default_rng(0).random((40, 4), dtype=np.float32)

    class OfTheBatch(torch.nn.Linear):
        def forward(self, X):
            return super().forward(X - X.mean(dim=0))

    net = NeuralNetClassifier(OfTheBatch, module__in_features=4, module__out_features=2)
    net.set_params(criterion=torch.nn.CrossEntropyLoss, verbose=0)
    clf = SmoothedClassifier(FrozenEstimator(net.initialize()), bound=ClopperPearson(n=20))
    clf.fit(X, np.arange(40) % 2)
    for _ in range(2):
        with pytest.warns(CertificationWarning, match="no function of one input"):
            clf.certify(X[:3])


def test_no_random_state_is_nothing_that_numpys_seed_tells():
    X, y = np.random.default_rng(0).random((20, 3)), np.arange(20) % 2
    seeds = []
    for _ in range(2):
        np.random.seed(0)
        clf = SmoothedClassifier(DummyClassifier(), noise=Gaussian(sigma=0.1)).fit(X, y)
        seeds.append((clf._training_seed, clf._sampling_seed))
    assert not set(seeds[0]) & set(seeds[1])


ONE_CLASS = {
    "net": (None, Gaussian(sigma=0.1)),
    "forest": (RandomForestClassifier(2, random_state=0), Gaussian(sigma=0.1)),
    "splitting": (None, Splitting(sigma=0.5, levels=10)),
}


@pytest.mark.parametrize("bound", [ClopperPearson(n=100), ConfidenceSequence(max_n=200)])
@pytest.mark.parametrize("kind", ONE_CLASS)
def test_one_class_is_certified_as_far_as_the_noise_proves(kind, bound):
    base, noise = ONE_CLASS[kind]
    X = np.random.default_rng(0).integers(0, 11, (30, 3)).astype(np.float32) / 10
    clf = SmoothedClassifier(base, noise=noise, bound=bound, random_state=0)
    clf.fit(X, ["only"] * 30)
    record = clf.certify(X[:4])
    assert (record.labels == "only").all()
    assert (record.counts[:, 0] == record.n_votes).all()
    assert (record.radius() > 0).all()
    assert record.counts.shape == (4, 1)
    np.testing.assert_array_equal(clf.predict_proba(X[:4]), 1.0)


def test_scores_are_numbers_where_a_fold_has_one_class():
    X, y = np.random.default_rng(0).random((40, 3)), np.repeat([0, 1], 20)
    clf = SmoothedClassifier(
        noise=Gaussian(sigma=0.1), bound=ClopperPearson(n=100), random_state=0
    )
    scorer = make_certified_scorer(radius=0.01, norm=2)
    scores = cross_val_score(clf, X, y, cv=KFold(2), scoring=scorer)
    np.testing.assert_array_equal(scores, [0.0, 0.0])
