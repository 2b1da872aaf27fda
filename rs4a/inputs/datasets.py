"""Inputs that stay in a torch Dataset, or in a file, until they are needed."""

from __future__ import annotations

import copy
import hashlib
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from skorch.dataset import Dataset as SkorchDataset
from skorch.helper import SliceDataset
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset

from rs4a.utils.checks import check_floating_point

#: Inputs, and bytes of inputs, in a sample of a dataset.
_SAMPLE_SIZE, _SAMPLE_BYTES = 1000, 2**26
#: Inputs that are read twice at first, to see whether they are the same at every reading.
_N_TRIED = 4
_DIGEST_SIZE = 16

#: Raises an error if an input is wrong.
Check = Callable[[NDArray[np.float32]], None]


def is_dataset(X: Any) -> bool:
    """Whether inputs come as a torch Dataset or skorch's SliceDataset.

    Raises
    ------
    TypeError
        If they come as an IterableDataset, whose inputs cannot be read by number.
    ValueError
        If a Dataset is empty.
    """
    if isinstance(X, IterableDataset):
        raise TypeError(
            "X must be a Dataset whose inputs can be read by number, with __getitem__ and "
            f"__len__, got {type(X).__name__}, an IterableDataset."
        )
    is_one = isinstance(X, Dataset | SliceDataset)
    if is_one and not len(X):
        raise ValueError("X must have at least one input, got an empty Dataset.")
    return is_one


class LazyInputs:
    """Inputs of a Dataset with the interface of an array, read one at a time.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset or skorch.helper.SliceDataset
        Its items are inputs, or tuples that begin with one.

    check : callable
        Called with every input at its first reading; raises an error if it is wrong.

    Raises
    ------
    ValueError
        If an input differs at a later reading, as augmented inputs do: a certificate is
        about one fixed input.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, dataset: Any, check: Check):
        self._dataset = dataset
        self._check = check
        self._rows = np.arange(len(dataset))
        #: Digest of every input at its first reading; zeros before.
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

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            part = copy.copy(self)
            part._rows, part._digests = self._rows[index], self._digests[index]  # shared
            return part
        row = int(self._rows[index])
        values = _read(self._dataset, row)
        known = self._digests[index].tobytes()
        digest = hashlib.blake2b(values.tobytes(), digest_size=_DIGEST_SIZE).digest()
        if digest == known:
            return values
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
        return values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        values = np.empty(self.shape, dtype or self.dtype)
        for index in range(len(self)):
            values[index] = self[index]
        return values


class KnownLabels(Dataset):
    """A Dataset whose items must have the known labels at every reading.

    Labels from an attribute of a Dataset are known before its items are read, but the items
    may contradict them. Training reads every item, and so misses no difference.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset or skorch.helper.SliceDataset
        Its items are inputs, or tuples of an input and a label.

    labels : ndarray of shape (n,)
        Labels of the items, from `dataset_labels`.
    """

    def __init__(self, dataset: Any, labels: NDArray):
        self.dataset = dataset
        self.labels = labels

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Any:
        item = self.dataset[row]
        if isinstance(item, tuple | list) and len(item) > 1:
            label, known = _label_of(item, row), _as_number(self.labels[row])
            if label != known:
                raise ValueError(
                    f"y must be given: number {row} of the Dataset has the label "
                    f"{label!r}, but the labels of the Dataset, or an earlier reading, say "
                    f"{known!r}."
                )
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
        Called with every input that is read; raises an error if it is wrong.

    weights : ndarray of shape (n,), float64, default=None
        Weights of the inputs. With weights, targets are pairs of an index and a weight.
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
    """Sample of inputs, at even distances in a dataset.

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
        If inputs differ in shape, or hold whole numbers, NaN or infinity.
    TypeError
        If they are neither arrays nor tensors.
    """
    first = _read(dataset, 0)
    n = min(len(dataset), _SAMPLE_SIZE, max(_SAMPLE_BYTES // max(first.nbytes, 1), 1))
    rows = np.unique(np.linspace(0, len(dataset) - 1, n).astype(int))
    sample = [_read(dataset, row) for row in rows.tolist()]
    shapes = {x.shape for x in sample}
    if len(shapes) > 1:
        raise ValueError(f"X must hold inputs of one shape, got {sorted(shapes)}.")
    return np.stack(sample)


def _read(dataset: Any, row: int) -> NDArray[np.float32]:
    """Input of an item of a dataset, as a new array."""
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
        Inputs, with labels unless `y` is given.

    y : array-like of shape (n,) or None
        Labels. None: the attribute `targets` or `labels` of torchvision's data sets, or
        else the second entry of each item.

    Returns
    -------
    labels : array-like of shape (n,)
        Labels of any kind.

    Raises
    ------
    ValueError
        If there are no labels, or not as many as items.
    """
    labels: Any = _own_labels(dataset) if y is None else y
    if len(labels) != len(dataset):
        raise ValueError(
            f"y must have a label for each of the {len(dataset)} inputs in X, got "
            f"{len(labels)}."
        )
    return labels


def _own_labels(dataset: Any) -> Any:
    # Of these classes alone: items of a subclass may have other labels.
    if type(dataset) is ConcatDataset:
        return np.concatenate([np.asarray(_own_labels(d)) for d in dataset.datasets])
    if type(dataset) is Subset:
        return np.asarray(_own_labels(dataset.dataset))[np.asarray(dataset.indices)]
    if type(dataset) is SliceDataset:  # its items may be inputs alone
        return np.asarray(_own_labels(dataset.dataset))[np.asarray(dataset.indices_)]
    if isinstance(dataset, SkorchDataset) and dataset.y is None:  # its items have zeros
        raise ValueError("y must be given: the items of X have no labels.")
    # The attributes do not know the result of a target_transform.
    if getattr(dataset, "target_transform", None) is None:
        for name in ("targets", "labels"):
            labels = getattr(dataset, name, None)
            if labels is not None and len(labels) == len(dataset):
                return labels
    return [_label_of(dataset[row], row) for row in range(len(dataset))]


def _label_of(item: Any, row: int) -> Any:
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
    return _as_number(label[0] if isinstance(label, tuple | list) else label)


def _as_number(label: Any) -> Any:
    return label.item() if hasattr(label, "item") else label


# Files


class MappedRows(Dataset):
    """Rows of a memory-mapped array; a pickle names the file, and holds no rows.

    Parameters
    ----------
    array : ndarray of shape (n, ...)
        A map of a file, or a part of one.
    """

    def __init__(self, array: NDArray):
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, row: int) -> tuple[NDArray]:
        return (self.array[row],)  # a tuple, as SliceDataset expects of a Dataset

    def __reduce__(self) -> tuple[Any, ...]:
        # The workers of a loader get a pickle; numpy would put all rows into it.
        X: Any = self.array
        if getattr(X, "filename", None) is None or X.mode == "c":  # values are in no file
            return MappedRows, (X,)
        whole = np.frombuffer(X._mmap, np.uint8)  # from the page of X.offset on
        start = X.offset - X.offset % mmap.ALLOCATIONGRANULARITY
        start += X.ctypes.data - whole.ctypes.data
        return _mapped_again, (str(X.filename), X.shape, X.dtype, start, X.strides)


def _mapped_again(path: str, shape: Any, dtype: np.dtype, start: int, strides: Any) -> Any:
    content = np.memmap(path, np.uint8, "r")
    return MappedRows(np.ndarray(shape, dtype, content, start, strides))


def by_rows(X: Any) -> Any:
    """Return a memory-mapped array of real numbers as a Dataset of its rows.

    Parameters
    ----------
    X : object
        Inputs of any kind; also a SliceDataset or Subset of a memory-mapped array.

    Returns
    -------
    X : object
        MappedRows, a SliceDataset or Subset of them, or the same object.
    """
    if isinstance(X, SliceDataset | Subset) and isinstance(X.dataset, np.memmap):
        X = copy.copy(X)
        X.dataset = by_rows(X.dataset)
    # A copy of a map lies in memory, and has no mode.
    is_map = isinstance(X, np.memmap) and X.mode is not None and X.dtype.kind in "biuf"
    return MappedRows(X) if is_map and X.ndim > 1 and X.size else X
