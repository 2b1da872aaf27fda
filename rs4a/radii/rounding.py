"""Rounding towards the smaller radius, and the mass that a radius depends on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CLOSED_FORM_ERROR", "FloatArray", "complement", "round_down"]

FloatArray = NDArray[np.float64]

#: Relative error allowed to a closed form: 64 units in the last place. The longest
#: one takes one special function (ndtri, log1p or expm1: at most 4 units each in
#: scipy and libm), the scale and the conversion of norms (6 roundings together).
CLOSED_FORM_ERROR = 2.0**-46


def complement(prob_lower: ArrayLike) -> FloatArray:
    """Mass p0 = 1 - prob_lower that the top class may lack, at most 1/2.

    The subtraction is exact in float64 for probabilities from 1/2 to 1. Smaller ones
    certify nothing, which is what p0 = 1/2 says: every radius is 0 there.

    Parameters
    ----------
    prob_lower : array-like of any shape
        Probabilities in [0, 1].

    Returns
    -------
    p0 : ndarray of float64, of the shape of `prob_lower`
        In [0, 1/2].
    """
    prob_lower = np.asarray(prob_lower, dtype=np.float64)
    return 1.0 - np.maximum(prob_lower, 0.5)


def round_down(
    radius: ArrayLike, relative_error: float | FloatArray = CLOSED_FORM_ERROR
) -> FloatArray:
    """Largest radius that is safe if `radius` is known to within `relative_error`.

    Parameters
    ----------
    radius : array-like of any shape
        Computed radii, of at least 0.

    relative_error : float or ndarray of the same shape, default=2**-46
        By how much a computed radius may exceed the true one.

    Returns
    -------
    radius : ndarray of float64, of the same shape
        Never above the true radius.
    """
    return np.asarray(radius, dtype=np.float64) * (1.0 - relative_error)
