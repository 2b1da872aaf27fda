"""Inputs that stay in a torch Dataset until they are needed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from skorch.dataset import Dataset as SkorchDataset
from skorch.helper import SliceDataset
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset

from rs4a.utils.checks import check_floating_point

#: Inputs, and bytes of them, that stand for all of a dataset.
_SAMPLE_SIZE, _SAMPLE_BYTES = 1000, 2**26
#: Items that are tried for being the same at every reading.
_N_TRIED = 4
#: Items whose labels are compared with an attribute before all others, as they are read.
_N_COMPARED = 100
_DIGEST_SIZE = 16

#: Raises an error where an input is not as it should be.
Check = Callable[[NDArray[np.float32]], None]


def is_dataset(X: Any) -> bool:
    """Whether inputs come as a torch Dataset or skorch's SliceDataset.

    Raises
    ------
    TypeError
        If they come as an IterableDataset, whose inputs cannot be read by number.
    """
    if isinstance(X, IterableDataset):
        raise TypeError(
            "X must be a Dataset whose inputs can be read by number, with __getitem__ and "
            f"__len__, got {type(X).__name__}, an IterableDataset."
        )
    return isinstance(X, Dataset | SliceDataset)


class LazyInputs:
    """Inputs of a Dataset, read one at a time, as an array would give them.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset or skorch.helper.SliceDataset
        Its items are inputs, or tuples that begin with one.

    check : callable
        Called with every input when it is read first; raises an error where one is wrong.

    Raises
    ------
    ValueError
        If there is no input, or one is another one when it is read again, as augmented
        inputs are: a certificate is about one fixed input.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, dataset: Any, check: Check):
        if not len(dataset):
            raise ValueError("X must have at least one input, got an empty Dataset.")
        self._dataset = dataset
        self._check = check
        self._rows = np.arange(len(dataset))
        #: What every input was when it was read first; zeros before.
        self._digests = np.zeros((len(dataset), _DIGEST_SIZE), dtype=np.uint8)
        self._input_shape = self[0].shape
        n_tried = min(len(dataset), _N_TRIED)
        for index in (*range(1, n_tried), *range(n_tried)):
            self[index]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of inputs, and the shape of one."""
        return len(self), *self._input_shape

    @property
    def size(self) -> int:
        """Number of numbers."""
        return math.prod(self.shape)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            part = object.__new__(LazyInputs)  # which shares the digests
            part.__dict__ = {
                **self.__dict__,
                "_rows": self._rows[index],
                "_digests": self._digests[index],
            }
            return part
        values = _read(self._dataset, int(self._rows[index]))
        self._check_same(index, values)
        return values

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        values = np.empty(self.shape, dtype or self.dtype)
        for index, each in enumerate(self):
            values[index] = each
        return values

    def _check_same(self, index: int, values: NDArray[np.float32]) -> None:
        """Check an input when it is read first, and later that it is the same."""
        row, known = self._rows[index], self._digests[index].tobytes()
        digest = hashlib.blake2b(values.tobytes(), digest_size=_DIGEST_SIZE).digest()
        if digest == known:
            return
        if any(known):
            raise ValueError(
                f"X must give the same input at every reading, but number {row} has "
                "changed: certificates are about fixed inputs. Augment in training only."
            )
        try:
            self._check(values)
        except ValueError as error:
            raise ValueError(f"{error} The first such input is number {row}.") from error
        self._digests[index] = np.frombuffer(digest, dtype=np.uint8)


class KnownLabels(Dataset):
    """A Dataset whose items must have, whenever they are read, the labels that are known.

    Labels that come from an attribute of a Dataset cost nothing, but its items may
    contradict them. Each of them is read in training, so that no difference is missed.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset or skorch.helper.SliceDataset
        Its items are inputs, or tuples of an input and a label.

    labels : ndarray of shape (n,)
        Its labels, by `dataset_labels`.
    """

    def __init__(self, dataset: Any, labels: NDArray):
        self.dataset = dataset
        self.labels = labels

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Any:
        item = self.dataset[row]
        _check_label(item, self.labels[row], row, "it was known as")
        return item


class LabelledInputs(Dataset):
    """Pairs of an input and the index of its class, for a net to train on.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset or skorch.helper.SliceDataset
        Its items are inputs, or tuples that begin with one.

    targets : ndarray of shape (n,), int64
        Indices of classes.

    check : callable
        Called with every input that is read; raises an error where one is wrong.

    weights : ndarray of shape (n,), float64, default=None
        Weights of the inputs. With them an item's target is a pair, with its weight.
    """

    def __init__(
        self,
        dataset: Any,
        targets: NDArray[np.int64],
        check: Check,
        weights: NDArray[np.float64] | None = None,
    ):
        self.dataset = dataset
        self.targets = targets
        self.check = check
        self.weights = weights

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, Any]:
        values = _read(self.dataset, row)
        self.check(values)
        target = int(self.targets[row])
        if self.weights is None:
            return torch.from_numpy(values), target
        return torch.from_numpy(values), (target, float(self.weights[row]))


def sample_inputs(dataset: Any) -> NDArray[np.float32]:
    """Inputs at even distances in a dataset, which stand for all of them.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset or skorch.helper.SliceDataset
        Its items are inputs, or tuples that begin with one.

    Returns
    -------
    sample : ndarray of shape (n_sample, ...), float32
        At most 1000 inputs.

    Raises
    ------
    ValueError
        If there is no input, they differ in shape, or hold whole numbers, NaN or infinity.
    TypeError
        If they are neither arrays nor tensors.
    """
    if not len(dataset):
        raise ValueError("X must have at least one input, got an empty Dataset.")
    first = _read(dataset, 0)
    n = min(len(dataset), _SAMPLE_SIZE, max(_SAMPLE_BYTES // max(first.nbytes, 1), 1))
    rows = np.unique(np.linspace(0, len(dataset) - 1, n).astype(int))
    sample = [_read(dataset, row) for row in rows.tolist()]
    shapes = {x.shape for x in sample}
    if len(shapes) > 1:
        raise ValueError(f"X must hold inputs of one shape, got {sorted(shapes)}.")
    return np.stack(sample)


def _read(dataset: Any, row: int) -> NDArray[np.float32]:
    """Input of an item of a dataset, as an array of our own."""
    item = dataset[row]
    x = item[0] if isinstance(item, tuple | list) else item
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu()
        x = (x.float() if x.is_floating_point() else x).numpy()
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "biuf":
        raise TypeError(
            "X must be a Dataset whose inputs are tensors or arrays of real numbers, got "
            f"{getattr(x, 'dtype', type(x).__name__)}. Convert them in the Dataset, as "
            "torchvision.transforms.ToTensor does."
        )
    check_floating_point(x.dtype, x.ndim + 1)
    values = np.array(x, dtype=np.float32, order="C")
    if not np.isfinite(values).all():
        raise ValueError(f"X must be finite, but input number {row} is not.")
    return values


def dataset_labels(dataset: Any, y: ArrayLike | None) -> Any:
    """Labels of the items of a dataset.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset or skorch.helper.SliceDataset
        Inputs, with their labels unless `y` is given.

    y : array-like of shape (n,) or None
        Labels. None: the attribute `targets` or `labels`, as torchvision's data sets have
        it, or else what stands second in the items.

    Returns
    -------
    labels : array-like of shape (n,)
        Labels of any kind.

    Raises
    ------
    ValueError
        If there are none, not as many as items, or others than the items have.
    """
    labels: Any = _own_labels(dataset) if y is None else y
    if len(labels) != len(dataset):
        raise ValueError(
            f"y must have a label for each of the {len(dataset)} inputs in X, got "
            f"{len(labels)}."
        )
    return labels


def _own_labels(dataset: Any) -> Any:
    if _reads_as(dataset, ConcatDataset):
        return np.concatenate([np.asarray(_own_labels(d)) for d in dataset.datasets])
    if _reads_as(dataset, Subset):
        return np.asarray(_own_labels(dataset.dataset))[np.asarray(dataset.indices)]
    if _reads_as(dataset, SliceDataset):  # whose items may be inputs alone
        return np.asarray(_own_labels(dataset.dataset))[np.asarray(dataset.indices_)]
    if isinstance(dataset, SkorchDataset) and dataset.y is None:  # it makes zeros of it
        raise ValueError("y must be given: the items of X have no labels.")
    # What a target_transform makes of them is known to the items alone.
    has_own = getattr(dataset, "target_transform", None) is None
    for name in ("targets", "labels") if has_own else ():
        labels = getattr(dataset, name, None)
        if labels is not None and len(labels) == len(dataset):
            _check_labels(dataset, labels, name)
            return labels
    return [_own_label(dataset[row], row) for row in range(len(dataset))]


def _reads_as(dataset: Any, kind: type) -> bool:
    """Whether items are those of the data set inside, as a class of torch or skorch reads.

    A subclass with a reading of its own may give other labels.
    """
    return isinstance(dataset, kind) and all(
        getattr(type(dataset), name, None) is getattr(kind, name, None)
        for name in ("__getitem__", "__getitems__", "transform", "_select_item")
    )


def _check_labels(dataset: Any, labels: Any, name: str) -> None:
    """Refuse labels that are not those of the items, as far as a few items tell.

    All others are compared when they are read: see `KnownLabels`.
    """
    n_rows = min(len(dataset), _N_COMPARED)
    for row in np.unique(np.linspace(0, len(dataset) - 1, n_rows).astype(int)).tolist():
        _check_label(dataset[row], labels[row], row, f"its attribute {name} says")


def _check_label(item: Any, known: Any, row: int, source: str) -> None:
    if not isinstance(item, tuple | list) or len(item) < 2:
        return
    label = _own_label(item, row)
    if label != _plain(known):
        raise ValueError(
            f"y must be given: number {row} of the Dataset has the label {label!r}, "
            f"but {source} {_plain(known)!r}."
        )


def _own_label(item: Any, row: int) -> Any:
    if isinstance(item, dict):
        raise ValueError(
            "X must be a Dataset whose items are pairs of an input and a label, or inputs, "
            f"got a dict with {list(item)[:5]!r}."
        )
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise ValueError("y must be given: the items of X have no labels.")
    label = item[1]
    size = np.size(label) if not isinstance(label, torch.Tensor) else label.numel()
    if isinstance(label, dict) or size != 1:
        shape = getattr(label, "shape", None)
        got = type(label).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")
        raise ValueError(
            "X must be a Dataset whose items are pairs of one input and one label, got "
            f"{len(item)} entries in number {row}, the second a {got}. Give y, or join "
            "several inputs into one tensor."
        )
    return _plain(label[0] if isinstance(label, tuple | list) else label)


def _plain(label: Any) -> Any:
    return label.item() if hasattr(label, "item") else label
