"""Certified radii in closed form, at unit scale.

Every function takes a lower bound on the probability of the top class and returns
the l_p radius of the noise at scale lambda = 1, as float64 and of the same shape. The
value is correct to a few units in the last place and not yet rounded: callers multiply
by the scale and call :func:`rs4a.radii.round_down` once, at the end.

References
----------
.. [C] Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized
   Smoothing", ICML 2019, arXiv:1902.02918.
.. [T] Teng, Lee, Yuan, "l1 Adversarial Robustness Certificates: a Randomized
   Smoothing Approach", 2019.
.. [Y] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
   arXiv:2002.08118.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from rs4a.radii.rounding import FloatArray, complement

__all__ = ["gaussian_l2", "laplace_l1", "uniform_l1", "uniform_linf"]


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
    is so near to 1 that the plain difference would lose five digits.

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
