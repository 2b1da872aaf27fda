"""Memory-mapped arrays: votes as from memory, read row by row and never copied whole."""

import pickle
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Threshold, frozen, make_net
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV
from skorch.helper import SliceDataset
from torch.utils.data import Subset

from rs4a import SmoothedClassifier
from rs4a.attacks import PGD
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.inputs.datasets import LabelledInputs, LazyInputs, MappedRows, by_rows
from rs4a.metrics import make_certified_scorer
from rs4a.noises import Splitting, Uniform


@pytest.fixture(scope="module")
def small(digits):
    X_train, X_test, y_train, y_test = digits
    return X_train[:400], X_test[:40], y_train[:400], y_test[:40]


def classifier(noise=None, **kwargs):
    return SmoothedClassifier(
        make_net(max_epochs=4),
        noise=noise or Uniform(sigma=0.3),
        random_state=0,
        **{"bound": ClopperPearson(n=200), **kwargs},
    )


@pytest.fixture(scope="module")
def fitted_small(small):
    X, _, y, _ = small
    return classifier().fit(X, y)


def store(path, X, mode="r"):
    """A map of a file that holds X behind a header."""
    content = np.ascontiguousarray(X)
    path.write_bytes(b"a header of 20 bytes" + content.tobytes())
    return np.memmap(path, content.dtype, mode, offset=20, shape=content.shape)


def weights(clf):
    return torch.cat([p.detach().flatten() for p in clf.estimator_.module_.parameters()])


def fit_of(clf):
    """What a fit left in a classifier, without the parameters."""
    params = clf.get_params(deep=False)
    return {name: value for name, value in vars(clf).items() if name not in params}


def assert_same_record(clf, X, mapped):
    record, expected = clf.certify(mapped), clf.certify(X)
    np.testing.assert_array_equal(record.counts, expected.counts)
    np.testing.assert_array_equal(record.selection_counts, expected.selection_counts)
    np.testing.assert_array_equal(record.tokens, expected.tokens)
    assert record.dim == expected.dim


# What is read


@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("dtype", ["f4", ">f4", "f8", "f2"])
def test_all_methods_answer_as_from_memory(tmp_path, small, fitted_small, dtype, mode):
    _, X, _, y = small
    mapped = store(tmp_path / "X", X.astype(dtype), mode)
    assert isinstance(by_rows(mapped), MappedRows)
    assert_same_record(fitted_small, X, mapped)
    for method in ("predict", "predict_proba"):
        answers = getattr(fitted_small, method)(mapped)
        np.testing.assert_array_equal(answers, getattr(fitted_small, method)(X))
    assert fitted_small.score(mapped, y) == fitted_small.score(X, y) > 0.5
    assert fitted_small.base_score(mapped, y) == fitted_small.base_score(X, y) > 0.5


@pytest.mark.parametrize("part", [np.s_[7:19], np.s_[::3], np.s_[::-1]], ids=str)
def test_parts_of_a_map(tmp_path, small, fitted_small, part):
    X = small[1][part]
    mapped = store(tmp_path / "X", small[1])[part]
    assert isinstance(by_rows(mapped), MappedRows)
    assert_same_record(fitted_small, X, mapped)


def test_parts_of_parts_and_other_shapes(tmp_path, small):
    X = small[1]
    mapped = store(tmp_path / "X", X)
    for here, there in (
        (X[10:][5:20][::2], mapped[10:][5:20][::2]),
        (X.reshape(40, -1)[:, 8:24], mapped.reshape(40, -1)[:, 8:24]),
        (X[:, 0, 2:5], mapped[:, 0, 2:5]),
    ):
        inputs = by_rows(there)
        assert isinstance(inputs, MappedRows)
        np.testing.assert_array_equal(
            np.stack([inputs[i][0] for i in range(len(here))]), here
        )


def test_npy_files(tmp_path, small, fitted_small):
    X = small[1]
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert isinstance(by_rows(mapped), MappedRows)
    assert_same_record(fitted_small, X, mapped)


def test_tables(tmp_path, small):
    X, X_test, y, _ = small
    X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    clf = SmoothedClassifier(bound=ClopperPearson(n=100), random_state=0).fit(X, y)
    assert_same_record(clf, X_test, store(tmp_path / "X", X_test))
    with pytest.raises(ValueError, match="X has 63 features, but .* expecting 64"):
        clf.predict(store(tmp_path / "narrow", X_test[:, 1:]))


def test_what_was_written_a_moment_ago_is_read(tmp_path, small, fitted_small):
    X = small[1]
    mapped = store(tmp_path / "X", np.zeros_like(X), "r+")
    mapped[:] = X
    assert_same_record(fitted_small, X, mapped)


def test_votes_that_stop(tmp_path, small, fitted_small):
    X = small[1]
    clf = classifier(bound=ConfidenceSequence(max_n=1000, radii=0.1))
    clf.__dict__.update(
        {k: v for k, v in vars(fitted_small).items() if k not in clf.get_params()}
    )
    assert_same_record(clf, X, store(tmp_path / "X", X))


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_workers(tmp_path, small, fitted_small, backend):
    X = small[1]
    expected = fitted_small.certify(X)
    clf = SmoothedClassifier(**{**fitted_small.get_params(deep=False), "n_jobs": 2})
    clf.__dict__.update(
        {k: v for k, v in vars(fitted_small).items() if k not in clf.get_params()}
    )
    with parallel_config(backend=backend):
        record = clf.certify(store(tmp_path / "X", X))
    np.testing.assert_array_equal(record.counts, expected.counts)


def test_attacks_read_a_map(tmp_path, small, fitted_small):
    _, X, _, y = small
    attack = PGD(norm=1, steps=2, random_state=0)
    mapped = store(tmp_path / "X", X)
    np.testing.assert_array_equal(
        attack.perturb(fitted_small, mapped, y, radius=0.5),
        attack.perturb(fitted_small, X, y, radius=0.5),
    )


# Training and searches


def test_fit_trains_the_same_net(tmp_path, small, fitted_small):
    X, _, y, _ = small
    mapped = store(tmp_path / "X", X.astype(np.float64))
    clf = classifier().fit(mapped, y)
    torch.testing.assert_close(weights(clf), weights(fitted_small), rtol=0, atol=0)
    assert clf.unit_range_
    assert clf.input_shape_ == (1, 8, 8)
    once = classifier().partial_fit(X, y).partial_fit(X, y)
    again = classifier().partial_fit(mapped, y).partial_fit(mapped, y)
    torch.testing.assert_close(weights(again), weights(once), rtol=0, atol=0)
    with pytest.raises(ValueError, match="y must be given"):
        classifier().fit(mapped)
    with pytest.raises(ValueError, match="each of the 400 inputs in X, got 3"):
        classifier().fit(mapped, y[:3])


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_searches_slice_a_map(tmp_path, small, n_jobs):
    X, _, y, _ = small
    search = GridSearchCV(
        classifier(),
        {"noise__sigma": [0.1, 0.4]},
        scoring=make_certified_scorer(radius=0.1, norm=1),
        cv=2,
        error_score="raise",
    )
    expected = search.fit(X, y).cv_results_["mean_test_score"]
    search.set_params(n_jobs=n_jobs)
    search.fit(SliceDataset(store(tmp_path / "X", X)), y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], expected)


def test_slices_of_a_map_have_its_rows(tmp_path, small):
    X = small[1]
    mapped = store(tmp_path / "X", X)
    rows = np.array([3, 1, 7])
    for part in (SliceDataset(mapped)[rows], Subset(mapped, rows.tolist())):
        inputs = by_rows(part)
        assert part.dataset is mapped  # the user's object is left as it is
        lazy = LazyInputs(inputs, lambda x: None)
        np.testing.assert_array_equal(np.array(lazy), X[rows])


# What is held


@pytest.fixture
def large(tmp_path):
    """A file of 32 MB, mapped but not read."""
    rng = np.random.default_rng(0)
    path = tmp_path / "X"
    (rng.integers(0, 255, (2000, 1, 64, 64)) / 255).astype(np.float32).tofile(path)
    return np.memmap(path, np.float32, "r", shape=(2000, 1, 64, 64))


@pytest.fixture(scope="module")
def threshold():
    X = np.linspace(0, 1, 3 * 64 * 64, dtype=np.float32).reshape(3, 1, 64, 64)
    return SmoothedClassifier(
        frozen(Threshold, [0, 1], module__t=0.5),
        noise=Uniform(sigma=0.3),
        bound=ClopperPearson(n=1),
        n_selection=1,
        alpha=0.6,
        batch_size=16,
        random_state=0,
    ).fit(X, [0, 1, 0])


def test_few_inputs_are_held_at_a_time(large, threshold):
    threshold.certify(large[:10])
    tracemalloc.start()
    try:
        record = threshold.certify(large)
        threshold.base_score(large, record.labels)
        for _ in LabelledInputs(by_rows(large), np.zeros(2000, np.int64), lambda x: None):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(record) == 2000
    assert peak < large.nbytes / 16


def test_a_pickle_holds_the_path_and_no_rows(large, tmp_path):
    """The workers of a loader get a pickle of the training set."""
    pixels = np.asfortranarray(np.random.default_rng(0).random((3000, 7, 5)))
    np.save(tmp_path / "columns.npy", pixels)
    columns = np.load(tmp_path / "columns.npy", mmap_mode="r")
    for mapped in (
        large,
        large[500:600],
        large[::-3, :, 5:],
        columns,
        columns[40:, 2],
        store(tmp_path / "writable", pixels, "r+")[1:],
    ):
        content = pickle.dumps(LabelledInputs(by_rows(mapped), np.arange(9), np.isfinite))
        assert len(content) < 1000
        again = np.stack([x for (x,) in pickle.loads(content).dataset])
        np.testing.assert_array_equal(again, mapped)


def test_a_pickle_holds_values_that_are_in_no_file(tmp_path, small):
    X = small[1]
    changed = store(tmp_path / "X", np.zeros_like(X), "c")
    changed[:] = X
    again = pickle.loads(pickle.dumps(by_rows(changed)))
    for inputs in (again, pickle.loads(pickle.dumps(again))):
        np.testing.assert_array_equal(np.stack([x for (x,) in inputs]), X)


def test_a_worker_that_does_not_have_the_file(tmp_path, small):
    mapped = store(tmp_path / "X", small[1])
    content = pickle.dumps(by_rows(mapped))
    short = (tmp_path / "X").read_bytes()[:5000]
    Path(mapped.filename).unlink()
    with pytest.raises(FileNotFoundError, match="No such file"):
        pickle.loads(content)
    (tmp_path / "X").write_bytes(short)
    with pytest.raises(ValueError, match="size of buffer"):
        pickle.loads(content)


# Which arrays are read so


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_any_map_of_numbers_is_read_by_rows(tmp_path, small, fitted_small, mode):
    X = small[1]
    changed = store(tmp_path / "X", X, mode)
    if mode != "r":
        changed[3] = X[4]
    columns = store(tmp_path / "columns", X.T, mode).T
    assert_same_record(fitted_small, np.array(changed), changed)
    assert_same_record(fitted_small, X, columns)
    for mapped in (changed, columns):
        assert isinstance(by_rows(mapped), MappedRows)


@pytest.mark.skipif(sys.platform == "win32", reason="an open file stays where it is")
def test_a_map_outlives_its_path(tmp_path, small, fitted_small):
    X = small[1]
    deleted, replaced = store(tmp_path / "deleted", X), store(tmp_path / "replaced", X)
    Path(deleted.filename).unlink()
    store(tmp_path / "other", X[::-1])
    (tmp_path / "other").replace(tmp_path / "replaced")
    for mapped in (deleted, replaced):
        assert_same_record(fitted_small, X, mapped)


def test_copies_of_a_map_are_arrays(tmp_path, small):
    mapped = store(tmp_path / "X", small[1])
    copied = mapped.copy()
    assert isinstance(copied, np.memmap)
    assert by_rows(copied) is copied
    assert by_rows(mapped[:0]).size == 0


@pytest.mark.parametrize("X", [np.ones((3, 2)), [[1.0]], None, np.float32(1.0)], ids=str)
def test_other_inputs_are_left_alone(X):
    assert by_rows(X) is X


# What is refused


def with_row(X, row, value):
    X = X.copy()
    X[row] = value
    return X


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda X: with_row(X, 17, np.nan), "X must be finite, but input number 17 is not"),
        (lambda X: with_row(X, 9, np.inf), "X must be finite, but input number 9 is not"),
        (lambda X: X[..., :4], r"shape \(n, 1, 8, 8\), as in fit, got \(40, 1, 8, 4\)"),
        (lambda X: X[0], r"got \(1, 8, 8\)\. Add the batch axis"),
        (lambda X: X[0, 0, 0], "Expected 2D array, got 1D array"),
        (lambda X: (X * 16).astype(np.uint8), "X must hold floating-point images"),
        (lambda X: X.astype(np.complex64), "Complex data not supported"),
        (
            lambda X: with_row(X, 21, np.rint(X[21] * 255)),
            r"scale that fit saw, \[0, 1\], .* The first such input is number 21",
        ),
    ],
)
def test_bad_inputs_are_refused_as_from_memory(
    tmp_path, small, fitted_small, make, message
):
    mapped = store(tmp_path / "X", make(small[1]))
    for method in ("predict", "certify"):
        with pytest.raises(ValueError, match=message):
            getattr(fitted_small, method)(mapped)


def test_bad_inputs_are_refused_in_training(tmp_path, small):
    X, _, y, _ = small
    with pytest.raises(ValueError, match="X must be finite, but input number 3 is not"):
        classifier().fit(store(tmp_path / "X", with_row(X, 3, np.nan)), y)


def test_inputs_off_the_grid_are_named(tmp_path, small):
    X, X_test, y, _ = small
    clf = classifier(noise=Splitting(sigma=0.3, levels=16)).fit(X, y)
    mapped = store(tmp_path / "X", with_row(X_test, 11, 0.49))
    with pytest.raises(ValueError, match=r"1/16 .* first such input is number 11\."):
        clf.certify(mapped)


def test_a_file_that_changes_is_noticed(tmp_path, small):
    X = small[1]
    lazy = LazyInputs(by_rows(store(tmp_path / "X", X)), lambda x: None)
    np.array(lazy)
    store(tmp_path / "X", with_row(X, 30, 0.5))
    np.array(lazy[:30])
    with pytest.raises(ValueError, match="number 30 has changed"):
        np.array(lazy)
