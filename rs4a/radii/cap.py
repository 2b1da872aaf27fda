"""Caps of the l2 unit sphere: the mass of the directions near a given one.

cap_d(h) = P(u_1 > h), u uniform on the unit sphere of R^d, is a regularized incomplete
beta function of h^2. In few dimensions it is computed as that function. In many dimensions
it is written as cap_d(h) = Phi(-y), with Phi the normal distribution function. There y is
nearly v = (-(d - 1) log(1 - h^2))^(1/2), and y / v is a smooth function of v^2: a short
Chebyshev series, fitted to `scipy.special.betainc`, has all its digits. A cap then costs
one `ndtr` instead of one `betainc`, a quarter of the time.
"""

from functools import lru_cache

import numpy as np
from numpy.polynomial import Chebyshev
from scipy.special import betainc, erf, erfinv, ndtr, ndtri

from rs4a.radii.rounding import FloatArray

#: Caps beyond are smaller than 1e-30, and replaced by 0.
_LARGEST_V = 11.5
_DEGREE = 16
#: Dimension below which the series would need too many terms.
_SERIES_FROM = 24


def cap(h: FloatArray, dim: int) -> FloatArray:
    """P(u_1 > h) for h >= 0, with all its digits where it is small.

    Parameters
    ----------
    h : ndarray of any shape
        Heights, of at least 0; from 1 on the cap is empty.

    dim : int
        Dimension d of the space around the sphere, at least 2.

    Returns
    -------
    mass : ndarray of the shape of `h`
        In [0, 1/2].
    """
    if dim < _SERIES_FROM:
        return 0.5 * betainc(0.5 * (dim - 1), 0.5, 1.0 - np.minimum(h, 1.0) ** 2)
    score = _normal_score(h, dim)
    return np.where(score < np.inf, ndtr(-score), 0.0)


def half_minus_cap(h: FloatArray, dim: int) -> FloatArray:
    """P(0 < u_1 <= h), odd in h, with all its digits where it is small.

    Parameters
    ----------
    h : ndarray of any shape
        Heights; beyond -1 and 1 the mass is constant.

    dim : int
        Dimension d of the space around the sphere, at least 2.

    Returns
    -------
    mass : ndarray of the shape of `h`
        In [-1/2, 1/2].
    """
    height = np.minimum(np.abs(h), 1.0)
    if dim < _SERIES_FROM:
        twice = betainc(0.5, 0.5 * (dim - 1), height**2)
    else:
        twice = erf(np.sqrt(0.5) * _normal_score(height, dim))
    return np.copysign(0.5 * twice, h)


def _normal_score(h: FloatArray, dim: int) -> FloatArray:
    """Y with cap_d(h) = Phi(-y), for h >= 0; infinite where the cap is below 1e-30."""
    with np.errstate(divide="ignore"):
        v_squared = (1.0 - dim) * np.log1p(-(np.minimum(h, 1.0) ** 2))
    v = np.sqrt(v_squared)
    score = v * _ratio(dim)(np.minimum(v_squared, _LARGEST_V**2))
    return np.where(v <= _LARGEST_V, score, np.inf)


@lru_cache(maxsize=64)
def _ratio(dim: int) -> Chebyshev:
    """Y / v as a function of v^2."""

    def exact(v_squared: FloatArray) -> FloatArray:
        h_squared = -np.expm1(-v_squared / (dim - 1))
        central = betainc(0.5, 0.5 * (dim - 1), h_squared)
        tail = betainc(0.5 * (dim - 1), 0.5, np.exp(-v_squared / (dim - 1)))
        y = np.where(central < 0.5, np.sqrt(2.0) * erfinv(central), -ndtri(0.5 * tail))
        return y / np.sqrt(v_squared)

    return Chebyshev.interpolate(exact, _DEGREE, domain=[0.0, _LARGEST_V**2])
