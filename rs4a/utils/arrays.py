"""What records of certificates hold: plain labels, and arrays that stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

__all__ = ["check_rows", "given_index", "labels_or", "plain_labels", "read_only"]


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
    """Labels where they are wanted; of objects if the other value is of another kind."""
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
        If there is no such input, or a mask has another length.
    """
    if isinstance(rows, slice):
        return np.arange(n)[rows]
    wanted = np.asarray(rows) if np.ndim(rows) else np.atleast_1d(np.asarray(rows))
    if not wanted.size and isinstance(rows, list):
        wanted = wanted.astype(np.int64)
    is_mask = wanted.dtype == bool and np.ndim(rows) == 1
    if (
        isinstance(rows, tuple)
        or wanted.ndim != 1
        or not (is_mask or wanted.dtype.kind in "iu")
    ):
        raise TypeError(
            "A record takes a slice, a mask of bools, or whole numbers between the "
            f"brackets, got {rows!r}."
        )
    if is_mask and len(wanted) != n:
        raise IndexError(f"A mask must have {n} entries, one per input, got {len(wanted)}.")
    if not is_mask and ((wanted < -n) | (wanted >= n)).any():
        raise IndexError(f"The record has {n} inputs, got position {rows!r}.")
    return np.arange(n)[wanted]


def given_index(X: Any) -> pd.Index | None:
    """Index of a DataFrame; None for any other inputs."""
    return X.index if isinstance(X, pd.DataFrame) else None
