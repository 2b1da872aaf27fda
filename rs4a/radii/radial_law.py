"""Laws of the l2 norm of spherical noise, and the level sets of its density.

A law has density exp(-psi(r)) in x, r = ||x||_2, psi increasing. The level-set method
needs the law of log r, and the radius s at which psi(s) = psi(r) -+ t.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import (
    betainc,
    betainccinv,
    betaincinv,
    betaln,
    expit,
    gammainccinv,
    gammaincinv,
    gammaln,
    log_ndtr,
    ndtr,
)

from rs4a.radii.rounding import FloatArray
from rs4a.radii.special import LOG_TINY, bounded_exp, gamma_lower, log_expm1

_MAX_NEWTON_STEPS = 60


@dataclass(frozen=True)
class ExpLaw:
    """psi = r^k + j log r: z = r^k is Gamma((dim - j) / k).

    Parameters
    ----------
    dim : int
        Number of coordinates.

    k : float
        Exponent, above 0.

    j : float
        Exponent of the pole, in [0, dim).
    """

    dim: int
    k: float
    j: float

    @property
    def low_power(self) -> float:
        """P(r < u) with a pole, P(z < u) without, is about this power of u near 0."""
        return self.dim - self.j if self.j > 0.0 else self.dim / self.k

    @property
    def _shape(self) -> float:
        return (self.dim - self.j) / self.k

    def log_quantile(self, y: FloatArray) -> FloatArray:
        """Quantiles of log r at the probabilities Phi(y)."""
        leading = (log_ndtr(y) + gammaln(self._shape + 1.0)) / self._shape
        lower, upper = (
            gammaincinv(self._shape, ndtr(y)),
            gammainccinv(self._shape, ndtr(-y)),
        )
        with np.errstate(divide="ignore"):
            log_z = np.log(np.where(y < 0.0, lower, upper))
        return np.where(leading < LOG_TINY, leading, log_z) / self.k

    def mass_below(self, log_r: FloatArray) -> FloatArray:
        """Probability of norms below r."""
        return gamma_lower(self._shape, self.k * log_r)

    def log_density(self, log_r: FloatArray) -> FloatArray:
        """Logarithm of the density of log r."""
        log_z = self.k * log_r
        log_scale = math.log(self._shape)
        centre = math.log(self.k) + self._shape * (log_scale - 1.0) - gammaln(self._shape)
        return centre + self._shape * (log_z - log_scale - np.expm1(log_z - log_scale))

    def log_steepness(self, log_r: FloatArray) -> FloatArray:
        """Logarithm of r psi'(r)."""
        log_j = math.log(self.j) if self.j > 0.0 else -math.inf
        return np.logaddexp(log_j, math.log(self.k) + self.k * log_r)

    def growth(self, log_r: FloatArray, q: FloatArray) -> FloatArray:
        """psi(s) - psi(r) for log(s / r) = q > 0."""
        log_z, kq = self.k * log_r, self.k * q
        grown = np.exp(np.minimum(log_z, 0.0)) * np.expm1(np.minimum(kq, -LOG_TINY))
        return self.j * q + grown * bounded_exp(np.maximum(log_z, 0.0))

    def outward(self, log_r: FloatArray, t: FloatArray) -> FloatArray:
        """log(s / r) for psi(s) = psi(r) + t."""
        log_z = self.k * log_r
        if self.j == 0.0:
            return _log_growth(log_z, np.log(t)) / self.k
        # j q + z (e^(k q) - 1) = t for q = log(s / r) is convex in q: Newton's steps from
        # the right of the root remain there.
        z = np.exp(log_z)
        start = np.minimum(
            t / (self.j + self.k * z), _log_growth(log_z, np.log(t)) / self.k
        )
        return _newton(start, log_z, self.k, self.j, t)

    def floor(self, t: FloatArray) -> FloatArray:
        """Log s below which psi(s) is flat, so that outward(log s) is one r."""
        if self.j > 0.0:
            return np.full_like(t, -np.inf)
        return np.minimum(np.log(t), 0.0) / self.k

    def inward(self, log_r: FloatArray, t: FloatArray) -> FloatArray:
        """Log s for psi(s) = psi(r) - t; -inf where psi does not go so low."""
        z = np.exp(self.k * log_r)
        if self.j == 0.0:
            with np.errstate(divide="ignore", over="ignore"):
                return log_r + np.log1p(-np.minimum(t / z, 1.0)) / self.k
        # The same with q < 0; the start is again to the right of the root.
        start = np.maximum(t / (self.j + self.k * z), (t - z) / self.j)
        return log_r + _newton(-start, self.k * log_r, self.k, self.j, -t)


def _newton(
    q: FloatArray, log_z: FloatArray, k: float, j: float, t: FloatArray
) -> FloatArray:
    """Solve j q + z (e^(k q) - 1) = t for q from a start to the right of the root."""
    z = np.exp(log_z)
    for _ in range(_MAX_NEWTON_STEPS):
        near = z * np.expm1(np.minimum(k * q, 1.0))
        grown = np.where(k * q < 1.0, near, bounded_exp(log_z + k * q) - z)
        step = (j * q + grown - t) / (j + k * (grown + z))
        q = q - step
        if (np.abs(step) <= 1e-14 * np.abs(q)).all():
            break
    return q


@dataclass(frozen=True)
class PowLaw:
    """psi = a log(1 + r^k): z = r^k is BetaPrime(dim / k, a - dim / k).

    Parameters
    ----------
    dim : int
        Number of coordinates.

    k : float
        Exponent of r, above 0.

    a : float
        Exponent of the density, above dim / k.
    """

    dim: int
    k: float
    a: float

    @property
    def low_power(self) -> float:
        """P(z < u) is about this power of u near 0."""
        return self.dim / self.k

    @property
    def _shapes(self) -> tuple[float, float]:
        return self.low_power, self.a - self.low_power

    def log_quantile(self, y: FloatArray) -> FloatArray:
        """Quantiles of log r at the probabilities Phi(y)."""
        low, high = self._shapes
        # u = z / (1 + z) ~ Beta(low, high). The smaller one of u and 1 - u is accurate, and
        # so is the smaller one of the probabilities below and above.
        u = np.where(
            y < 0.0, betaincinv(low, high, ndtr(y)), betainccinv(low, high, ndtr(-y))
        )
        rest = np.where(
            y < 0.0, betainccinv(high, low, ndtr(y)), betaincinv(high, low, ndtr(-y))
        )
        with np.errstate(divide="ignore"):
            log_z = np.where(
                u < 0.5, np.log(u) - np.log1p(-u), np.log1p(-rest) - np.log(rest)
            )
        # Where u or 1 - u underflows, the leading term of its power series.
        lowest = (log_ndtr(y) + math.log(low) + betaln(low, high)) / low
        highest = -(log_ndtr(-y) + math.log(high) + betaln(low, high)) / high
        log_z = np.where(lowest < LOG_TINY, lowest, log_z)
        return np.where(highest > -LOG_TINY, highest, log_z) / self.k

    def mass_below(self, log_r: FloatArray) -> FloatArray:
        """Probability of norms below r."""
        low, high = self._shapes
        log_z = self.k * log_r
        leading = np.exp(
            low * np.minimum(log_z, LOG_TINY) - math.log(low) - betaln(low, high)
        )
        return np.where(log_z < LOG_TINY, leading, betainc(low, high, expit(log_z)))

    def log_density(self, log_r: FloatArray) -> FloatArray:
        """Logarithm of the density of log r."""
        low, high = self._shapes
        log_z = self.k * log_r
        # At the mode z = low / high the two large terms cancel.
        shift = log_z - math.log(low / high)
        centre = (
            math.log(self.k)
            - betaln(low, high)
            + low * math.log(low / (low + high))
            + high * math.log1p(-low / (low + high))
        )
        near = np.log1p(low / (low + high) * np.expm1(np.minimum(shift, -LOG_TINY)))
        # Far out, 1 is negligible beside exp(shift); nearer, the difference would cancel.
        far = math.log(low / (low + high)) + shift
        grown = np.where(shift < -LOG_TINY, near, far)
        return centre + low * shift - (low + high) * grown

    def log_steepness(self, log_r: FloatArray) -> FloatArray:
        """Logarithm of r psi'(r)."""
        return math.log(self.a * self.k) - np.logaddexp(0.0, -self.k * log_r)

    def growth(self, log_r: FloatArray, q: FloatArray) -> FloatArray:
        """psi(s) - psi(r) for log(s / r) = q > 0."""
        log_more = log_expm1(self.k * q) - np.logaddexp(0.0, -self.k * log_r)
        return self.a * np.logaddexp(0.0, log_more)

    def outward(self, log_r: FloatArray, t: FloatArray) -> FloatArray:
        """log(s / r) for psi(s) = psi(r) + t."""
        log_z = self.k * log_r
        log_more = log_expm1(t / self.a) + np.logaddexp(0.0, log_z)
        return _log_growth(log_z, log_more) / self.k

    def floor(self, t: FloatArray) -> FloatArray:
        """Log s below which psi(s) is flat, so that outward(log s) is one r."""
        return np.minimum(log_expm1(t / self.a), 0.0) / self.k

    def inward(self, log_r: FloatArray, t: FloatArray) -> FloatArray:
        """Log s for psi(s) = psi(r) - t; -inf where psi does not go so low."""
        # z + 1 shrinks by exp(-t / a).
        left = np.logaddexp(0.0, self.k * log_r) - t / self.a
        return log_expm1(np.maximum(left, 0.0)) / self.k


def _log_growth(log_z: FloatArray, log_more: FloatArray) -> FloatArray:
    """log((z + more) / z)."""
    share = log_more - log_z
    return np.where(
        share < 0.0, np.log1p(np.exp(np.minimum(share, 0.0))), np.logaddexp(0.0, share)
    )
