"""No class of probability rho loses its majority within the radius, by Neyman-Pearson.

Noise X of density q. The class that a shift by v hurts most gives away half of the
shifted noise X + v where this costs the least mass of X: where m = q(x + v) / q(x) is
smallest at the shifted points x + v. So a radius holds if the mean over x ~ q of m in its
smaller half is at least 1 - rho for all v of that norm. The points x are equally weighted
quantiles in one dimension, and a Fibonacci lattice turned into noise in two. Nothing but
the densities is used; ties of m and bounded supports need no care.
"""

import math
from typing import NamedTuple

import numpy as np
import pytest
from scipy.special import betaincinv, gammaincinv, ndtri

from rs4a import radii

N_POINTS = 46_368  # an even Fibonacci number
#: Here the differential method is nearly exact, elsewhere it only is sound.
NEAR_HALF = 0.501
RHO = [NEAR_HALF, 0.55, 0.75, 0.95, 0.999]
#: Relative error of the mass that a class needs, measured as below two thirds of this.
LATTICE_ERROR = 3e-4
DIRECTIONS = [(1.0, 0.0), (1.0, 1.0), (1.0, 0.35), (-0.6, 1.0)]


class Noise(NamedTuple):
    """Points of the noise, shape (n, dim), and the logarithm of its density there."""

    points: np.ndarray
    log_density: object

    def lattice_error(self, mass):
        """Under bounded noise, m is 0 or 1: points are counted, and the error absolute."""
        bounded = np.isneginf(self.log_density(self.points[:1] + 10.0)).all()
        return LATTICE_ERROR * (1.0 if bounded else mass)


def lattice(dim):
    index = np.arange(N_POINTS)
    first = (index + 0.5) / N_POINTS
    second = (index * 28_657 % N_POINTS + 0.5) / N_POINTS  # the Fibonacci number before
    return np.stack([first, second][:dim], axis=1)


def iid(dim, quantile, log_density):
    """Independent coordinates; `quantile` is that of their absolute value."""
    u = 2 * lattice(dim) - 1
    points = np.copysign(quantile(np.abs(u)), u)
    return Noise(points, lambda x: log_density(np.abs(x)).sum(axis=1))


def radial(order, quantile, log_density):
    """A norm r in two dimensions, times a uniform point of the sphere of that norm."""
    u, turn = lattice(2).T
    side, along = np.divmod(4 * turn, 1)
    if order == 2:
        sphere = np.stack([np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)], axis=1)
    else:  # the four sides of the diamond or the square, each the first one turned
        first = [1 - along, along] if order == 1 else [np.ones_like(along), 2 * along - 1]
        turned = [first, [-first[1], first[0]]]
        turned += [[-x, -y] for x, y in turned]
        sphere = np.choose(side.astype(int), [np.stack(point) for point in turned]).T
    points = quantile(u)[:, None] * sphere
    return Noise(points, lambda x: log_density(np.linalg.norm(x, order, axis=1)))


def exp(order, k, j=0.0):
    return radial(
        order,
        lambda u: gammaincinv((2 - j) / k, u) ** (1 / k),
        lambda r: -(r**k) - j * np.log(r),
    )


def power(order, k, a):
    def quantile(u):
        beta = betaincinv(2 / k, a - 2 / k, u)
        return (beta / (1 - beta)) ** (1 / k)

    return radial(order, quantile, lambda r: -a * np.log1p(r**k))


def inside(x):
    return np.where(x <= 1, 0.0, -np.inf)


def gaussian(dim):
    return iid(dim, lambda u: ndtri((1 + u) / 2), lambda x: -(x**2) / 2)


def laplace(dim):
    return iid(dim, lambda u: -np.log1p(-u), np.negative)


def uniform(dim):
    return iid(dim, lambda u: u, inside)


def pareto(dim, a):
    return iid(dim, lambda u: (1 - u) ** (-1 / a) - 1, lambda x: -(a + 1) * np.log1p(x))


def expp(dim, p):
    return iid(dim, lambda u: gammaincinv(1 / p, u) ** (1 / p), lambda x: -(x**p))


def mass_needed(noise, shift):
    """Smallest mass under the noise of a class that has half of the shifted noise."""
    log_ratio = noise.log_density(noise.points + shift) - noise.log_density(noise.points)
    return np.exp(np.partition(log_ratio, N_POINTS // 2)[: N_POINTS // 2]).sum() / N_POINTS


def least_mass_needed(noise, radius, norm):
    dim = noise.points.shape[1]
    shifts = np.unique(np.array(DIRECTIONS)[:, :dim], axis=0)
    shifts = shifts[np.any(shifts != 0, axis=1)]
    lengths = np.linalg.norm(shifts, norm, axis=1, keepdims=True)
    return min(mass_needed(noise, shift) for shift in radius * shifts / lengths)


# Noise, norm, radius and whether it is the largest one that rho allows.
CASES = {
    "gaussian-1": (lambda: gaussian(1), 2, radii.gaussian_l2, True),
    "gaussian-2": (lambda: gaussian(2), 2, radii.gaussian_l2, True),
    "laplace-1": (lambda: laplace(1), 1, radii.laplace_l1, True),
    "laplace-2": (lambda: laplace(2), 1, radii.laplace_l1, True),
    "laplace-linf-1": (lambda: laplace(1), math.inf, (radii.laplace_linf, 1), True),
    "laplace-linf-2": (lambda: laplace(2), math.inf, (radii.laplace_linf, 2), False),
    "uniform-1": (lambda: uniform(1), 1, radii.uniform_l1, True),
    "uniform-2": (lambda: uniform(2), 1, radii.uniform_l1, True),
    "uniform-linf-1": (lambda: uniform(1), math.inf, (radii.uniform_linf, 1), True),
    "uniform-linf-2": (lambda: uniform(2), math.inf, (radii.uniform_linf, 2), True),
    "uniform-ball-1": (lambda: uniform(1), 2, (radii.uniform_ball_l2, 1), True),
    "uniform-ball-2": (
        lambda: radial(2, np.sqrt, inside),
        2,
        (radii.uniform_ball_l2, 2),
        True,
    ),
}
for dim in (1, 2):
    for a in (0.5, 3.0):
        CASES[f"pareto-{a}-{dim}"] = (
            lambda dim=dim, a=a: pareto(dim, a),
            1,
            (radii.pareto_l1, a),
            False,
        )
    for p in (0.5, 1.0, 1.5, 4.0):
        CASES[f"expp-{p}-{dim}"] = (
            lambda dim=dim, p=p: expp(dim, p),
            1,
            (radii.expp_l1, p),
            p >= 1,
        )
for k, j in [(2, 0), (1, 0), (4, 0), (2, 1), (0.5, 0.3), (1, 1.5)]:
    CASES[f"exp-two-{k}-{j}"] = (
        lambda k=k, j=j: exp(2, k, j),
        2,
        (radii.exp_two_l2, 2, k, j),
        True,
    )
for k, a in [(2, 2.5), (1, 5.0), (4, 1.1)]:
    CASES[f"pow-two-{k}-{a}"] = (
        lambda k=k, a=a: power(2, k, a),
        2,
        (radii.pow_two_l2, 2, k, a),
        True,
    )
for norm in (math.inf, 1):
    for k, j in [(1, 0), (2, 0), (0.5, 0), (1, 0.5), (0.5, 0.5), (2, 0.5), (3, 0.8)]:
        CASES[f"exp-inf-l{norm}-{k}-{j}"] = (
            lambda k=k, j=j: exp(math.inf, k, j),
            norm,
            (radii.exp_inf, norm, 2, k, j),
            (k, j, norm) == (1, 0, math.inf),
        )
    for a in (2.5, 4.5, 10.0):
        CASES[f"pow-inf-l{norm}-{a}"] = (
            lambda a=a: power(math.inf, 1, a),
            norm,
            (radii.pow_inf, norm, 2, a),
            False,
        )
for k in (0.5, 1, 2, 10):
    CASES[f"exp-one-{k}"] = (lambda k=k: exp(1, k), 1, (radii.exp_one_l1, 2, k), k == 1)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_no_class_loses_its_majority_within_the_radius(case):
    make_noise, norm, function, exact = case
    function, *parameters = function if isinstance(function, tuple) else (function,)
    noise = make_noise()
    for rho, radius in zip(RHO, function(RHO, *parameters), strict=True):
        error = noise.lattice_error(1 - rho)
        assert least_mass_needed(noise, radius, norm) >= 1 - rho - error
        # A little farther away a class does; near 1/2 under every noise.
        if exact or rho == NEAR_HALF:
            farther = 1.05 if exact and rho > NEAR_HALF else 2.0
            assert least_mass_needed(noise, farther * radius, norm) < 1 - rho - 2 * error
