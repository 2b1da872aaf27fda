"""Means over inputs and over classes, with weights, for scores."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import column_or_1d

from rs4a.inputs.arrays import as_array

__all__ = ["check_average", "check_sample_weight", "mean_over_inputs", "rows_by_class"]

_AVERAGES = ("micro", "macro")


def check_average(average: Any) -> None:
    """Refuse what is neither "micro" nor "macro"."""
    if not (isinstance(average, str) and average in _AVERAGES):
        raise ValueError(
            f"average must be 'micro', the mean over inputs, or 'macro', the mean over "
            f"classes, got {average!r}."
        )


def check_sample_weight(sample_weight: Any, n: int) -> NDArray[np.float64] | None:
    """Return weights of n inputs, the largest as 1; None where all weigh the same."""
    if sample_weight is None:
        return None
    given = np.asarray(as_array(sample_weight))
    try:
        weights = column_or_1d(given.astype(np.float64))
    except (TypeError, ValueError):
        raise ValueError(
            f"sample_weight must hold {n} numbers, one for every certified input, got "
            f"dtype {given.dtype} and shape {given.shape}."
        ) from None
    if len(weights) != n:
        raise ValueError(
            f"sample_weight must have {n} entries, one for every certified input, got "
            f"{len(weights)}."
        )
    bad = weights[~((weights >= 0.0) & np.isfinite(weights))]
    if len(bad):
        raise ValueError(
            f"sample_weight must hold finite numbers of at least 0, got {bad[0]}."
        )
    if n and not weights.any():
        raise ValueError("sample_weight must have a positive sum, got nothing but zeros.")
    return weights / weights.max(initial=np.finfo(np.float64).tiny)  # sums stay finite


def rows_by_class(
    y_true: NDArray, weights: NDArray[np.float64] | None = None
) -> dict[Any, NDArray[np.intp]]:
    """Rows of every label that occurs, sorted; a class without weight is left out."""
    classes, columns = np.unique(y_true, return_inverse=True)
    ends = np.cumsum(np.bincount(columns, minlength=len(classes)))
    rows = np.split(np.argsort(columns, kind="stable"), ends[:-1])
    return {
        label: each
        for label, each in zip(classes.tolist(), rows, strict=True)
        if weights is None or weights[each].any()
    }


def mean_over_inputs(
    values: NDArray,
    y_true: NDArray,
    weights: NDArray[np.float64] | None = None,
    average: str = "micro",
) -> NDArray[np.float64]:
    """Mean of values over their last axis, or over classes the mean of their means.

    Parameters
    ----------
    values : ndarray of shape (..., n)
        Values of the inputs.

    y_true : ndarray of shape (n,)
        True labels, which "macro" looks at.

    weights : ndarray of shape (n,), float64, default=None
        Weights, as `check_sample_weight` returns them. None: all weigh the same.

    average : {"micro", "macro"}, default="micro"
        Whether inputs count alike, or classes.

    Returns
    -------
    mean : ndarray of shape (...), float64
        Over the classes that occur in `y_true` with a weight above 0, if "macro".
    """
    if average == "micro":
        return _mean(values, weights)
    means = [
        _mean(values.take(rows, axis=-1), None if weights is None else weights[rows])
        for rows in rows_by_class(y_true, weights).values()
    ]
    return np.mean(means, axis=0)


def _mean(values: NDArray, weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
    if weights is None:
        return values.mean(axis=-1)
    rows = np.flatnonzero(weights)  # an infinite radius without weight is no NaN
    weighted = values.take(rows, axis=-1) * weights[rows]
    return weighted.sum(axis=-1) / weights[rows].sum()
