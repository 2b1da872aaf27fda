"""Top sets of the radial score, for noise that depends on one norm of x.

Density exp(-psi(r)), r a norm of x, score s(r) = psi'(r). With ES(w) = E[s(r); s(r) in
its top w-quantile], the radius is the integral of dw / ES(w) from w0 to 1, w0 = 2 p0 or
2 d p0 (Yang et al., ICML 2020, differential method). ES is concave, and its slope is s at
the border of the top set: `tangent_pieces` needs no more.

- psi = r^k + j log r: z = r^k ~ Gamma((d - j) / k). The score k r^(k-1) + j / r falls if
  k <= 1, grows if k > 1 and j = 0, and has one valley if k > 1 and j > 0: the top sets
  are {z < z1}, {z > z2}, and {z < z1 or z > z2} with s(z1) = s(z2).
- psi = a log(1 + r): r / (1 + r) ~ Beta(d, a - d), and the score a / (1 + r) falls.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc, betainccinv, betaincinv, expit, gammainccinv

from rs4a.radii.differential import (
    SMALLEST_MASS,
    Pieces,
    Tangents,
    integral,
    tangent_pieces,
)
from rs4a.radii.rounding import FloatArray, complement, round_down
from rs4a.radii.special import (
    bounded_exp,
    gamma_lower,
    gamma_upper,
    log_expm1,
    log_gamma_quantile,
    log_gamma_ratio,
)

#: Largest relative distance of the tangents from ES.
_TOLERANCE = 1e-7
#: The same where the result is exact; the integral has a tenth of this error.
_FINE_TOLERANCE = 2e-9
#: Error of the regularized incomplete gamma and beta functions, with a margin.
_FUNCTION_ERROR = 2.0**-34
#: Error of a ratio of gamma functions, which is an exponential of up to 200.
_RATIO_ERROR = 2.0**-40
_ALMOST_ALL = 1e-16
#: From no gap between z1 and z2 to the largest gap that float64 can hold.
_LOG_LOG_RATIOS = (-28.0, 28.0)


class _ExpScore:
    """The score k r^(k - 1) + j / r of psi = r^k + j log r, and the mass of its sets.

    The mean of a part of the score over a set is the mean of that part times the mass of
    the set under another gamma law.
    """

    def __init__(self, dim: int, k: float, j: float):
        self.k, self.j = k, j
        self.shape = (dim - j) / k
        self.growing_shape = self.shape + 1.0 - 1.0 / k
        self.growing = k * math.exp(log_gamma_ratio(self.shape, 1.0 - 1.0 / k))
        self.pole_shape = self.shape - 1.0 / k
        self.pole = 0.0
        if j > 0.0:
            self.pole = j * math.exp(log_gamma_ratio(self.shape, -1.0 / k))

    def score(self, log_z: FloatArray) -> FloatArray:
        growing = self.k * bounded_exp(log_z * (1.0 - 1.0 / self.k))
        return growing + self.j * bounded_exp(-log_z / self.k)

    def _mass_and_rate(
        self, tail: Callable[[float, FloatArray], FloatArray], log_z: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        rate = self.growing * tail(self.growing_shape, log_z)
        if self.pole > 0.0:
            rate = rate + self.pole * tail(self.pole_shape, log_z)
        return tail(self.shape, log_z), rate

    def low_tops(self, negative_log_z: FloatArray) -> Tangents:
        """{z < z1}."""
        log_z = -negative_log_z
        return *self._mass_and_rate(gamma_lower, log_z), self.score(log_z)

    def high_tops(self, log_z: FloatArray) -> Tangents:
        """{z > z2}."""
        return *self._mass_and_rate(gamma_upper, log_z), self.score(log_z)

    def outer_tops(self, log_log_ratio: FloatArray) -> Tangents:
        """{z < z1 or z > z2} with s(z1) = s(z2), by log log(r2 / r1)."""
        log_ratio = np.exp(log_log_ratio)
        log_z1 = np.log(-self.j / self.k * np.expm1(-log_ratio)) - log_expm1(
            (self.k - 1.0) * log_ratio
        )
        mass1, rate1 = self._mass_and_rate(gamma_lower, log_z1)
        mass2, rate2 = self._mass_and_rate(gamma_upper, log_z1 + self.k * log_ratio)
        return mass1 + mass2, rate1 + rate2, self.score(log_z1)


@lru_cache(maxsize=64)
def _exp_pieces(dim: int, k: float, j: float, tolerance: float) -> Pieces | None:
    """Tangents of ES for psi = r^k + j log r; None where the score has no mean."""
    if j > 0.0 and j >= dim - 1:
        return None
    law = _ExpScore(dim, k, j)
    total = law.growing + law.pole
    if k <= 1.0:
        high = _log_upper_quantile(law.shape, _ALMOST_ALL)
        low = log_gamma_quantile(law.shape, SMALLEST_MASS)
        return tangent_pieces(law.low_tops, -high, -low, total, tolerance)
    if j == 0.0:
        low = log_gamma_quantile(law.shape, _ALMOST_ALL)
        high = _log_upper_quantile(law.shape, SMALLEST_MASS)
        return tangent_pieces(law.high_tops, low, high, total, tolerance)
    magnitudes = np.arange(*_LOG_LOG_RATIOS)
    enough = law.outer_tops(magnitudes)[0] < SMALLEST_MASS
    end = float(magnitudes[np.argmax(enough)])
    return tangent_pieces(law.outer_tops, _LOG_LOG_RATIOS[0], end, total, tolerance)


def _log_upper_quantile(shape: float, mass: float) -> float:
    """Log z with Q(shape, z) = mass; where z underflows, a larger z."""
    return math.log(max(float(gammainccinv(shape, mass)), sys.float_info.min))


@lru_cache(maxsize=64)
def _pow_pieces(dim: int, a: float) -> Pieces:
    """Tangents of ES for psi = a log(1 + r)."""
    b = a - dim

    def low_tops(negative_log_r: FloatArray) -> Tangents:
        u = expit(-negative_log_r)  # r / (1 + r) ~ Beta(dim, b)
        return betainc(dim, b, u), b * betainc(dim, b + 1.0, u), a * (1.0 - u)

    # log(r) = log(u) - log(1 - u): the smaller one of u and 1 - u is accurate.
    low_u = float(betaincinv(dim, b, SMALLEST_MASS))
    high_v = float(betainccinv(b, dim, SMALLEST_MASS))
    low = math.log(low_u / (1.0 - low_u) if low_u < 0.5 else (1.0 - high_v) / high_v)
    low_v = float(betaincinv(b, dim, _ALMOST_ALL))
    high = math.log1p(-low_v) - math.log(low_v)
    return tangent_pieces(low_tops, -high, -low, b, _TOLERANCE)


def expp_l1(prob_lower: ArrayLike, p: float) -> FloatArray:
    """Density exp(-||x||_p^p), l1 adversary ([Y]).

    A coordinate is noise with psi = r^p in one dimension. Exact for p >= 1: the R with
    P(1 / p, R^p) = 2 prob_lower - 1. For p < 1 a sound lower bound.

    Parameters
    ----------
    prob_lower : array-like of any shape
        Lower bounds on the probability of the top class.

    p : float
        Exponent, above 0.

    Returns
    -------
    radius : ndarray of float64, of the shape of `prob_lower`
        At unit scale, rounded down.
    """
    tolerance = _FINE_TOLERANCE if p >= 1.0 else _TOLERANCE
    pieces = _exp_pieces(1, float(p), 0.0, tolerance)
    assert pieces is not None
    return _radial_integral(pieces, 2.0 * complement(prob_lower))


def exp_one_l1(prob_lower: ArrayLike, dim: int, k: float) -> FloatArray:
    """Density exp(-||x||_1^k), l1 adversary; a sound lower bound, exact at k = 1 ([Y]).

    Parameters
    ----------
    prob_lower : array-like of any shape
        Lower bounds on the probability of the top class.

    dim : int
        Number of coordinates d of an input.

    k : float
        Exponent, above 0.

    Returns
    -------
    radius : ndarray of float64, of the shape of `prob_lower`
        At unit scale, rounded down.
    """
    pieces = _exp_pieces(dim, float(k), 0.0, _TOLERANCE)
    assert pieces is not None
    return _radial_integral(pieces, 2.0 * complement(prob_lower))


def exp_inf(prob_lower: ArrayLike, norm: float, dim: int, k: float, j: float) -> FloatArray:
    """Density ||x||_inf^-j exp(-||x||_inf^k), l1 or linf adversary ([Y]).

    A sound lower bound; against linf exact at k = 1, j = 0. It is 0 for j >= dim - 1,
    where the score has no mean.

    Parameters
    ----------
    prob_lower : array-like of any shape
        Lower bounds on the probability of the top class.

    norm : {1, inf}
        Norm of the adversary.

    dim : int
        Number of coordinates d of an input.

    k : float
        Exponent, above 0.

    j : float
        Exponent of the pole, in [0, dim).

    Returns
    -------
    radius : ndarray of float64, of the shape of `prob_lower`
        At unit scale, rounded down.
    """
    return _cubical(prob_lower, norm, dim, _exp_pieces(dim, float(k), float(j), _TOLERANCE))


def pow_inf(prob_lower: ArrayLike, norm: float, dim: int, a: float) -> FloatArray:
    """Density (1 + ||x||_inf)^-a, l1 or linf adversary; a sound lower bound ([Y]).

    Parameters
    ----------
    prob_lower : array-like of any shape
        Lower bounds on the probability of the top class.

    norm : {1, inf}
        Norm of the adversary.

    dim : int
        Number of coordinates d of an input.

    a : float
        Exponent, above dim.

    Returns
    -------
    radius : ndarray of float64, of the shape of `prob_lower`
        At unit scale, rounded down.
    """
    return _cubical(prob_lower, norm, dim, _pow_pieces(dim, float(a)))


def _radial_integral(pieces: Pieces, mass: FloatArray) -> FloatArray:
    return round_down(integral(pieces, mass), _FUNCTION_ERROR)


def _cubical(
    prob_lower: ArrayLike, norm: float, dim: int, pieces: Pieces | None
) -> FloatArray:
    p0 = complement(prob_lower)
    if pieces is None:
        return np.zeros_like(p0)
    if math.isinf(norm):
        return _radial_integral(pieces, 2.0 * p0)
    # Along one coordinate, which is the largest with probability 1 / d:
    # Phi(p) = ES(2 d p) / (2 d), and ES(1) / (2 d) where 2 d p >= 1.
    total_rate = pieces.anchor_rate[0]
    flat = (0.5 - np.maximum(p0, 0.5 / dim)) * (2 * dim / total_rate)
    beyond = _radial_integral(pieces, np.minimum(2.0 * dim * p0, 1.0))
    return round_down(flat, _RATIO_ERROR) + beyond
