"""Laplace noise against an linf adversary, by the differential method.

Yang et al., ICML 2020 (arXiv:2002.08118), Theorem for Laplace noise and linf: with
B ~ Bin(d, 1/2), P_m = P(B >= m) and Phi(P_m) = m C(d, m) 2^-d, Phi linear between, the
certified radius at unit scale is the integral of dp / Phi(p) from p0 to 1/2.

Error: the binomial weights are one running product of ratios, normalised by the mass 1/2
of the upper half, so that no gamma function is needed. Products and sums of at most 8 000
positive terms lose less than 8 000 units in the last place each, and the radius inherits
their relative error: 2^-37 in all, which is taken off at the end.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from rs4a.radii.differential import Pieces, integral, pieces_of_lines
from rs4a.radii.rounding import FloatArray, complement, round_down

_TABLE_ERROR = 2.0**-37
#: Weights below this, relative to the central one, are left out. Float64 complements of a
#: probability are 0 or at least 2^-53, far above the mass that is left out.
_SMALLEST_WEIGHT = 1e-250


@lru_cache(maxsize=64)
def _pieces(dim: int) -> Pieces:
    lowest = dim // 2 + 1  # the first m with P_m <= 1/2
    # 40 standard deviations of B hold every weight above _SMALLEST_WEIGHT.
    end = min(dim + 1, lowest + 40 * int(np.sqrt(dim / 4) + 1))
    count = np.arange(lowest, end, dtype=np.float64)
    ratios = (dim - count[:-1]) / (count[:-1] + 1.0)
    weight = np.cumprod(np.concatenate([[1.0], ratios]))
    weight, count = weight[weight > _SMALLEST_WEIGHT], count[weight > _SMALLEST_WEIGHT]
    tail = np.cumsum(weight[::-1])[::-1]
    half = tail[0]
    if dim % 2 == 0:  # half of the central weight C(d, d/2) belongs to the upper half
        half += 0.5 * lowest / (dim / 2)
    mass, phi = 0.5 * tail / half, 0.5 * count * weight / half
    slope = 2.0 * count - dim
    if dim % 2 == 0:  # between P_{d/2 + 1} and 1/2 Phi is flat
        mass, phi = np.append(0.5, mass), np.append(phi[0], phi)
        slope = np.append(0.0, slope)
    mass[0] = 0.5  # by symmetry, exactly
    # Every line goes through the breakpoint at its lower end; the last one through 0.
    return pieces_of_lines(mass, np.append(mass[1:], 0.0), np.append(phi[1:], 0.0), slope)


def laplace_linf(prob_lower: ArrayLike, dim: int) -> FloatArray:
    """Laplace noise at unit scale, linf adversary; a sound lower bound, rounded down.

    Parameters
    ----------
    prob_lower : array-like of any shape
        Lower bounds on the probability of the top class.

    dim : int
        Number of coordinates of an input.

    Returns
    -------
    radius : ndarray of float64, of the shape of `prob_lower`
        Certified linf radius; 0 at probabilities up to 1/2.
    """
    return round_down(integral(_pieces(dim), complement(prob_lower)), _TABLE_ERROR)
