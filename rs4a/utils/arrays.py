"""Arrays of records: labels that need no pickle, and arrays that nobody can write to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def read_only(array: ArrayLike) -> NDArray:
    """Copy an array; nobody can write to the copy."""
    copied = np.array(array)
    copied.setflags(write=False)
    return copied


def plain_labels(name: str, values: ArrayLike) -> NDArray:
    """Return labels as a numpy array that can be stored without pickle."""
    labels = np.asarray(values)
    if labels.dtype == object:
        labels = np.asarray(labels.tolist())
    if labels.ndim != 1 or labels.dtype.kind not in "biufUS":
        raise ValueError(
            f"{name} must be a list of numbers or strings, got an array of shape "
            f"{labels.shape} and dtype {labels.dtype}."
        )
    return labels


def labels_or(labels: NDArray, where: NDArray[np.bool_], otherwise: Any) -> NDArray:
    """Labels where `where` says so, and elsewhere `otherwise`, which may be of any kind."""
    mark = np.asarray(otherwise)
    kinds = {labels.dtype.kind, mark.dtype.kind}
    alike = kinds <= set("iuf") or kinds == {"U"}
    dtype = np.result_type(labels.dtype, mark.dtype) if alike else np.dtype(object)
    answers = np.full(labels.shape, otherwise, dtype=dtype)
    answers[where] = labels[where]
    return answers


def check_rows(rows: Any, n: int) -> NDArray[np.int64]:
    """Return the positions that a subscript of a record means; one integer means one.

    Parameters
    ----------
    rows : int, slice, or array-like
        Positions, from the end where negative, or a mask of bools.

    n : int
        Number of inputs of the record.

    Returns
    -------
    positions : ndarray of shape (m,), int64
        From 0 to n - 1.

    Raises
    ------
    TypeError
        If `rows` is anything else.
    IndexError
        If there is no such input, or a mask has another length: the error of numpy.
    """
    if isinstance(rows, slice):
        return np.arange(n)[rows]
    is_empty = isinstance(rows, list) and not rows
    wanted = np.asarray(rows, dtype=np.int64 if is_empty else None)
    kinds = "biu" if wanted.ndim == 1 else "iu"
    if isinstance(rows, tuple) or wanted.ndim > 1 or wanted.dtype.kind not in kinds:
        raise TypeError(
            "A record takes a slice, a mask of bools, or whole numbers between the "
            f"brackets, got {rows!r}."
        )
    return np.atleast_1d(np.arange(n)[wanted])
