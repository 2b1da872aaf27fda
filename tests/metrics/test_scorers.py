"""Certified scorers in cross-validation, searches and pipelines."""

import pickle

import numpy as np
import pytest
from conftest import make_net
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from rs4a import Certification, SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.exceptions import CertificationWarning
from rs4a.metrics import (
    abstention_rate,
    average_certified_radius,
    certified_accuracy_score,
    make_certified_scorer,
)
from rs4a.noises import Gaussian, Laplace, Uniform

SCORING = {
    "r=0.1": make_certified_scorer(radius=0.1, norm=1),
    "r=0.2": make_certified_scorer(radius=0.2, norm=1),
    "acr": make_certified_scorer(average_certified_radius, norm=2),
}


@pytest.fixture(scope="module")
def data(digits):
    X, _, y, _ = digits
    return X[:240].reshape(240, -1), y[:240]


@pytest.fixture
def clf():
    net = make_net(module__input_shape=(64,))
    bound = ClopperPearson(n=100)
    return SmoothedClassifier(net, noise=Uniform(sigma=0.3), bound=bound, random_state=0)


@pytest.fixture
def certifications(monkeypatch):
    """Sizes of the calls of `certify`."""
    sizes = []
    certify = SmoothedClassifier.certify

    def counted(self, X):
        sizes.append(len(X))
        return certify(self, X)

    monkeypatch.setattr(SmoothedClassifier, "certify", counted)
    return sizes


def test_scorer_is_the_score_of_the_certification(clf, data):
    clf.fit(*data)
    expected = average_certified_radius(data[1], clf.certify(data[0]), norm=2)
    assert SCORING["acr"](clf, *data) == expected > 0
    loss = make_certified_scorer(abstention_rate, greater_is_better=False)
    assert loss(clf, *data) == -abstention_rate(data[1], clf.certify(data[0]))


def test_three_scorers_share_one_certification_a_fold(clf, data, certifications):
    scores = cross_validate(clf, *data, scoring=SCORING, cv=3, error_score="raise")
    assert certifications == [80, 80, 80]
    assert (scores["test_r=0.1"] > 0).all()
    assert (scores["test_r=0.1"] >= scores["test_r=0.2"]).all()


def test_grid_over_noises_of_different_kinds(clf, data, certifications):
    grid = {"noise": [Gaussian(), Laplace(), Uniform()], "noise__sigma": [0.2, 0.4]}
    search = GridSearchCV(
        clf, grid, scoring=SCORING, refit="r=0.1", cv=2, error_score="raise"
    )
    search.fit(*data)
    assert len(certifications) == 6 * 2
    assert search.best_estimator_.noise_.sigma in (0.2, 0.4)
    assert grid["noise"][0].sigma is None  # the grid's objects are as they were
    sigmas = search.cv_results_["param_noise__sigma"]
    assert sorted(sigmas.tolist()) == [0.2] * 3 + [0.4] * 3


def test_search_over_numbers_inside_the_parameter_objects(clf, data):
    grid = {"bound__n": [50, 100], "estimator__max_epochs": [1, 5], "alpha": [0.01]}
    search = GridSearchCV(clf, grid, scoring=SCORING["r=0.1"], cv=2, error_score="raise")
    assert search.fit(*data).best_params_["estimator__max_epochs"] == 5


@pytest.mark.slow
def test_parallel_search_gives_the_same_scores(clf, data):
    grid = {"noise__sigma": [0.2, 0.4]}
    options = {"scoring": SCORING, "refit": False, "cv": 2, "error_score": "raise"}
    serial = GridSearchCV(clf, grid, **options).fit(*data)
    parallel = GridSearchCV(clf, grid, n_jobs=2, **options).fit(*data)
    for name in SCORING:
        key = f"mean_test_{name}"
        np.testing.assert_array_equal(serial.cv_results_[key], parallel.cv_results_[key])


def test_threads_give_the_same_scores(clf, data):
    from joblib import parallel_config

    serial = cross_val_score(clf, *data, scoring=SCORING["acr"], cv=2)
    with parallel_config(backend="threading"):
        threads = cross_val_score(clf, *data, scoring=SCORING["acr"], cv=2, n_jobs=2)
    np.testing.assert_array_equal(serial, threads)


@pytest.mark.parametrize("resource", ["n_samples", "bound__n"])
def test_halving_search(clf, data, resource):
    options = {"n_samples": {}, "bound__n": {"resource": "bound__n", "max_resources": 100}}
    search = HalvingGridSearchCV(
        clf, {"noise__sigma": [0.1, 0.3, 0.9]}, scoring=SCORING["r=0.1"], cv=2,
        error_score="raise", min_resources=50, random_state=0, **options[resource],
    )  # fmt: skip
    assert search.fit(*data).best_score_ > 0


def test_nested_search_is_unwrapped(clf, data, certifications):
    inner = GridSearchCV(clf, {"noise__sigma": [0.2, 0.4]}, scoring=SCORING["acr"], cv=2)
    scores = cross_validate(inner, *data, scoring=SCORING, cv=2, error_score="raise")
    assert certifications.count(120) == 2  # one an outer fold, for three scorers
    assert (scores["test_r=0.1"] > 0).all()


def test_one_failed_fold_does_not_end_the_search(data):
    clf = SmoothedClassifier(noise=Uniform(), bound=ClopperPearson(n=100), random_state=0)
    grid = {"noise__sigma": [-1.0, 0.3]}
    search = GridSearchCV(clf, grid, scoring=SCORING, refit=False, cv=2)
    with (
        pytest.warns(FitFailedWarning, match="2 fits failed"),
        pytest.warns(UserWarning, match="non-finite"),
    ):
        search.fit(*data)
    scores = search.cv_results_["mean_test_r=0.1"]
    assert np.isnan(scores[0])
    assert scores[1] > 0


def test_string_labels(clf, data):
    names = np.array([f"digit {i}" for i in range(10)])
    strings = cross_val_score(clf, data[0], names[data[1]], scoring=SCORING["acr"], cv=2)
    np.testing.assert_array_equal(
        strings, cross_val_score(clf, *data, scoring=SCORING["acr"], cv=2)
    )


def test_pipelines_predict(clf, data):
    pipeline = make_pipeline(StandardScaler(), PCA(20), clf)
    pipeline.set_params(smoothedclassifier__estimator__module__input_shape=(20,))
    assert cross_val_score(pipeline, *data, cv=2).mean() > 0.5
    assert not hasattr(pipeline, "certify")
    copied = pickle.loads(pickle.dumps(clone(pipeline).fit(*data)))
    assert copied.predict(data[0]).shape == (240,)


def test_pipelines_with_a_transformer_are_refused(clf, data):
    pipeline = make_pipeline(StandardScaler(), clf).fit(*data)
    with pytest.raises(
        ValueError, match=r"Pipeline with standardscaler=.*transformed inputs"
    ):
        SCORING["r=0.1"](pipeline, *data)
    search = GridSearchCV(pipeline, {"smoothedclassifier__alpha": [0.01]}, cv=2).fit(*data)
    with pytest.raises(ValueError, match="transformed inputs"):
        SCORING["r=0.1"](search, *data)


def test_pipelines_without_a_transformer_are_welcome(clf, data):
    pipeline = Pipeline([("nothing", "passthrough"), ("clf", clf)]).fit(*data)
    assert SCORING["acr"](pipeline, *data) == SCORING["acr"](pipeline["clf"], *data)


def test_other_classifiers_are_refused(data):
    other = LogisticRegression(max_iter=1000).fit(*data)
    with pytest.raises(
        TypeError, match="needs a SmoothedClassifier.*got LogisticRegression"
    ):
        SCORING["r=0.1"](other, *data)


@pytest.mark.parametrize("bad", [{}, {"radius": -1}, {"radius": [0.1]}, {"radius": None}])
def test_bad_radius_is_refused_at_once(bad):
    with pytest.raises(ValueError, match="radius must be a float of at least 0"):
        make_certified_scorer(norm=1, **bad)


def test_bad_norm_is_refused_at_once():
    with pytest.raises(ValueError, match="norm must be 1, 2 or inf"):
        make_certified_scorer(radius=0.1, norm=5)


def test_search_without_refit_is_refused(clf, data):
    search = GridSearchCV(clf, {"alpha": [0.01]}, cv=2, refit=False).fit(*data)
    with pytest.raises(ValueError, match="needs a search with a best estimator"):
        SCORING["acr"](search, *data)


def test_frozen_smoothed_classifier(clf, data):
    frozen = FrozenEstimator(clf.fit(*data))
    assert SCORING["acr"](frozen, *data) == SCORING["acr"](clf, *data)


def test_scorers_are_picklable_and_readable():
    scorer = pickle.loads(pickle.dumps(SCORING["r=0.1"]))
    assert "certified_accuracy_score" in repr(scorer)
    assert "radius=0.1" in repr(scorer)


def test_arguments_in_the_wrong_place():
    with pytest.raises(TypeError, match=r"score_func must be a function, got 0\.1"):
        make_certified_scorer(0.1)
    votes = Certification.from_counts(
        [[90, 10]], labels=[0], noise=Uniform(sigma=1.0), dim=4
    )
    with pytest.raises(TypeError, match="certification must be a Certification.*ndarray"):
        certified_accuracy_score([0], votes.labels, radius=0.1)
    with pytest.raises(TypeError, match="certification must be a Certification.* got list"):
        certified_accuracy_score(votes, [0], radius=0.1)


def cheap(base):
    bound = ClopperPearson(n=100)
    return SmoothedClassifier(base, noise=Gaussian(sigma=0.5), bound=bound, random_state=0)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return X, np.array(["rare", "often", "often"])[y]


def test_macro_and_weights_in_scorers_and_routing(iris):
    X, y = iris
    clf = cheap(LogisticRegression()).fit(X, y)
    macro = make_certified_scorer(radius=0.1, average="macro")
    record = clf.certify(X)
    expected = certified_accuracy_score(y, record, radius=0.1, average="macro")
    assert macro(clf, X, y) == expected
    weights = np.where(y == "rare", 2.0, 1.0)
    scorer = make_certified_scorer(radius=0.1)
    assert scorer(clf, X, y, sample_weight=weights) == pytest.approx(expected)
    with config_context(enable_metadata_routing=True):
        routed = make_certified_scorer(radius=0.1).set_score_request(sample_weight=True)
        one_sided = (y == "rare").astype(float)
        options = {"cv": 2, "error_score": "raise"}
        unweighted = clone(clf).set_fit_request(sample_weight=False)
        unweighted.estimator.set_fit_request(sample_weight=False)
        got = cross_validate(
            unweighted,
            X,
            y,
            scoring=routed,
            params={"sample_weight": one_sided},
            **options,
        )["test_score"]
    halves = StratifiedKFold(2).split(X, y)
    for score, (train, test) in zip(got, halves, strict=True):
        rare = test[y[test] == "rare"]
        fitted = clone(clf).fit(X[train], y[train])
        assert score == certified_accuracy_score(
            y[rare], fitted.certify(X[rare]), radius=0.1
        )
    with pytest.raises(ValueError, match="average must be 'micro'"):
        make_certified_scorer(radius=0.1, average="mean")


def test_one_answer_is_warned_of(iris):
    X, y = iris
    constant = cheap(DummyClassifier())
    with pytest.warns(
        CertificationWarning, match="Every answer under .* is 'often'"
    ) as got:
        scores = cross_val_score(
            constant, X, y, scoring=make_certified_scorer(radius=0.1, average="macro"), cv=2
        )
    assert scores.tolist() == [0.5, 0.5]
    assert len(got) == 2  # one a scoring
    often = y == "often"
    SCORING["acr"](constant.fit(X, y), X[often], y[often])  # of one class: no warning
