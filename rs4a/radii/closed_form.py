"""Certified radii in closed form, at unit scale.

A radius function takes a lower bound on the probability of the top class and returns the
l_p radius of the noise at scale lambda = 1, as float64 and of the same shape. The value is
correct to a few units in the last place and not rounded down yet: callers multiply by the
scale and call :func:`rs4a.radii.round_down` once, at the end.

The last two functions reduce bounds on two classes to a bound q on one. Under Gaussian and
uniform noise an attack moves the probabilities of the top class and of the runner-up in the
same way, and q proves as much as both bounds, in every norm that has a radius. q is above
prob_lower where further classes hold a part of the rest, and is rounded down.

References
----------
.. [C] Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized
   Smoothing", ICML 2019, arXiv:1902.02918.
.. [T] Teng, Lee, Yuan, "l1 Adversarial Robustness Certificates: a Randomized
   Smoothing Approach", 2019.
.. [Y] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
   arXiv:2002.08118.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from numpy.typing import ArrayLike
from scipy.special import bernoulli, betaincinv, binom, digamma, factorial, ndtr, ndtri

from rs4a.radii.rounding import FloatArray, complement, round_down

#: Where the series of the hypergeometric function around 0 and around 1 meet.
_PARETO_BORDER = math.log(2.0)
_TERMS_AROUND_ZERO, _TERMS_AROUND_ONE = 54, 18
_UNIFORM_BALL_DEGREE = 20
#: Error of a sum of some fifty terms, or of the inverse of an incomplete beta function.
_SERIES_ERROR = 2.0**-40
#: Relative error allowed to ndtr and ndtri together, and twice the last place of a number
#: below 1.
_TAIL_ERROR, _LAST_PLACE = 2.0**-40, 2.0**-52


def gaussian_l2(prob_lower: ArrayLike) -> FloatArray:
    """Gaussian noise, l2 adversary: ndtri(prob_lower); exact ([C], Theorem 1).

    Computed as -ndtri(1 - prob_lower): the small tail keeps its digits.

    Parameters
    ----------
    prob_lower : array-like of any shape
        Lower bounds on the probability of the top class.

    Returns
    -------
    radius : ndarray of float64, of the shape of `prob_lower`
        At unit scale; not rounded down yet.
    """
    return np.maximum(-ndtri(complement(prob_lower)), 0.0) + 0.0


def laplace_l1(prob_lower: ArrayLike) -> FloatArray:
    """Laplace noise, l1 adversary: -log(2 (1 - prob_lower)); exact ([T]).

    Parameters
    ----------
    prob_lower : array-like of any shape
        Lower bounds on the probability of the top class.

    Returns
    -------
    radius : ndarray of float64, of the shape of `prob_lower`
        At unit scale; not rounded down yet.
    """
    with np.errstate(divide="ignore"):  # probability 1: the radius is infinite
        return np.maximum(-np.log(2.0 * complement(prob_lower)), 0.0) + 0.0


def uniform_l1(prob_lower: ArrayLike) -> FloatArray:
    """Noise uniform on [-1, 1]^d, l1 adversary: 2 (prob_lower - 1/2); exact ([Y]).

    Parameters
    ----------
    prob_lower : array-like of any shape
        Lower bounds on the probability of the top class.

    Returns
    -------
    radius : ndarray of float64, of the shape of `prob_lower`
        At unit scale; not rounded down yet.
    """
    return 1.0 - 2.0 * complement(prob_lower)


def uniform_linf(prob_lower: ArrayLike, dim: int) -> FloatArray:
    """Noise uniform on [-1, 1]^d, linf adversary; exact ([Y]).

    2 (1 - (3/2 - prob_lower)^(1/d)) through log1p and expm1: at d = 150528 the power
    is so close to 1 that 1 minus the power would lose five digits.

    Parameters
    ----------
    prob_lower : array-like of any shape
        Lower bounds on the probability of the top class.

    dim : int
        Number of coordinates of an input.

    Returns
    -------
    radius : ndarray of float64, of the shape of `prob_lower`
        At unit scale; not rounded down yet.
    """
    log_mass = np.log1p(complement(prob_lower) - 0.5)
    return np.maximum(-2.0 * np.expm1(log_mass / dim), 0.0) + 0.0


def pareto_l1(prob_lower: ArrayLike, a: float) -> FloatArray:
    """Density ``prod (1 + |x_i|)^-(a + 1)``, l1 adversary; a sound lower bound ([Y]).

    q / a * 2F1(1, c; 1 + c; q^(1/c)) with q = 2 prob_lower - 1 and c = a / (a + 1). Near
    q = 1 the function is a logarithm, which depends on the distance of q from 1: the
    series there is in log(q) / c, and elsewhere in q^(1/c).

    Parameters
    ----------
    prob_lower : array-like of any shape
        Lower bounds on the probability of the top class.

    a : float
        Exponent of the tail, above 0.

    Returns
    -------
    radius : ndarray of float64, of the shape of `prob_lower`
        At unit scale, rounded down.
    """
    c = a / (a + 1.0)
    p0 = complement(prob_lower)
    with np.errstate(divide="ignore"):  # q = 0: the radius is 0
        y = -np.log1p(-2.0 * p0) / c
    power = np.exp(-np.maximum(y, _PARETO_BORDER))
    around_zero = Polynomial(1.0 / (np.arange(_TERMS_AROUND_ZERO) + c))(power)
    near = np.minimum(y, _PARETO_BORDER)
    with np.errstate(divide="ignore"):  # q = 1: the radius is infinite
        around_one = digamma(1.0) - digamma(c) - np.log(near) - _bernoulli_series(c)(-near)
    values = np.where(y < _PARETO_BORDER, around_one, (1.0 - 2.0 * p0) * around_zero) / (
        a + 1.0
    )
    return round_down(values, _SERIES_ERROR)


def _bernoulli_series(c: float) -> Polynomial:
    """Sum over n > 0 of B_n(c) x^n / (n n!)."""
    degree = np.arange(_TERMS_AROUND_ONE)
    numbers = bernoulli(_TERMS_AROUND_ONE)
    values = [
        sum(binom(n, i) * numbers[i] * c ** (n - i) for i in range(n + 1)) for n in degree
    ]
    return Polynomial(
        np.append(0.0, np.array(values[1:]) / (degree[1:] * factorial(degree[1:])))
    )


def uniform_ball_l2(prob_lower: ArrayLike, dim: int) -> FloatArray:
    """Noise uniform on the unit ball, l2 adversary; exact ([Y]).

    The R with cap_{d+2}(R / 2) = 3/4 - prob_lower / 2, that is
    I_{R^2 / 4}(1/2, (d + 1) / 2) = prob_lower - 1/2. R is a smooth odd function of the
    right side, at most 1/2, so that a short Chebyshev series has all its digits.

    Parameters
    ----------
    prob_lower : array-like of any shape
        Lower bounds on the probability of the top class.

    dim : int
        Number of coordinates d of an input.

    Returns
    -------
    radius : ndarray of float64, of the shape of `prob_lower`
        At unit scale, rounded down.
    """
    share = 0.5 - complement(prob_lower)
    return round_down(share * _uniform_ball_ratio(dim)(share**2), _SERIES_ERROR)


@lru_cache(maxsize=64)
def _uniform_ball_ratio(dim: int) -> Chebyshev:
    """R / share as a function of share^2."""

    def exact(squared: FloatArray) -> FloatArray:
        share = np.sqrt(squared)
        return 2.0 * np.sqrt(betaincinv(0.5, 0.5 * (dim + 1), share)) / share

    return Chebyshev.interpolate(exact, _UNIFORM_BALL_DEGREE, domain=[0.0, 0.25])


def gaussian_one_bound(prob_lower: FloatArray, prob_runner_up: FloatArray) -> FloatArray:
    """Single bound that proves the same under Gaussian noise.

    ndtri(q) = (ndtri(prob_lower) - ndtri(prob_runner_up)) / 2; Cohen et al. 2019,
    Theorem 1.

    Parameters
    ----------
    prob_lower : ndarray of float64
        Lower bounds on the probability of the top class.

    prob_runner_up : ndarray of float64
        Upper bounds on the probability of every other class.

    Returns
    -------
    q : ndarray of float64
        In [0, 1), rounded down.
    """
    with np.errstate(invalid="ignore"):
        z = 0.5 * (ndtri(prob_lower) - ndtri(prob_runner_up))
    rest = ndtr(-np.where(np.isnan(z), -np.inf, z))
    return np.maximum(1.0 - (rest * (1.0 + _TAIL_ERROR) + _LAST_PLACE), 0.0)


def uniform_one_bound(prob_lower: FloatArray, prob_runner_up: FloatArray) -> FloatArray:
    """Single bound that proves the same under noise uniform on a cube.

    An attack moves equal mass from the top class and to the runner-up, so
    q = (1 + prob_lower - prob_runner_up) / 2.

    Parameters
    ----------
    prob_lower : ndarray of float64
        Lower bounds on the probability of the top class.

    prob_runner_up : ndarray of float64
        Upper bounds on the probability of every other class.

    Returns
    -------
    q : ndarray of float64
        In [0, 1), rounded down.
    """
    q = 0.5 * (1.0 + (prob_lower - prob_runner_up))
    return np.maximum(q - _LAST_PLACE, 0.0)
