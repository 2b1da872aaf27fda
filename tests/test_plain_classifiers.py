"""Any scikit-learn classifier as the base: trained on noisy copies, voting by `predict`."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_info

from rs4a import Inference, SmoothedClassifier
from rs4a.attacks import PGD
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.metrics import (
    certified_accuracy_score,
    make_certified_scorer,
    noise_propagation,
)
from rs4a.noises import Gaussian, Splitting, Uniform
from rs4a.objectives import NoiseAugmentation, Stability

NAMES = np.array(["zero", "one", "two", "three"])


@pytest.fixture(scope="module")
def data():
    X, y = load_digits(n_class=4, return_X_y=True)
    X = X / 16
    return X[:300], X[300:340], NAMES[y[:300]], NAMES[y[300:340]]


def smoothed(base, **params):
    params = {
        "noise": Uniform(sigma=0.3), "bound": ClopperPearson(n=500), "random_state": 0
    } | params  # fmt: skip
    return SmoothedClassifier(base, **params)


@pytest.fixture(scope="module")
def forest(data):
    X, _, y, _ = data
    return smoothed(RandomForestClassifier(10, random_state=0)).fit(X, y)


BASES = [
    RandomForestClassifier(10, random_state=0),
    HistGradientBoostingClassifier(max_iter=5, random_state=0),
    LogisticRegression(),
    SVC(),
    KNeighborsClassifier(),
    GaussianNB(),
    NearestCentroid(),
    make_pipeline(StandardScaler(), LogisticRegression()),
    GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [4, 8]}, cv=2),
]


@pytest.mark.parametrize("base", BASES, ids=lambda base: type(base).__name__)
def test_any_classifier(base, data):
    X, X_test, y, y_test = data
    clf = smoothed(base, objective=NoiseAugmentation(n_samples=2)).fit(X, y)
    certification = clf.certify(X_test)
    assert (certification.labels == y_test).mean() > 0.8
    assert certification.radius(norm=1).max() > 0.3
    np.testing.assert_array_equal(clf.predict(X_test), certification.labels)
    assert clf.classes_.tolist() == sorted(NAMES)
    assert type(clf.estimator_) is type(base)
    # Votes are of the input alone.
    few = copy.deepcopy(clf).set_params(batch_size=37).certify(X_test[5:8])
    np.testing.assert_array_equal(few.counts, certification.counts[5:8])


def test_votes_are_predictions_of_noisy_copies(forest, data):
    """A base that is one threshold votes as its definition says."""
    X = np.array([[0.3], [0.9]])
    stump = DecisionTreeClassifier(max_depth=1).fit([[0.0], [1.0]], [0, 1])
    clf = smoothed(FrozenEstimator(stump), bound=ClopperPearson(n=20_000))
    clf.set_params(noise=Uniform(lambd=1.0)).fit(X, [0, 1])
    votes = clf.certify(X).counts / 20_000
    # Uniform on [x - 1, x + 1] exceeds 1/2 with probability (x + 1/2) / 2.
    np.testing.assert_allclose(votes[:, 1], [0.4, 0.7], atol=0.015)


def test_trained_on_noisy_copies(data):
    X, _, y, _ = data
    seen = []

    class Recorder(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            seen.append((X, y))
            self.classes_ = np.unique(y)
            return self

        def predict(self, X):
            return np.repeat(self.classes_[:1], len(X))

    smoothed(Recorder(), objective=NoiseAugmentation(n_samples=3)).fit(X, y)
    inputs, labels = seen.pop()
    assert inputs.shape == (900, 64)
    assert inputs.dtype == np.float64
    np.testing.assert_array_equal(labels, np.tile(y, 3))
    noise = inputs - np.tile(X.astype(np.float32), (3, 1))
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert abs(noise).max() == pytest.approx(0.3 * 3**0.5, rel=0.001)
    # Independent copies, and ten of them unless said otherwise.
    assert abs(np.corrcoef(noise[:300].ravel(), noise[300:600].ravel())[0, 1]) < 0.03
    smoothed(Recorder()).fit(X, y)
    assert len(seen.pop()[0]) == 3000


def test_augmentation_helps(data):
    X, X_test, y, y_test = data
    clf = smoothed(DecisionTreeClassifier(random_state=0), noise=Gaussian(sigma=0.5))
    trained = clf.fit(X, y).certify(X_test)
    plain = DecisionTreeClassifier(random_state=0).fit(X, y)
    untrained = clf.set_params(estimator=FrozenEstimator(plain)).fit(X, y).certify(X_test)
    certified, before = (
        certified_accuracy_score(y_test, record, radius=0.2, norm=2)
        for record in (trained, untrained)
    )
    assert certified > before + 0.1


def test_reproducible_without_a_seed_of_its_own(data):
    """numpy's global generator, which such a base reads, is seeded; and put back."""
    X, X_test, y, _ = data
    clf = smoothed(RandomForestClassifier(5))
    state = np.random.get_state()[1].copy()
    first = clf.fit(X, y).certify(X_test)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    np.random.standard_normal()
    np.testing.assert_array_equal(clone(clf).fit(X, y).certify(X_test).counts, first.counts)
    other = clone(clf).set_params(random_state=1).fit(X, y).certify(X_test)
    assert not np.array_equal(other.counts, first.counts)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_votes_in_threads_processes_and_memory(forest, data, tmp_path, n_threads):
    _, X_test, _, _ = data
    expected = forest.certify(X_test).counts
    clf = copy.deepcopy(forest).set_params(memory=tmp_path)
    torch.set_num_threads(n_threads)
    try:
        np.testing.assert_array_equal(clf.certify(X_test).counts, expected)
        kept = clf.set_params(n_jobs=2).certify(X_test)
        np.testing.assert_array_equal(kept.counts, expected)
        assert kept.report["votes_from_memory"] == kept.report["votes"]
        clf.set_params(memory=None)
        np.testing.assert_array_equal(clf.certify(X_test).counts, expected)
    finally:
        torch.set_num_threads(1)


def test_memory_tells_classifiers_apart(data, tmp_path):
    X, X_test, y, _ = data
    for seed in (0, 1):
        base = DecisionTreeClassifier(max_depth=3, random_state=seed)
        clf = smoothed(base, memory=tmp_path).fit(X, y)
        record = clf.certify(X_test)
        assert record.report["votes_from_memory"] == 0
        record = clf.certify(X_test)
        assert record.report["votes_from_memory"] == record.report["votes"]


def test_digest_is_of_what_was_learned(data):
    X, X_test, y, _ = data
    clf = smoothed(SGDClassifier(random_state=0), bound=ConfidenceSequence(max_n=500))
    first = clf.fit(X, y).certify(X_test[:4])
    again = clf.certify(X_test[:4], previous=first)
    assert again.net_digest == first.net_digest
    clf.partial_fit(X, y)
    with pytest.raises(ValueError, match="with other net"):
        clf.certify(X_test[:4], previous=first)


def test_bound_that_stops_and_all_views(data):
    X, X_test, y, y_test = data
    clf = smoothed(RandomForestClassifier(10, random_state=0))
    clf.set_params(bound=ConfidenceSequence(max_n=500, radii=[0.2]))
    record = clf.fit(X, y).certify(X_test)
    assert record.n_votes.min() < 500
    assert (record.labels == y_test).mean() > 0.8
    clf.set_params(noise=Splitting(sigma=1.0, deterministic=True))
    X, X_test = np.rint(X * 255) / 255, np.rint(X_test * 255) / 255
    record = clf.fit(X, y).certify(X_test)
    assert record.deterministic
    assert record.radius(norm=1).max() > 0.5


def test_search(data):
    X, _, y, _ = data
    search = GridSearchCV(
        smoothed(DecisionTreeClassifier(random_state=0)),
        {"noise__sigma": [0.1, 0.4], "estimator__max_depth": [2, 6]},
        scoring=make_certified_scorer(radius=0.1, norm=1),
        cv=2,
    ).fit(X, y)
    assert search.best_score_ > 0.6
    assert search.best_params_["estimator__max_depth"] == 6


def test_frozen(data):
    X, X_test, y, _ = data
    base = LogisticRegression().fit(X, y)
    before = pickle.dumps(base)
    clf = smoothed(FrozenEstimator(base)).fit(X, y)
    assert clf.estimator_ is base
    assert clf.base_score(X_test, base.predict(X_test)) == 1.0
    assert clf.partial_fit(X, y).estimator_ is base
    assert pickle.dumps(base) == before
    with pytest.raises(ValueError, match=r"the frozen net does not know|does not know"):
        clf.fit(X, np.repeat("five", len(X)))
    with pytest.raises(NotFittedError):
        smoothed(FrozenEstimator(LogisticRegression())).fit(X, y)


def test_data_frames(data):
    X, X_test, y, _ = data
    names = [f"pixel {k}" for k in range(64)]
    frame, test_frame = pd.DataFrame(X, columns=names), pd.DataFrame(X_test, columns=names)
    clf = smoothed(LogisticRegression()).fit(frame, y)
    assert clf.estimator_.feature_names_in_.tolist() == names
    expected = smoothed(LogisticRegression()).fit(X, y).certify(X_test).counts
    np.testing.assert_array_equal(clf.certify(test_frame).counts, expected)
    frozen = smoothed(FrozenEstimator(clf.estimator_)).fit(frame, y)
    np.testing.assert_array_equal(frozen.certify(test_frame).counts, expected)
    on_arrays = LogisticRegression().fit(X, y)  # which expects no names later
    votes = smoothed(FrozenEstimator(on_arrays)).fit(frame, y).certify(test_frame).counts
    expected = smoothed(FrozenEstimator(on_arrays)).fit(X, y).certify(X_test).counts
    np.testing.assert_array_equal(votes, expected)
    with pytest.raises(
        ValueError, match="X must have the columns that the frozen Logistic"
    ):
        frozen.fit(frame[names[::-1]], y)


def test_dataset(data):
    X, X_test, y, y_test = data
    y = np.searchsorted(sorted(NAMES), y)
    dataset = torch.utils.data.TensorDataset(torch.tensor(X).float(), torch.tensor(y))
    clf = smoothed(LogisticRegression()).fit(dataset)
    expected = smoothed(LogisticRegression()).fit(X, y)
    np.testing.assert_array_equal(clf.predict(X_test), expected.predict(X_test))


def test_partial_fit(data):
    X, X_test, y, y_test = data
    clf = smoothed(SGDClassifier(random_state=0))
    clf.partial_fit(X[:20], y[:20], classes=NAMES)
    assert clf.classes_.tolist() == sorted(NAMES)
    for start in range(20, 300, 70):
        clf.partial_fit(X[start : start + 70], y[start : start + 70])
    assert clf.score(X_test, y_test) > 0.8
    with pytest.raises(ValueError, match="the first call of partial_fit does not know"):
        clf.partial_fit(X[:2], ["five", "six"])
    # A fitted base goes on from what it knows, and stays as it is.
    base = SGDClassifier(random_state=0).fit(X, y)
    weights = base.coef_.copy()
    on = smoothed(base).partial_fit(X[:20], y[:20])
    np.testing.assert_array_equal(base.coef_, weights)
    assert on.score(X_test, y_test) > 0.8


def test_partial_fit_is_there_where_the_base_has_it():
    assert hasattr(smoothed(SGDClassifier()), "partial_fit")
    assert hasattr(smoothed(None), "partial_fit")
    assert hasattr(smoothed(FrozenEstimator(SVC())), "partial_fit")
    assert not hasattr(smoothed(SVC()), "partial_fit")
    with pytest.raises(AttributeError, match="has no attribute 'partial_fit'") as error:
        smoothed(SVC()).partial_fit([[0.0]], [0])
    assert "SVC has no partial_fit: call fit" in str(error.value.__cause__)


def test_functions_without_a_name(data):
    """What cannot be pickled by name still votes."""
    X, X_test, y, y_test = data
    base = make_pipeline(FunctionTransformer(lambda X: X * 2.0), LogisticRegression())
    record = smoothed(base).fit(X, y).certify(X_test)
    assert (record.labels == y_test).mean() > 0.8


def test_images_for_a_pipeline_that_takes_them(data):
    X, X_test, y, y_test = data
    flat = FunctionTransformer(lambda X: X.reshape(len(X), -1))
    clf = smoothed(make_pipeline(flat, LogisticRegression()))
    clf.fit(X.reshape(-1, 1, 8, 8), y)
    assert clf.score(X_test.reshape(-1, 1, 8, 8), y_test) > 0.8


def test_copies(forest, data):
    _, X_test, _, _ = data
    expected = forest.certify(X_test).counts
    for other in (pickle.loads(pickle.dumps(forest)), copy.deepcopy(forest)):
        np.testing.assert_array_equal(other.certify(X_test).counts, expected)


def test_a_base_that_answers_by_the_batch_is_warned_of(data):
    X, X_test, y, _ = data

    class ByRank(DecisionTreeClassifier):
        def predict(self, X):
            return self.classes_[(X[:, 0] > X[:, 0].mean()).astype(int)]

    clf = smoothed(ByRank()).fit(X, y)
    with pytest.warns(UserWarning, match="changes with the other inputs of its batch"):
        clf.certify(X_test + np.arange(40)[:, np.newaxis])


def test_a_base_that_predicts_what_it_never_saw_is_refused(data):
    X, X_test, y, _ = data

    class Wrong(DecisionTreeClassifier):
        def predict(self, X):
            return np.repeat("five", len(X))

    with pytest.raises(ValueError, match="labels that classes_ does not know: .'five'"):
        smoothed(Wrong()).fit(X, y).certify(X_test)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"objective": Stability()}, ValueError, "objective must be NoiseAugmentation"),
        ({"inference": Inference()}, ValueError, "inference must be None for SVC"),
        ({"estimator": LinearRegression()}, TypeError, "got LinearRegression"),
        ({"estimator": StandardScaler()}, TypeError, "got StandardScaler"),
        ({"estimator": SVC}, TypeError, "got the class SVC"),
        ({"estimator": "forest"}, TypeError, "got str"),
    ],
)
def test_refused_at_fit(data, params, error, message):
    X, _, y, _ = data
    with pytest.raises(error, match=message):
        smoothed(SVC()).set_params(**params).fit(X, y)


def test_what_needs_a_net_is_refused(forest, data, tmp_path):
    _, X_test, _, y_test = data
    with pytest.raises(TypeError, match="PGD, .* needs a skorch net, got RandomForest"):
        PGD(norm=1).perturb(forest, X_test, y_test, radius=0.5)
    with pytest.raises(TypeError, match="noise_propagation needs a skorch net"):
        noise_propagation(forest, X_test)
    with pytest.raises(TypeError, match="save, .* needs a skorch net, got RandomForest"):
        forest.save(tmp_path / "forest.safetensors")
    assert not list(tmp_path.iterdir())


class Densities(ClassifierMixin, BaseEstimator):
    """A density a class, whose points lie in C."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.models_ = [KernelDensity(bandwidth=0.5).fit(X[y == c]) for c in self.classes_]
        return self

    def predict(self, X):
        scores = [model.score_samples(X) for model in self.models_]
        return self.classes_[np.argmax(scores, axis=0)]


def test_memory_sees_what_lies_in_c(data, tmp_path):
    X, X_test, y, y_test = data
    some = np.concatenate([np.flatnonzero(y == name)[:40] for name in ("one", "two")])
    few = X_test[np.isin(y_test, ["one", "two"])][:6]
    swapped = np.where(y[some] == "one", "two", "one")
    params = {"objective": NoiseAugmentation(1), "memory": tmp_path}
    first = smoothed(Densities(), **params).fit(X[some], y[some]).certify(few)
    second = smoothed(Densities(), **params).fit(X[some], swapped).certify(few)
    assert second.report["votes_from_memory"] == 0
    assert (first.labels != second.labels).all()
    assert first.net_digest != second.net_digest


def test_digest_sees_functions_and_survives_pickling(data):
    X, X_test, y, _ = data

    def scaled(factor):
        return FunctionTransformer(lambda X: X * factor)

    records = []
    for factor in (1.0, 2.0):
        base = make_pipeline(scaled(factor), DecisionTreeClassifier(random_state=0))
        base.fit(X, y)
        clf = smoothed(FrozenEstimator(base), bound=ConfidenceSequence(max_n=500))
        records.append(clf.fit(X, y).certify(X_test[:2]))
    assert records[0].net_digest != records[1].net_digest
    for kind in (SVC(), HistGradientBoostingClassifier(max_iter=3)):
        clf = smoothed(kind, objective=NoiseAugmentation(1)).fit(X, y)
        again = pickle.loads(pickle.dumps(clf))
        digests = [each.certify(X_test[:2]).net_digest for each in (clf, again)]
        assert digests[0] == digests[1]


def test_a_base_that_is_fitted_again_by_itself_is_refused(data):
    X, X_test, y, _ = data
    base = LogisticRegression().fit(X, y)
    clf = smoothed(FrozenEstimator(base)).fit(X, y)
    base.fit(X, np.char.add(y, "!"))
    with pytest.raises(ValueError, match="was fitted again, to other classes"):
        clf.certify(X_test)


def test_ties_are_decided_alike_whatever_the_batch(data):
    """On a grid distances tie, and forests with threads add up in any order."""
    X, X_test, y, _ = data
    X, X_test = np.rint(X * 4) / 4, np.rint(X_test[:6] * 4) / 4
    noise = Uniform(sigma=0.5, exact=True, levels=4)
    for base in (
        KNeighborsClassifier(4),
        RandomForestClassifier(20, max_depth=3, random_state=0, n_jobs=4),
    ):
        clf = smoothed(base, noise=noise, objective=NoiseAugmentation(1)).fit(X, y)
        expected = clf.certify(X_test).counts
        for batch_size in (64, 500, 4096):
            clf.set_params(batch_size=batch_size)
            np.testing.assert_array_equal(clf.certify(X_test).counts, expected)
        np.testing.assert_array_equal(clf.certify(X_test[::-1]).counts, expected[::-1])


def test_limits_of_threads_are_put_back(data):
    X, X_test, y, _ = data

    def limits():
        return [each["num_threads"] for each in threadpool_info()]

    clf = smoothed(KNeighborsClassifier(), objective=NoiseAugmentation(1)).fit(X, y)
    before = limits()
    with parallel_config(backend="threading"):
        clf.set_params(n_jobs=3).certify(X_test)
    assert limits() == before


def test_a_base_that_answers_by_the_place_is_warned_of(data):
    X, X_test, y, _ = data

    class ByPlace(DecisionTreeClassifier):
        def predict(self, X):
            return self.classes_[np.arange(len(X)) % 2]

    clf = smoothed(ByPlace()).fit(X, y)
    with pytest.warns(UserWarning, match="changes with the other inputs of its batch"):
        clf.certify(X_test)


def test_going_on_after_another_estimator_was_given(data):
    X, X_test, y, _ = data
    base = SGDClassifier(random_state=0).fit(X, y)
    weights = base.coef_.copy()
    clf = smoothed(FrozenEstimator(base)).fit(X, y)
    clf.set_params(estimator=SGDClassifier()).partial_fit(X[:30], y[:30])
    np.testing.assert_array_equal(base.coef_, weights)
    clf.set_params(estimator=None)
    with pytest.raises(ValueError, match="kind that was fitted, SGDClassifier"):
        clf.partial_fit(X, y)


def test_inference_is_refused_after_the_fit_too(forest, data):
    clf = copy.deepcopy(forest).set_params(inference=Inference(dtype="bfloat16"))
    with pytest.raises(ValueError, match="inference must be None for RandomForest"):
        clf.certify(data[1])


def names(y, kind):
    return {"text": np.array(["low", "high"])[y], "int": y + 1, "float": y + 1.0}[kind]


@pytest.mark.parametrize(
    ("kind", "abstain", "dtype"),
    [
        ("text", -1, "O"), ("text", "unsure", "U"), ("text", None, "O"), ("int", -1, "i"),
        ("int", None, "O"), ("int", "unsure", "O"), ("int", np.nan, "f"),
        ("float", -1, "f"), ("text", pd.NA, "O"),
    ],
)  # fmt: skip
def test_predict_or_abstain(kind, abstain, dtype):
    X = np.linspace(-2.0, 2.0, 21)[:, None]
    y = names((X[:, 0] > 0).astype(int), kind)
    clf = smoothed(LogisticRegression(), noise=Gaussian(sigma=0.5)).fit(X, y)
    record = clf.certify(X)
    for radius in (0.0, 0.5, np.inf):
        answers = clf.predict_or_abstain(X, radius, abstain)
        sure = ~record.abstained & (record.radius() >= radius)
        assert sure.any() == np.isfinite(radius)
        assert not sure.all()
        assert answers.dtype.kind == dtype
        assert (answers[sure] == record.labels[sure]).all()
        rest = answers[~sure].tolist()
        assert all(x is abstain or x == abstain or np.isnan(x) for x in rest)


def test_predict_or_abstain_refuses():
    X = np.linspace(-2.0, 2.0, 20)[:, None]
    y = np.where(X[:, 0] > 0, 1, -1)
    clf = smoothed(LogisticRegression(), noise=Gaussian(sigma=0.5)).fit(X, y)
    for radius in (-0.1, np.nan, "1"):
        with pytest.raises(ValueError, match="radius must be a float of at least 0"):
            clf.predict_or_abstain(X, radius, None)
    for abstain in (-1, 1.0, True, [0, 0]):
        with pytest.raises(ValueError, match="abstain must be one value that is no class"):
            clf.predict_or_abstain(X, abstain=abstain)
    with pytest.raises(NotFittedError):
        clone(clf).predict_or_abstain(X)
