"""What records of certificates hold: plain labels, and arrays that stay as they are."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["labels_or", "plain_labels", "read_only"]


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
