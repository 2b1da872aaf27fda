"""Radii from bounds on two classes, reduced to radii from a bound on one.

Where an attack moves the probabilities of the top class and of the runner-up in the same
way, bounds prob_lower and prob_runner_up prove what a single bound q does, for every norm
that the noise has a radius for. q is above prob_lower where other classes hold a part of
the rest, and is rounded down.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

__all__ = ["gaussian_one_bound", "uniform_one_bound"]

FloatArray = NDArray[np.float64]

#: Relative error allowed to ndtr and ndtri together, and the last place of a number
#: below 1, twice.
_TAIL_ERROR, _LAST_PLACE = 2.0**-40, 2.0**-52


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

    An attack adds the same mass to the runner-up that it can take from the top class, so
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
