"""Inputs as a torch Dataset: the same nets, votes and searches as from an array."""

import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import frozen, make_net
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import ValidSplit
from skorch.helper import SliceDataset
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
)

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.callbacks import certified_epoch_scoring
from rs4a.datasets import load_digits_images
from rs4a.inputs import datasets as lazy_inputs
from rs4a.metrics import make_certified_scorer
from rs4a.networks import MLP
from rs4a.noises import Uniform
from rs4a.voting import source


class Images(Dataset):
    """Pairs of a tensor and a label, which counts how often it was read."""

    def __init__(self, X, y, dtype=torch.float32):
        self.X, self.y, self.dtype = X, y, dtype
        self.n_read = 0

    def __len__(self):
        return len(self.X)

    def __getitem__(self, row):
        self.n_read += 1
        return torch.as_tensor(self.X[row], dtype=self.dtype), self.y[row]


@pytest.fixture(scope="module")
def small(digits):
    X_train, X_test, y_train, y_test = digits
    return X_train[:400], X_test[:40], y_train[:400], y_test[:40]


def classifier(bound=None, **kwargs):
    return SmoothedClassifier(
        make_net(max_epochs=4, **kwargs),
        noise=Uniform(sigma=0.3),
        bound=bound or ClopperPearson(n=200),
        random_state=0,
    )


@pytest.fixture(scope="module")
def from_array(small):
    X, _, y, _ = small
    return classifier().fit(X, y)


def weights(clf):
    return torch.cat([p.detach().flatten() for p in clf.estimator_.module_.parameters()])


@pytest.mark.parametrize("given", [True, False])
def test_fit_trains_the_same_net(small, from_array, given):
    X, _, y, _ = small
    clf = classifier().fit(Images(X, y), y if given else None)
    torch.testing.assert_close(weights(clf), weights(from_array), rtol=0, atol=0)
    np.testing.assert_array_equal(clf.classes_, from_array.classes_)
    assert clf.input_shape_ == (1, 8, 8)
    assert clf.n_features_in_ == 1
    assert clf.unit_range_


def test_partial_fit_goes_on(small):
    X, _, y, _ = small
    from_array = classifier().partial_fit(X, y).partial_fit(X, y)
    clf = classifier().partial_fit(Images(X, y)).partial_fit(Images(X, y))
    torch.testing.assert_close(weights(clf), weights(from_array), rtol=0, atol=0)


def test_labels_of_any_kind(small):
    X, _, y, _ = small
    names = np.array([f"digit {each}" for each in y])
    clf = classifier().fit(Images(X, names.tolist()))
    np.testing.assert_array_equal(clf.classes_, np.unique(names))
    assert clf.score(Images(X, y), names) > 0.5


def test_labels_are_taken_from_targets_through_subsets(small):
    X, _, y, _ = small
    data = Images(X, y)
    data.targets = y.tolist()
    data.labels = ["zero", "one"]  # names of classes, say, are no labels of items
    rows = np.arange(0, 400, 2)
    assert lazy_inputs.dataset_labels(Subset(data, rows), None).tolist() == y[rows].tolist()
    sliced = SliceDataset(data)[rows]
    assert lazy_inputs.dataset_labels(sliced, None).tolist() == y[rows].tolist()
    both = ConcatDataset([data, Subset(Subset(data, rows), [3, 1])])
    expected = [*y.tolist(), y[6], y[2]]
    assert lazy_inputs.dataset_labels(both, None).tolist() == expected
    assert data.n_read == 0
    data.targets, data.labels = None, torch.tensor(y)
    assert lazy_inputs.dataset_labels(data, None).tolist() == y.tolist()


def test_labels_that_the_items_contradict_are_refused(small):
    """As torchvision's do after a target_transform."""
    X, _, y, _ = small
    data = Images(X, y)
    data.targets = y + 1
    with pytest.raises(ValueError, match=r"has the label .*, but the labels of"):
        classifier().fit(data)
    data.target_transform = lambda target: target - 1  # then the items alone are asked
    assert lazy_inputs.dataset_labels(data, None) == y.tolist()


class Parity(Subset):
    """Other labels than those of the Dataset inside."""

    def __getitem__(self, row):
        x, label = super().__getitem__(row)
        return x, int(label) % 2

    def __getitems__(self, rows):
        return [self[row] for row in rows]


class ParityOfBoth(ConcatDataset):
    def __getitem__(self, row):
        x, label = super().__getitem__(row)
        return x, int(label) % 2


class ParitySlice(SliceDataset):
    def __getitem__(self, row):
        x, label = self.dataset[self.indices_[row]]
        return x, int(label) % 2


@pytest.mark.parametrize(
    "make",
    [
        lambda data: Parity(data, range(40)),
        lambda data: Subset(Parity(data, range(60)), range(40)),
        lambda data: ParityOfBoth([data, data]),
        lambda data: ConcatDataset([Parity(data, [1, 0]), Parity(data, range(38))]),
        lambda data: ParitySlice(data, indices=np.arange(40)),
    ],
)
def test_labels_are_those_of_the_items(small, make):
    X, _, y, _ = small
    data = Images(X, y)
    data.targets = y
    made = make(data)
    expected = [made[row][1] for row in range(len(made))]
    assert list(lazy_inputs.dataset_labels(made, None)) == expected
    assert set(expected) == {0, 1}
    clf = classifier(train_split=None).fit(Subset(made, range(40)))
    np.testing.assert_array_equal(clf.classes_, [0, 1])


@pytest.mark.parametrize("base", [None, DecisionTreeClassifier()])
def test_a_single_other_label_is_noticed_in_training(small, base, monkeypatch):
    X, _, y, _ = small
    data = Images(X.reshape(400, -1), y)
    data.targets = y.copy()
    data.targets[7] = (y[7] + 1) % 10
    monkeypatch.setattr(lazy_inputs, "_SAMPLE_SIZE", 2)
    with pytest.raises(ValueError, match="number 7 of the Dataset has the label"):
        SmoothedClassifier(base, random_state=0).fit(data)
    # Labels that are given count, whatever the items say.
    clf = SmoothedClassifier(DecisionTreeClassifier(), random_state=0)
    assert clf.fit(data, y % 3).classes_.tolist() == [0, 1, 2]


def test_labels_that_change_are_refused(small):
    X, _, y, _ = small

    class Restless(Images):
        def __getitem__(self, row):
            return torch.from_numpy(self.X[row]), self.n_read + super().__getitem__(row)[1]

    with pytest.raises(ValueError, match="the label 400, but .* an earlier reading, say 0"):
        classifier().fit(Restless(X, np.zeros_like(y)))


def test_predictions_and_votes_are_those_of_the_array(small, from_array):
    _, X, _, y = small
    data = Images(X, y)
    expected = from_array.certify(X)
    certification = from_array.certify(data)
    np.testing.assert_array_equal(certification.counts, expected.counts)
    np.testing.assert_array_equal(certification.selection_counts, expected.selection_counts)
    np.testing.assert_array_equal(certification.tokens, expected.tokens)
    assert certification.dim == 64
    np.testing.assert_array_equal(from_array.predict(data), from_array.predict(X))
    np.testing.assert_array_equal(
        from_array.predict_proba(data), from_array.predict_proba(X)
    )
    assert from_array.base_score(data, y) == from_array.base_score(X, y)
    assert from_array.set_params(batch_size="auto").predict(data).shape == (40,)
    from_array.set_params(batch_size=1024)


@pytest.mark.parametrize("max_votes", [None, 2000])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_votes_that_stop(small, from_array, max_votes, n_jobs):
    _, X, _, y = small
    clf = copy.copy(from_array).set_params(bound=ConfidenceSequence(max_n=2000, radii=0.1))
    expected = clf.certify(X, max_votes=max_votes)
    clf.set_params(n_jobs=n_jobs, batch_size=64)
    certification = clf.certify(Images(X, y), max_votes=max_votes)
    np.testing.assert_array_equal(certification.counts, expected.counts)
    more = clf.certify(Images(X, y), previous=certification)
    np.testing.assert_array_equal(more.counts, clf.certify(X).counts)


@pytest.mark.parametrize(
    ("bound", "n_readings"),
    [(ClopperPearson(n=200), 3), (ConfidenceSequence(max_n=2000, radii=0.1), 2)],
    ids=["fixed", "stopping"],
)
@pytest.mark.parametrize("n_parts", [1, 8])
def test_inputs_are_read_few_times(
    small, from_array, monkeypatch, bound, n_readings, n_parts
):
    """For their keys and for each kind of votes, but not at each look."""
    _, X, _, y = small
    monkeypatch.setattr(source, "_TASK_BYTES", X.nbytes // n_parts)
    clf = copy.copy(from_array).set_params(bound=bound)
    data = Images(X, y)
    record = clf.certify(data)
    np.testing.assert_array_equal(record.counts, clf.certify(X).counts)
    assert record.n_votes.max() > 100
    assert n_readings * len(X) <= data.n_read <= n_readings * len(X) + 20


def test_searches_slice_and_do_not_stack(small):
    X, _, y, _ = small
    data = Images(X, y)
    search = GridSearchCV(
        classifier(),
        {"noise__sigma": [0.1, 0.4]},
        scoring=make_certified_scorer(radius=0.1, norm=1),
        cv=2,
        error_score="raise",
    )
    expected = GridSearchCV(**{**search.get_params(deep=False)}).fit(X, y)
    search.fit(SliceDataset(data), y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )


def test_validation_sets_and_certified_epochs(small):
    X, _, y, _ = small
    callbacks = [("certified", certified_epoch_scoring(radius=0.05, n_images=20))]
    options = {"train_split": ValidSplit(5, stratified=True), "callbacks": callbacks}
    history = classifier(**options).fit(X, y).estimator_.history
    lazy = classifier(**options).fit(Images(X, y)).estimator_.history
    for name in ("valid_loss", "certified_accuracy"):
        assert lazy[:, name] == history[:, name]


def test_default_net_and_frozen_nets(small):
    X, _, y, _ = small
    clf = SmoothedClassifier(noise=Uniform(sigma=0.3), random_state=0).fit(Images(X, y))
    assert clf.score(Images(X, y), y) > 0.8
    net = frozen(MLP, list(range(10)), module__input_shape=(1, 8, 8), module__n_classes=10)
    clf = SmoothedClassifier(net).fit(Images(X, y))
    assert clf.predict(Images(X[:3], y[:3])).shape == (3,)


def test_loader_workers(small, from_array):
    X, _, y, _ = small
    clf = classifier(iterator_train__num_workers=1).fit(Images(X, y))
    torch.testing.assert_close(weights(clf), weights(from_array), rtol=0, atol=0)


def test_lazy_inputs_can_be_pickled(small):
    _, X, _, y = small
    lazy = lazy_inputs.LazyInputs(Images(X, y), np.isfinite)
    again = pickle.loads(pickle.dumps(lazy[2:5]))
    np.testing.assert_array_equal(np.array(again), X[2:5])
    assert lazy.shape == X.shape


# What is refused


class Augmented(Images):
    """Another image at every reading."""

    def __getitem__(self, row):
        x, y = super().__getitem__(row)
        return x + 0.001 * self.n_read, y


def test_inputs_that_change_are_not_certified(small, from_array, monkeypatch):
    _, X, _, y = small
    with pytest.raises(ValueError, match="number 0 has changed: certificates are about"):
        from_array.certify(Augmented(X, y))
    crops = load_digits_images(split="train", as_arrays=False, augment=True)
    with pytest.raises(ValueError, match=r"number \d has changed: certificates are about"):
        from_array.certify(crops)
    classifier().fit(crops)
    # Those that look fixed at first are noticed when they are read again.
    monkeypatch.setattr(lazy_inputs, "_N_TRIED", 0)
    with pytest.raises(ValueError, match="number 0 has changed: certificates are about"):
        from_array.certify(Augmented(X, y))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda X, y: Images(X[:0], y[:0]), "at least one input, got an empty Dataset"),
        (lambda X, y: Images(X * 16, y, torch.uint8), "floating-point images, got dtype"),
        (lambda X, y: Images(X / 0, y), "X must be finite, but input number 0"),
        (lambda X, y: SliceDataset(list(zip(X, y, strict=True)), idx=1), "tensors or arr"),
        (lambda X, y: TensorDataset(torch.from_numpy(X)), "y must be given"),
        (lambda X, y: SkorchDataset(X), "y must be given"),
        (
            lambda X, y: TensorDataset(*map(torch.from_numpy, (X, X, y))),
            r"pairs of one input and one label, got 3 entries .* shape \(1, 8, 8\)",
        ),
        (
            lambda X, y: StackDataset(image=torch.from_numpy(X), label=torch.tensor(y)),
            "items are pairs .* got a dict",
        ),
        (lambda X, y: Images([X[0], X[0, 0]], y[:2]), r"one shape, got \[\(1, 8, 8\), \("),
    ],
)
@pytest.mark.filterwarnings("ignore:.* encountered in divide:RuntimeWarning")
def test_bad_datasets_are_refused_in_fit(small, make, message):
    X, _, y, _ = small
    with pytest.raises((ValueError, TypeError), match=message):
        classifier().fit(make(X, y))


def test_labels_must_be_as_many_as_inputs(small):
    X, _, y, _ = small
    with pytest.raises(ValueError, match="each of the 400 inputs in X, got 3"):
        classifier().fit(Images(X, y), y[:3])


def test_datasets_without_numbers_are_refused(small, from_array):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(small[0])

    for call in (from_array.predict, classifier().fit):
        with pytest.raises(TypeError, match="got Stream, an IterableDataset"):
            call(Stream())


def test_numbers_of_other_kinds(small, from_array):
    _, X, _, y = small
    half = Images(X, y, torch.bfloat16)
    np.testing.assert_array_equal(from_array.predict(half), from_array.predict(X))
    with pytest.raises(TypeError, match=r"arrays of real numbers, got complex64"):
        from_array.predict(Images(X, y, torch.complex64))
    with pytest.raises(ValueError, match="at least one input, got an empty Dataset"):
        from_array.predict(Images(X[:0], y[:0]))


def test_inputs_are_checked_as_they_are_read(small, from_array, monkeypatch):
    X, _, y, _ = small
    with pytest.raises(ValueError, match=r"shape \(1, 8, 8\), as in fit, got \(8, 8\)"):
        from_array.predict(Images(X[:, 0], y))
    with pytest.raises(ValueError, match="the scale that fit saw"):
        from_array.certify(Images(np.rint(X * 16), y))
    monkeypatch.setattr(lazy_inputs, "_SAMPLE_SIZE", 2)
    odd = [*X[:10], X[10, 0], *X[11:20]]
    with pytest.raises(ValueError, match=r"as in fit, got \(8, 8\)"):
        classifier().fit(Images(odd, y[:20]))


def test_loaders_and_dicts_are_refused_with_a_remedy(small, from_array):
    X, _, y, _ = small
    loader = DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(y)))
    for call in (classifier().fit, classifier().partial_fit):
        with pytest.raises(TypeError, match=r"got a DataLoader\. .* loader\.dataset"):
            call(loader)
        with pytest.raises(TypeError, match=r"got a dict with \['X', 'sample_weight'\]"):
            call({"X": X, "sample_weight": y}, y)
    for call in (from_array.predict, from_array.certify):
        with pytest.raises(TypeError, match=r"got a DataLoader\. .* loader\.dataset"):
            call(loader)
    assert classifier().fit(loader.dataset).classes_.tolist() == list(range(10))
