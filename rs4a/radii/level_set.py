"""Spherical noise against l2 adversaries, exactly, by level sets.

Yang et al., ICML 2020 (arXiv:2002.08118), level-set method. With density exp(-psi(r))
and L(x) = psi(||x||) - psi(||x - v||), ||v|| = e, the worst class A for a shift by v is
{L <= t} (Neyman-Pearson). By the symmetry x -> v - x it keeps the mass P(L > -t) after
the shift, so that e is the radius of p0 = P(L > t) if -t is the median of L. In polar
coordinates

    P(L > +-t) = E_r cap_d((r^2 + e^2 - s^2) / (2 r e)),   psi(s) = psi(r) -+ t.

The curve (p0, e) is computed at some 250 t, all at once: for each t the e that makes -t the
median, then p0. The threshold t is a log likelihood ratio, so that p0 <= exp(-t) / 2, which
bounds the range of t. Between the points a spline of degree 7 runs
from log z to log e, with z the normal quantile of 1 - p0.

Both expectations are integrals over the logarithm of the smaller one of r and s: the larger
one is a smooth function of the smaller one, but the reverse is not true. Near p0 = 1/2 the
module computes 1/2 - p0 = E_r P(0 < u_1 < height), without cancellation.

Error: half-way between the points the spline is compared with a finer rule. There any t
and e prove a probability whose radius is e or more (weak duality), so that only the finer
rule's error matters; it has twice as many panels, and in few dimensions many more around
the kinks of the caps, which are found one by one. Twice the distance from the spline, plus
twice the full difference of that rule to one of fewer nodes, is taken off, the largest
among the neighbouring intervals, besides 1e-7: measured, not proved.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline, make_interp_spline
from scipy.special import erfinv, gammaln, ndtri

from rs4a.radii.cap import cap, half_minus_cap
from rs4a.radii.panels import change_between, edges_of_equal_progress, gauss_rule
from rs4a.radii.radial_law import ExpLaw, PowLaw
from rs4a.radii.rounding import FloatArray, complement, round_down
from rs4a.radii.special import bounded_exp, log_expm1

#: Thresholds are t = tau^2 / 2, tau nearly the normal quantile of 1 - p0: from 1/2 on an
#: arithmetic sequence, below a geometric one, over a range of logarithms that is stretched
#: where much of the mass is near 0 and 1/2 - p0 is a small power of t.
_LARGE_TAU = np.arange(0.5, 8.75, 0.08)
_SMALL_LOG_TAU_RANGE, _N_SMALL_TAU = 39.2, 150
_LARGEST_STRETCH = 8.5
#: Radial quantiles Phi(y); 1e-28 of the mass lies beyond each end.
_Y = np.linspace(-11.0, 11.0, 67)
#: Normal score of a cap beyond which the cap is practically constant.
_LARGEST_SCORE = 11.0
#: From this dimension on the kinks of a cap, at heights -1 and 1, are smooth enough.
_SMOOTH_FROM = 24
#: Range of the search for kinks below the norms and the shift, in logarithms.
_BELOW = 60.0
#: Distances of graded panels from a kink, down from the first to the second / k.
_GRADES, _N_GRADES = (10.0, 1e-7), 20
_PANELS, _MAX_PANELS = 64, 256
_NODES, _FEWER_NODES = 8, 6
#: Below floor - this / k, s^k has no weight.
_LOG_NOTHING = 45.0
_LOG_RANGE = 300.0
_LARGEST_SHRINKAGE = 280.0
_COARSE_BISECTIONS, _MAX_STEPS = 16, 40
_REACH, _STEP_TOLERANCE = 1.0, 1e-11
_MAX_PASSES = 12
_NEAR, _NEAR_KINKED = 0.1, 1e-4
#: Relative difference in the radius of the two rules above which the panels are halved.
_AGREEMENT = 1e-5
_DEGREE = 7
#: Intervals on either side whose measured errors a point shares, and the factor that
#: covers the error between the measured places.
_NEIGHBOURS, _SAFETY = 3, 2.0
_FEWEST_POINTS = 40
_ERROR = 1e-7
#: 1/2 - p0 is 0 or at least 2^-53.
_SMALLEST_LOG_Z = np.log(1e-17)


class _Rule(NamedTuple):
    """Heights of caps, with the weights of their expectation, and a constant share."""

    height: FloatArray  # (n_rows, n_nodes)
    weight: FloatArray  # (n_rows, n_nodes)
    mass_above_one: FloatArray  # (n_rows, 1), mass left out, where the height is above 1


class _LevelSets:
    """The integrals of one radial law at all thresholds t, one row each."""

    def __init__(self, law: ExpLaw | PowLaw, n_panels: int, graded: bool = False):
        self.law = law
        self.n_panels = n_panels
        self.graded = graded
        self.kinked = law.dim < _SMOOTH_FROM
        stretch = min(max(1.0, 0.6 / law.low_power), _LARGEST_STRETCH)
        share = np.linspace(1.0, 0.0, _N_SMALL_TAU, endpoint=False)
        depth = _SMALL_LOG_TAU_RANGE * (share + (stretch - 1.0) * share**2)
        tau = np.concatenate([_LARGE_TAU[0] * np.exp(-depth), _LARGE_TAU])
        self.t = 0.5 * tau[:, None] ** 2
        self.log_r = np.tile(law.log_quantile(_Y), (len(tau), 1))

    def at(self, t: FloatArray) -> None:
        """Replace the thresholds."""
        self.t = t
        self.log_r = np.tile(self.log_r[:1], (len(t), 1))

    def drop(self, n_rows: int) -> None:
        """Remove the smallest thresholds."""
        self.t, self.log_r = self.t[n_rows:], self.log_r[n_rows:]

    def first_guess(self) -> FloatArray:
        """Log e to one or two digits, by bisection with the quantiles of r as nodes."""
        q = self.law.outward(self.log_r, self.t)
        weight = np.exp(-0.5 * _Y**2)
        middle = self.log_r[:, [len(_Y) // 2]]
        low, high = middle - _LOG_RANGE, middle + _LOG_RANGE
        for _ in range(_COARSE_BISECTIONS):
            log_e = 0.5 * (low + high)
            height = _heights(log_e, self.log_r, q)
            negative = _sum(half_minus_cap(height, self.law.dim) * weight) < 0.0
            low, high = np.where(negative, log_e, low), np.where(negative, high, log_e)
        # Often the root is where the height is 0 at the median norm, to many digits.
        outer = q[:, [len(_Y) // 2]]
        at_median = middle + outer + 0.5 * np.log(-np.expm1(-2.0 * outer))
        return np.where(np.abs(at_median - log_e) < 0.2, at_median, log_e)

    def median_shift(self, log_e: FloatArray) -> FloatArray:
        """Log e for which -t is the median of L, given a guess."""
        log_r, weight = self._median_nodes(log_e, _NODES)
        q = self.law.outward(log_r, self.t)
        weight = weight * np.exp(self.law.log_density(log_r))
        below = 0.5 * self.law.mass_below(self.log_r[:, :1])

        def excess(
            log_e: FloatArray, rows: NDArray[np.intp]
        ) -> tuple[FloatArray, FloatArray]:
            height = _heights(log_e, log_r[rows], q[rows])
            value = half_minus_cap(height, self.law.dim) * weight[rows]
            # d height / d log e = e / r - height.
            growth = bounded_exp(log_e - log_r[rows]) - height
            density = _height_density(height, self.law.dim)
            return below[rows] + _sum(value), _sum(density * growth * weight[rows])

        return _root_of_increasing(excess, log_e)

    def median_error(self, log_e: FloatArray) -> FloatArray:
        """Change of log e with the other rule."""
        values = []
        for n_nodes in (_NODES, _FEWER_NODES):
            log_r, weight = self._median_nodes(log_e, n_nodes)
            height = _heights(log_e, log_r, self.law.outward(log_r, self.t))
            weight = weight * np.exp(self.law.log_density(log_r))
            values.append(_sum(half_minus_cap(height, self.law.dim) * weight))
        growth = bounded_exp(log_e - log_r) - height
        rate = _sum(_height_density(height, self.law.dim) * growth * weight)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.abs(values[0] - values[1]) / rate

    def _median_nodes(
        self, log_e: FloatArray, n_nodes: int
    ) -> tuple[FloatArray, FloatArray]:
        near_e = np.clip(
            log_e + np.linspace(-5.0, 5.0, 61), self.log_r[0, 0], self.log_r[0, -1]
        )
        grid = np.sort(np.concatenate([self.log_r, near_e], axis=1), axis=1)

        height = _heights(log_e, grid, self.law.outward(grid, self.t))
        features = [self._normal_quantile(grid), _scores(height, self.law.dim)]
        return self._nodes(grid, features, log_e, n_nodes)

    def median_excess(self, log_e: FloatArray, n_nodes: int) -> FloatArray:
        """1/2 - P(L > -t)."""
        log_r, weight = self._median_nodes(log_e, n_nodes)
        height = _heights(log_e, log_r, self.law.outward(log_r, self.t))
        weight = weight * np.exp(self.law.log_density(log_r))
        below = 0.5 * self.law.mass_below(self.log_r[:, :1])
        return below + _sum(half_minus_cap(height, self.law.dim) * weight)

    def proved_score(self, log_e: FloatArray, n_nodes: int) -> FloatArray:
        """Normal quantile of a probability whose radius is e or more.

        For every t, a set of mass p has at most the mass e^t p + P(L < -t) - e^t P(L > t)
        after the shift: a small error in e or t costs its square.
        """
        by_median = np.exp(-self.t) * self.median_excess(log_e, n_nodes)
        return self.normal_score(log_e, n_nodes, by_median)

    def normal_score(
        self, log_e: FloatArray, n_nodes: int, correction: float | FloatArray = 0.0
    ) -> FloatArray:
        """Normal quantile of 1 - p0, p0 = P(L > t) minus a correction."""
        rule = self._tail_rule(log_e, n_nodes)
        p0 = _sum(cap(np.maximum(rule.height, 0.0), self.law.dim) * rule.weight)
        p0 = p0 - correction
        lacking = (
            0.5 * rule.mass_above_one
            + correction
            + _sum(half_minus_cap(rule.height, self.law.dim) * rule.weight)
        )
        near_half = np.sqrt(2.0) * erfinv(2.0 * np.minimum(lacking, 0.25))
        return np.where(lacking < 0.25, near_half, -ndtri(np.clip(p0, 0.0, 0.5)))

    def _tail_rule(self, log_e: FloatArray, n_nodes: int) -> _Rule:
        low, grid, floor = self._tail_grid(log_e)
        q = self.law.outward(grid, self.t)
        features = [
            self._normal_quantile(grid + q),
            _scores(_heights(log_e, grid + q, -q), self.law.dim),
            self.law.k * np.minimum(grid - floor, 0.0),
        ]
        log_s, weight = self._nodes(grid, features, log_e, n_nodes)
        q = self.law.outward(log_s, self.t)
        # d log r / d log s, from psi(r) = psi(s) + t.
        steepness = self.law.log_steepness
        stretch = bounded_exp(steepness(log_s) - steepness(log_s + q))
        weight = weight * stretch * np.exp(self.law.log_density(log_s + q))
        lowest = self.law.mass_below(low + self.law.outward(low, self.t))
        return _Rule(_heights(log_e, log_s + q, -q), weight, lowest)

    def _tail_grid(self, log_e: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        law, t = self.law, self.t
        inward = law.inward(self.log_r, t)
        floor = law.floor(t)
        high = np.where(np.isfinite(inward[:, -1:]), inward[:, -1:], self.log_r[:, -1:])
        low = np.maximum(inward[:, :1], floor - _LOG_NOTHING / law.k)
        low = np.minimum(low, high - 1e-3)
        near_e = np.clip(
            log_e + np.linspace(-2.0, 2.0, 31), self.log_r[0, 0], self.log_r[0, -1]
        )
        at_v = law.inward(log_e, t)  # the ball around v inside {L > t}, if it is small
        parts = [
            inward,
            high - (high - low) * np.geomspace(1e-5, 1.0, 64),
            law.inward(near_e, t),
            at_v + bounded_exp(at_v - log_e) * np.linspace(-2.0, 2.0, 9),
        ]
        grid = np.sort(np.clip(np.concatenate(parts, axis=1), low, high), axis=1)
        return low, grid, floor

    def _nodes(
        self,
        grid: FloatArray,
        features: list[FloatArray],
        log_e: FloatArray,
        n_nodes: int,
    ) -> tuple[FloatArray, FloatArray]:
        edges = edges_of_equal_progress(grid, features, self.n_panels)
        if self.kinked:
            kinks = np.clip(self._kinks(log_e), grid[:, :1], grid[:, -1:])
            edges = np.sort(np.concatenate([edges, kinks], axis=1), axis=1)
        return gauss_rule(edges, n_nodes, half_powers=self.kinked)

    def _kinks(self, log_e: FloatArray) -> FloatArray:
        """Logs of all smaller norms x at which the larger one is x + e or e - x.

        There the height of a cap is -1 or 1. The gap psi(x + e) - psi(x) falls, grows, or
        turns once, as psi' does: it is t at most twice, once on either side of its turn,
        which is an edge too since the height may nearly touch -1 there. The gap
        psi(e - x) - psi(x) falls.
        """
        law, t = self.law, self.t
        low = np.minimum(self.log_r[:, :1], log_e) - _BELOW
        high = np.maximum(self.log_r[:, -1:], low + _BELOW)

        def grows(x: FloatArray) -> NDArray[np.bool_]:
            farther = np.logaddexp(0.0, log_e - x)
            return law.log_steepness(x + farther) - law.log_steepness(x) > farther

        def far(x: FloatArray) -> NDArray[np.bool_]:
            return law.growth(x, np.logaddexp(0.0, log_e - x)) > t

        def far_across(x: FloatArray) -> NDArray[np.bool_]:
            return law.growth(x, np.maximum(log_expm1(log_e - x), 0.0)) > t

        turn = change_between(grows, low, high)
        ends = np.concatenate([low, turn], axis=1), np.concatenate([turn, high], axis=1)
        half = np.minimum(log_e - np.log(2.0), high)
        across = change_between(far_across, low, half)
        kinks = np.concatenate([turn, change_between(far, *ends), across], axis=1)
        if not self.graded:
            return kinks
        grades = np.geomspace(_GRADES[0], _GRADES[1] / max(law.k, 1.0), _N_GRADES)
        distance = np.concatenate([-grades, [0.0], grades])
        return (kinks[:, :, None] + distance).reshape(len(kinks), -1)

    def _normal_quantile(self, log_r: FloatArray) -> FloatArray:
        return np.interp(log_r, self.log_r[0], _Y)


def _sum(values: FloatArray) -> FloatArray:
    return values.sum(axis=1, keepdims=True)


def _heights(log_e: FloatArray, log_r: FloatArray, q: FloatArray) -> FloatArray:
    """(r^2 + e^2 - s^2) / (2 r e) with q = log(s / r), cut off at -2 and 2."""
    larger = np.maximum(log_r, log_r + q)
    gap = bounded_exp(2.0 * larger - log_r - log_e) * -np.expm1(-2.0 * np.abs(q))
    return np.clip(0.5 * (bounded_exp(log_e - log_r) - np.copysign(gap, q)), -2.0, 2.0)


def _scores(height: FloatArray, dim: int) -> FloatArray:
    """Nearly the normal score of the cap."""
    with np.errstate(divide="ignore"):
        squared = (1.0 - dim) * np.log1p(-np.minimum(height**2, 1.0))
    return np.copysign(np.minimum(np.sqrt(squared), _LARGEST_SCORE), height)


def _height_density(height: FloatArray, dim: int) -> FloatArray:
    """Density of u_1, cut off at its poles in two dimensions."""
    log_peak = gammaln(0.5 * dim) - gammaln(0.5 * (dim - 1)) - 0.5 * np.log(np.pi)
    inside = np.log1p(-np.minimum(height**2, 1.0 - 1e-6))
    return np.where(np.abs(height) < 1.0, np.exp(log_peak + 0.5 * (dim - 3) * inside), 0.0)


def _root_of_increasing(
    function: Callable[[FloatArray, NDArray[np.intp]], tuple[FloatArray, FloatArray]],
    x: FloatArray,
) -> FloatArray:
    """Roots of increasing functions near x, by Newton's method kept between bounds.

    Each step evaluates the rows alone whose last step was not tiny.
    """
    low, high, x = x - _REACH, x + _REACH, x.copy()
    rows = np.arange(len(x))
    for _ in range(_MAX_STEPS):
        value, slope = function(x[rows], rows)
        low[rows] = np.where(value < 0.0, x[rows], low[rows])
        high[rows] = np.where(value > 0.0, x[rows], high[rows])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            following = x[rows] - value / slope
        bisect = ~((following >= low[rows]) & (following <= high[rows]))
        step = np.where(bisect, 0.5 * (low[rows] + high[rows]), following) - x[rows]
        x[rows] += step
        if not len(rows := rows[np.abs(step[:, 0]) >= _STEP_TOLERANCE]):
            break
    return x


class _Table(NamedTuple):
    log_e: BSpline  # of log z
    log_z: FloatArray
    error: FloatArray  # relative, at every log z


@lru_cache(maxsize=64)
def _table(law: ExpLaw | PowLaw) -> _Table | None:
    """The curve as a spline; None where float64 cannot hold enough of it."""
    n_panels = _PANELS
    while True:
        log_z, log_e, t, difference = _curve(law, n_panels)
        if difference < _AGREEMENT or n_panels >= _MAX_PANELS:
            break
        n_panels *= 2
    if len(log_z) < _FEWEST_POINTS:
        return None
    spline = make_interp_spline(log_z, log_e, k=_DEGREE)
    distance = _distance(law, 2 * n_panels, spline, log_z, t)
    error = _ERROR + _SAFETY * _largest_nearby(distance)
    return _Table(spline, log_z, np.minimum(error, 1.0))


def _distance(
    law: ExpLaw | PowLaw, n_panels: int, spline: BSpline, log_z: FloatArray, t: FloatArray
) -> FloatArray:
    """Distance of the spline from the proof of a finer rule, half-way between points."""
    half_way = 0.5 * (log_z[1:] + log_z[:-1])
    log_t = np.log(t)
    # t grows; where it leaps, a spline overshoots.
    between = make_interp_spline(log_z, log_t, k=_DEGREE)(half_way)
    sets = _LevelSets(law, n_panels, graded=True)
    sets.at(np.exp(np.clip(between, log_t[:-1], log_t[1:]))[:, None])
    log_e = spline(half_way)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        proved, by_fewer = (
            np.log(sets.proved_score(log_e, n)[:, 0]) for n in (_NODES, _FEWER_NODES)
        )
        slope = np.abs(spline.derivative()(half_way))
        distance = slope * (np.abs(proved - half_way) + np.abs(proved - by_fewer))
    return np.where(np.isfinite(distance), distance, 1.0)


def _largest_nearby(distance: FloatArray) -> FloatArray:
    """At every point the largest of the intervals around it."""
    padded = np.pad(distance, _NEIGHBOURS, mode="edge")
    return sliding_window_view(padded, 2 * _NEIGHBOURS).max(axis=1)


def _curve(
    law: ExpLaw | PowLaw, n_panels: int
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """Log z and log e, and by how much the other Gauss rule changes log e."""
    sets = _LevelSets(law, n_panels)
    log_e = sets.first_guess()
    too_small = int(np.count_nonzero(log_e[:, 0] < -_LARGEST_SHRINKAGE))
    sets.drop(too_small)
    log_e = log_e[too_small:]
    if len(log_e) < _FEWEST_POINTS:
        return log_e[:, 0], log_e[:, 0], sets.t[:, 0], 0.0
    for _ in range(_MAX_PASSES):  # the panels lie where the last guess says
        guess, log_e = log_e, sets.median_shift(log_e)
        if (np.abs(log_e - guess) < (_NEAR_KINKED if sets.kinked else _NEAR)).all():
            break
    z, z_of_fewer = (sets.normal_score(log_e, n) for n in (_NODES, _FEWER_NODES))
    with np.errstate(divide="ignore", invalid="ignore"):
        log_z, difference = np.log(z[:, 0]), np.abs(np.log(z / z_of_fewer)[:, 0])
    good = _ascending_part(log_z, log_e[:, 0])
    log_z, log_e_of_z, t = log_z[good], log_e[good, 0], sets.t[good, 0]
    if len(log_z) < _FEWEST_POINTS:
        return log_z, log_e_of_z, t, 0.0
    slope = make_interp_spline(log_z, log_e_of_z, k=_DEGREE).derivative()(log_z)
    difference = difference[good] * np.abs(slope) + sets.median_error(log_e)[good, 0]
    return log_z, log_e_of_z, t, float(np.max(difference))


def _ascending_part(log_z: FloatArray, log_e: FloatArray) -> slice:
    """The rows around z = 1 where both are finite and grow.

    Beyond them a norm is too small, or a probability, for float64.
    """
    with np.errstate(invalid="ignore"):
        grows = (np.diff(log_z) > 0.0) & (np.diff(log_e) > 0.0)
        grows &= (log_z[:-1] > _SMALLEST_LOG_Z) & (log_z[1:] < np.inf)
    breaks = np.flatnonzero(~grows)
    middle = len(log_z) - len(_LARGE_TAU) + 6
    first = int(np.max(breaks[breaks < middle], initial=-1)) + 1
    last = int(np.min(breaks[breaks >= middle], initial=len(grows)))
    return slice(first, last + 1)


def exp_two_l2(prob_lower: ArrayLike, dim: int, k: float, j: float) -> FloatArray:
    """Density ||x||_2^-j exp(-||x||_2^k), l2 adversary; exact ([Y], level sets).

    Parameters
    ----------
    prob_lower : array-like of any shape
        Lower bounds on the probability of the top class.

    dim : int
        Number of coordinates d of an input, at least 2.

    k : float
        Exponent, above 0.

    j : float
        Exponent of the pole, in [0, dim).

    Returns
    -------
    radius : ndarray of float64, of the shape of `prob_lower`
        At unit scale, rounded down.
    """
    return _radius(prob_lower, ExpLaw(dim, float(k), float(j)))


def pow_two_l2(prob_lower: ArrayLike, dim: int, k: float, a: float) -> FloatArray:
    """Density (1 + ||x||_2^k)^-a, l2 adversary; exact ([Y], level sets).

    Parameters
    ----------
    prob_lower : array-like of any shape
        Lower bounds on the probability of the top class.

    dim : int
        Number of coordinates d of an input, at least 2.

    k : float
        Exponent of the norm, above 0.

    a : float
        Exponent of the density, above dim / k.

    Returns
    -------
    radius : ndarray of float64, of the shape of `prob_lower`
        At unit scale, rounded down.
    """
    return _radius(prob_lower, PowLaw(dim, float(k), float(a)))


def _radius(prob_lower: ArrayLike, law: ExpLaw | PowLaw) -> FloatArray:
    table = _table(law)
    p0 = complement(prob_lower)
    if table is None:
        return np.zeros_like(p0)
    with np.errstate(divide="ignore"):
        log_z = np.log(-ndtri(p0))
    # Above the last point the radius of the last point still holds, below the first
    # one nothing does.
    log_e = table.log_e(np.clip(log_z, table.log_z[0], table.log_z[-1]))
    error = np.interp(log_z, table.log_z, table.error)
    radius = round_down(bounded_exp(log_e), error)
    radius = np.where(log_z < table.log_z[0], 0.0, radius)
    return np.where(p0 > 0.0, radius, np.inf)
