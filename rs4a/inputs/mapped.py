"""Rows of memory-mapped arrays, read as they are needed."""

import copy
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skorch.helper import SliceDataset
from torch.utils.data import Dataset, Subset


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
        # A loader's workers get the dataset as a pickle; numpy would put all rows into it.
        X: Any = self.array
        if getattr(X, "filename", None) is None or X.mode == "c":  # no file has its values
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
