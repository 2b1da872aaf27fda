"""Special functions that do not overflow, underflow or cancel."""

import math

import numpy as np
from scipy.special import gammainc, gammaincc, gammaincinv, gammaln

from rs4a.radii.rounding import FloatArray

_LARGEST_EXPONENT = 600.0
#: Largest log_z at which the leading term of a series replaces a function of exp(log_z).
LOG_TINY = -600.0

#: From here on Stirling's series with six terms is exact in float64.
_STIRLING_FROM = 16.0
_STIRLING_TERMS = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)


def log_gamma_ratio(x: float, shift: float) -> float:
    """Logarithm of Gamma(x + shift) / Gamma(x), accurate for large x too.

    The difference of two `gammaln` loses ten digits at x = 150528, where each of them is a
    million. The difference of their Stirling series, term by term, loses no digit.

    Parameters
    ----------
    x : float
        Above 0.

    shift : float
        Above -x.

    Returns
    -------
    log_ratio : float
        With an absolute error of about 1e-14 where the ratio is moderate.
    """
    end = x + shift
    if min(x, end) < _STIRLING_FROM:
        return float(gammaln(end) - gammaln(x))
    leading = (end - 0.5) * math.log1p(shift / x) + shift * math.log(x) - shift
    return leading + _stirling_tail(end) - _stirling_tail(x)


def _stirling_tail(x: float) -> float:
    return sum(c / x ** (2 * i + 1) for i, c in enumerate(_STIRLING_TERMS))


def bounded_exp(x: FloatArray) -> FloatArray:
    """Exponential, at most exp(600), for values whose size does not matter beyond that.

    Parameters
    ----------
    x : ndarray of any shape
        Exponents.

    Returns
    -------
    value : ndarray of the shape of `x`
        Finite.
    """
    return np.exp(np.minimum(x, _LARGEST_EXPONENT))


def log_expm1(x: FloatArray) -> FloatArray:
    """Logarithm of exp(x) - 1, even where exp(x) overflows.

    Parameters
    ----------
    x : ndarray of any shape
        Above 0.

    Returns
    -------
    value : ndarray of the shape of `x`
        -inf at 0.
    """
    with np.errstate(divide="ignore"):
        return x + np.log(-np.expm1(-x))


def gamma_lower(shape: float, log_z: FloatArray) -> FloatArray:
    """P(shape, z), the regularized lower gamma function, even where z underflows.

    Parameters
    ----------
    shape : float
        Above 0.

    log_z : ndarray of any shape
        Logarithm of z.

    Returns
    -------
    mass : ndarray of the shape of `log_z`
        In [0, 1].
    """
    leading = np.exp(shape * np.minimum(log_z, LOG_TINY) - gammaln(shape + 1.0))
    return np.where(log_z < LOG_TINY, leading, gammainc(shape, bounded_exp(log_z)))


def gamma_upper(shape: float, log_z: FloatArray) -> FloatArray:
    """Q(shape, z), the regularized upper gamma function, even where z underflows.

    Parameters
    ----------
    shape : float
        Above 0.

    log_z : ndarray of any shape
        Logarithm of z.

    Returns
    -------
    mass : ndarray of the shape of `log_z`
        In [0, 1].
    """
    rest = 1.0 - gamma_lower(shape, np.minimum(log_z, LOG_TINY))
    return np.where(log_z < LOG_TINY, rest, gammaincc(shape, bounded_exp(log_z)))


def log_gamma_quantile(shape: float, mass: float) -> float:
    """Log z with P(shape, z) = mass, even where z underflows.

    Parameters
    ----------
    shape : float
        Above 0.

    mass : float
        In (0, 1).

    Returns
    -------
    log_z : float
        Logarithm of the quantile.
    """
    leading = (math.log(mass) + float(gammaln(shape + 1.0))) / shape
    return leading if leading < LOG_TINY else math.log(float(gammaincinv(shape, mass)))
