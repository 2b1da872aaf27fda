"""scikit-learn's own checks, and the same for image-shaped inputs."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from conftest import make_net
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_estimator,
    check_fit_non_negative,
    check_positive_only_tag_during_fit,
)

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.noises import Gaussian, Splitting, Uniform
from rs4a.objectives import NoiseAugmentation


class SquashedSplitting(Splitting):
    """Splitting of inputs that are squashed into [0, 1]; scikit-learn's lie anywhere."""

    unit_inputs = False

    def check_inputs(self, X):
        """Any are good."""

    def _sample_at_scale(self, scale, x, generator, out):
        return super()._sample_at_scale(scale, torch.sigmoid(x), generator, out)


#: Copies of an input that is repeated get noise of their own, and a net sees its inputs in
#: batches: weights stand for repetitions in the loss, but not bit by bit in what is drawn.
RANDOM_TRAINING = {
    "check_sample_weight_equivalence_on_dense_data": "repeated inputs have other noise"
}


FEW = ClopperPearson(n=200)
ESTIMATORS = {
    "default": SmoothedClassifier(),
    "logistic regression": SmoothedClassifier(LogisticRegression(), bound=FEW),
    "forest": SmoothedClassifier(
        RandomForestClassifier(n_estimators=3, max_depth=4, random_state=0),
        objective=NoiseAugmentation(n_samples=3),
        bound=FEW,
        n_selection=16,
    ),
    "pipeline": SmoothedClassifier(
        make_pipeline(StandardScaler(), LogisticRegression()), bound=FEW
    ),
    "boosting": SmoothedClassifier(
        HistGradientBoostingClassifier(max_iter=3, random_state=0),
        objective=NoiseAugmentation(n_samples=3),
        bound=FEW,
        n_selection=16,
    ),
    "bound that stops": SmoothedClassifier(
        LogisticRegression(), bound=ConfidenceSequence(max_n=200, radii=0.1)
    ),
    "independent splitting": SmoothedClassifier(
        LogisticRegression(max_iter=1000),
        noise=SquashedSplitting(sigma=0.2, deterministic=False),
        bound=FEW,
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param("default", marks=pytest.mark.slow), *list(ESTIMATORS)[1:]]
)
def test_check_estimator(name):
    results = check_estimator(
        ESTIMATORS[name],
        on_fail=None,
        on_skip=None,
        expected_failed_checks=RANDOM_TRAINING,
    )
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert not failed
    # Only the check that needs SCIPY_ARRAY_API=1 in the environment may be skipped.
    skipped = [r["check_name"] for r in results if r["status"] == "skipped"]
    assert skipped in ([], ["check_array_api_input"])
    assert len(results) >= 50
    tags = ESTIMATORS[name].__sklearn_tags__()
    assert tags.input_tags.two_d_array
    assert not tags.non_deterministic
    assert not tags._skip_test


@pytest.mark.parametrize("deterministic", [False, True])
def test_tags_say_where_inputs_must_lie_in_the_unit_range(deterministic, data):
    noise = Splitting(sigma=0.5, deterministic=deterministic, levels=16)
    clf = SmoothedClassifier(LogisticRegression(max_iter=200), noise=noise)
    assert get_tags(clf).input_tags.positive_only
    for others in (None, Gaussian(sigma=1.0), Uniform(sigma=1.0, exact=True)):
        tags = get_tags(SmoothedClassifier(noise=others))
        assert not tags.input_tags.positive_only
    check_positive_only_tag_during_fit("SmoothedClassifier", clf)
    check_fit_non_negative("SmoothedClassifier", clf)


@pytest.fixture(scope="module")
def data(digits):
    X, X_test, y, y_test = digits
    return X[:300], X_test[:40], y[:300], y_test[:40]


@pytest.fixture(params=["default net", "skorch net"])
def classifier(request):
    net = None if request.param == "default net" else make_net()
    return SmoothedClassifier(
        net, noise=Uniform(sigma=0.3), bound=ClopperPearson(n=200), random_state=0
    )


def test_images_fit_and_predict(classifier, data):
    X, X_test, y, y_test = data
    before = X.copy()
    assert classifier.fit(X, y) is classifier
    np.testing.assert_array_equal(X, before)
    assert classifier.score(X_test, y_test) > 0.7
    assert classifier.input_shape_ == (1, 8, 8)
    proba = classifier.predict_proba(X_test)
    assert proba.shape == (40, 10)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    np.testing.assert_array_equal(
        classifier.classes_[proba.argmax(axis=1)], classifier.predict(X_test)
    )
    np.testing.assert_array_equal(
        classifier.certify(X_test).labels, classifier.predict(X_test)
    )


def test_fit_is_idempotent_and_reproducible(classifier, data):
    X, X_test, y, _ = data
    first = classifier.fit(X, y).certify(X_test).counts
    np.testing.assert_array_equal(classifier.fit(X, y).certify(X_test).counts, first)
    np.testing.assert_array_equal(clone(classifier).fit(X, y).certify(X_test).counts, first)
    other = clone(classifier).set_params(random_state=1).fit(X, y)
    assert not np.array_equal(other.certify(X_test).counts, first)


def test_images_in_any_order_and_subset(classifier, data):
    X, X_test, y, _ = data
    classifier.fit(X, y)
    proba = classifier.predict_proba(X_test)
    order = np.random.default_rng(0).permutation(len(X_test))
    np.testing.assert_array_equal(classifier.predict_proba(X_test[order]), proba[order])
    one_by_one = np.concatenate([classifier.predict_proba(x[np.newaxis]) for x in X_test])
    np.testing.assert_array_equal(one_by_one, proba)


def test_copies_predict_the_same(classifier, data):
    X, X_test, y, _ = data
    classifier.fit(X, y)
    expected = classifier.certify(X_test).counts
    for other in (pickle.loads(pickle.dumps(classifier)), copy.deepcopy(classifier)):
        np.testing.assert_array_equal(other.certify(X_test).counts, expected)


def test_wrong_image_shapes(classifier, data):
    X, X_test, y, _ = data
    classifier.fit(X, y)
    for bad in (
        X_test[:, :, :7],
        X_test[:, 0],
        X_test.repeat(3, axis=1),
        X_test.reshape(40, -1),
    ):
        for method in (classifier.predict, classifier.predict_proba, classifier.certify):
            with pytest.raises(ValueError, match=r"X must have shape \(n, 1, 8, 8\)"):
                method(bad)
    with pytest.raises(ValueError, match=r"Add the batch axis: X\[None\]"):
        classifier.predict(X_test[0])


def test_fit_leaves_parameters_alone(classifier, data):
    X, _, y, _ = data
    before = {k: repr(value) for k, value in classifier.get_params(deep=False).items()}
    classifier.fit(X, y)
    after = {k: repr(value) for k, value in classifier.get_params(deep=False).items()}
    assert after == before
    if classifier.estimator is not None:
        assert not classifier.estimator.initialized_


def test_default_noise_is_not_shared():
    """A default that is an object would leak between estimators."""
    one = SmoothedClassifier(noise=Uniform(sigma=1.0))
    one.set_params(noise__sigma=9.0)
    assert SmoothedClassifier().noise is None


def test_warning_free(classifier, data):
    X, X_test, y, _ = data
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.fit(X, y).certify(X_test)
