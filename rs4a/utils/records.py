"""What records of certificates hold: plain labels, and arrays that stay as they are."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["plain_labels", "read_only"]


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
