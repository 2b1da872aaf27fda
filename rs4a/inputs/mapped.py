"""Inputs in a memory-mapped array, read from its file as they are needed."""

import copy
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from skorch.helper import SliceDataset
from torch.utils.data import Dataset, Subset

__all__ = ["MappedInputs", "is_mapped", "unmapped"]


class MappedInputs(Dataset):
    """Inputs of a memory-mapped array, read from its file one at a time.

    Pages that are touched through a mapping stay in the memory of the process; what is
    read from the file does not. A pickle holds the path, and no inputs.

    Parameters
    ----------
    path : str
        File of the array.

    dtype : dtype
        Of the numbers in the file.

    shape : tuple of int
        Number of inputs, and shape of one.

    offset, stride : int
        Bytes from the beginning of the file to the first input, and from one input to the
        next one.
    """

    def __init__(
        self, path: str, dtype: np.dtype, shape: tuple[int, ...], offset: int, stride: int
    ):
        self.path = path
        self.dtype = dtype
        self.shape = shape
        self.offset = offset
        self.stride = stride

    @classmethod
    def of(cls, X: np.memmap) -> Self:
        """Inputs of a memory-mapped array, or of a part of one."""
        whole: Any = X
        while isinstance(whole.base, np.ndarray):
            whole = whole.base
        # A part has the offset of the whole array.
        offset = X.offset + X.ctypes.data - whole.ctypes.data
        return cls(str(X.filename), X.dtype, X.shape, offset, X.strides[0])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> tuple[NDArray]:
        """Input in the array's own dtype; a tuple, as SliceDataset expects of a Dataset.

        Raises
        ------
        IndexError
            If there is no such input.
        OSError
            If the file cannot be read here, in a worker on another machine say.
        """
        row = range(len(self))[row]  # negative ones count from the end
        values = np.empty(self.shape[1:], self.dtype)
        # It is opened for every input: an open file can neither be shared with the
        # processes of a loader nor be sent to workers.
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset + row * self.stride)
                n_read = file.readinto(values.data)
        except OSError as error:
            raise OSError(
                f"X is read from its file, but {self.path} cannot be read here: "
                f"{error.strerror}. Keep it where every worker finds it under this path, "
                "or give X as an array in memory."
            ) from error
        if n_read < values.nbytes:
            raise OSError(
                f"X is read from its file, but {self.path} ends before input number {row}: "
                "it is not the file that was mapped."
            )
        return (values,)


def unmapped(X: Any) -> Any:
    """Return a memory-mapped array as inputs that are read from its file.

    Anything else is returned as it is. So are arrays that the file may not agree with, or
    whose inputs are in pieces there: copy-on-write, in Fortran's order, of a deleted file.

    Parameters
    ----------
    X : object
        Inputs of any kind; also a SliceDataset or Subset of a memory-mapped array.

    Returns
    -------
    X : object
        MappedInputs, if it was an array, a SliceDataset or Subset of them, or the same.
    """
    if isinstance(X, SliceDataset | Subset):
        inner = unmapped(X.dataset)
        if inner is not X.dataset:
            X = copy.copy(X)
            X.dataset = inner
        return X
    if not isinstance(X, np.memmap) or not _can_be_read(X):
        return X
    if X.mode != "r":
        X.flush()
    inputs = MappedInputs.of(X)
    return inputs if _agrees(inputs, X) else X


def is_mapped(X: Any) -> bool:
    """Whether inputs, or those that they are a part of, are read from a mapped file."""
    return isinstance(
        X.dataset if isinstance(X, SliceDataset | Subset) else X, MappedInputs
    )


def _can_be_read(X: np.memmap) -> bool:
    """Whether an array is a map of real numbers, with every input in one piece."""
    return (
        X.filename is not None  # as it is for a copy in memory
        and X.mode in ("r", "r+", "w+")
        and X.dtype.kind in "biuf"
        and X.ndim > 1
        and X.size > 0
        and X[0].flags.c_contiguous
    )


def _agrees(inputs: MappedInputs, X: np.memmap) -> bool:
    """Whether the path still leads to the file: it may have been deleted or replaced."""
    rows = {0, len(X) // 2, len(X) - 1}
    try:
        return all(inputs[row][0].tobytes() == X[row].tobytes() for row in rows)
    except OSError:
        return False
