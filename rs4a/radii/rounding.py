"""Shared by all radii: the lacking mass, other norms, and rounding down."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

#: Relative error allowed to a closed form: 64 units in the last place. The longest
#: one takes one special function (ndtri, log1p or expm1: at most 4 units each in
#: scipy and libm), the scale and the conversion of norms (6 roundings together).
_CLOSED_FORM_ERROR = 2.0**-46


def complement(prob_lower: ArrayLike) -> FloatArray:
    """Mass p0 = 1 - prob_lower that the top class may lack, at most 1/2.

    The subtraction is exact in float64 for probabilities from 1/2 to 1. Smaller
    probabilities certify nothing: they get p0 = 1/2, where every radius is 0.

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


def conversion_factor(source_norm: float, target_norm: float, dim: int) -> float:
    """Factor that turns an l_p radius into an l_q radius in `dim` coordinates.

    For q <= p, ||v||_p <= ||v||_q, so that the radius holds unchanged. For q > p the
    longest v of an l_q ball has ||v||_p = d^(1/p - 1/q) ||v||_q.

    Parameters
    ----------
    source_norm, target_norm : {1, 2, inf}
        p, the norm of the direct guarantee, and q, the norm of the adversary.

    dim : int
        Number of coordinates d of an input.

    Returns
    -------
    factor : float
        At most 1.
    """
    if target_norm <= source_norm:
        return 1.0
    target_share = 0.0 if math.isinf(target_norm) else 1.0 / target_norm
    return float(dim) ** (target_share - 1.0 / source_norm)


def round_down(
    radius: ArrayLike, relative_error: float | FloatArray = _CLOSED_FORM_ERROR
) -> FloatArray:
    """Largest safe radius, if `radius` is known up to `relative_error`.

    Parameters
    ----------
    radius : array-like of any shape
        Computed radii, of at least 0.

    relative_error : float or ndarray of the same shape, default=2**-46
        Largest share by which a computed radius exceeds the true one.

    Returns
    -------
    radius : ndarray of float64, of the same shape
        Never above the true radius.
    """
    return np.asarray(radius, dtype=np.float64) * (1.0 - relative_error)
