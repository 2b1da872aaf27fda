"""Radii by the differential method, from above and below at once.

Yang et al., ICML 2020 (arXiv:2002.08118): if a shift of length dr moves at most
Phi(p) dr of mass into a class of probability p, then the radius is at least the
integral of dp / Phi(p). Phi is concave: Phi(p) is the score of the best set of mass p,
and its slope is the score at the border of that set. So every tangent lies above Phi
and every chord below. The integral along tangents has a closed form and is never above the
true integral. Tangents are added until the chords show that the error of the integrand is
within the tolerance.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rs4a.radii.rounding import FloatArray

_FIRST_NODES = 129
_MAX_ROUNDS = 60
_MAX_NODES = 2**18
#: Growth of Phi over a piece below which two terms of the logarithm have all its digits.
_FLAT = 1e-9
#: Float64 complements of a probability are 0 or at least 2^-53: below, no line is needed.
SMALLEST_MASS = 2.0**-56

#: Mass, rate and slope, one entry per tangent.
Tangents = tuple[FloatArray, FloatArray, FloatArray]


class Pieces(NamedTuple):
    """Lines above Phi, by descending mass, with the integral of 1 / Phi over them.

    Piece i reaches from `start[i]` down to `start[i + 1]`; there Phi is at most
    `anchor_rate[i] + slope[i] * (mass - anchor_mass[i])`.
    """

    start: FloatArray
    radius: FloatArray  # integral from `start` up to `start[0]`
    anchor_mass: FloatArray
    anchor_rate: FloatArray
    slope: FloatArray


def integral(pieces: Pieces, mass: FloatArray) -> FloatArray:
    """Integrate d mass / Phi from `mass` up to the first start.

    Parameters
    ----------
    pieces : Pieces
        Lines above Phi.

    mass : ndarray of any shape
        Lower ends, from 0 to `pieces.start[0]`.

    Returns
    -------
    radius : ndarray of the shape of `mass`
        Never above the true integral, except for rounding; infinite at mass 0.
    """
    piece = np.searchsorted(-pieces.start, -mass, side="right") - 1
    radius = pieces.radius[piece] + _line_integral(
        mass,
        pieces.start[piece],
        pieces.anchor_mass[piece],
        pieces.anchor_rate[piece],
        pieces.slope[piece],
    )
    return np.where(mass > 0.0, radius, np.inf)


def pieces_of_lines(
    start: FloatArray, anchor_mass: FloatArray, anchor_rate: FloatArray, slope: FloatArray
) -> Pieces:
    """Add the integrals of consecutive lines.

    Parameters
    ----------
    start, anchor_mass, anchor_rate, slope : ndarray of shape (n_pieces,)
        As in `Pieces`.

    Returns
    -------
    pieces : Pieces
        The same with `radius`.
    """
    steps = _line_integral(
        start[1:], start[:-1], anchor_mass[:-1], anchor_rate[:-1], slope[:-1]
    )
    radius = np.concatenate([[0.0], np.cumsum(steps)])
    return Pieces(start, radius, anchor_mass, anchor_rate, slope)


def _line_integral(
    low: FloatArray,
    high: FloatArray,
    anchor_mass: FloatArray,
    anchor_rate: FloatArray,
    slope: FloatArray,
) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):  # Phi(0) = 0: infinite
        width = (high - low) / (anchor_rate + slope * (low - anchor_mass))
        relative = slope * width
        # Nearly flat, or slopes are subnormal numbers of a few bits.
        flat = relative < _FLAT
        safe_slope = np.where(flat, 1.0, slope)
        return np.where(
            flat, width * (1.0 - 0.5 * relative), np.log1p(relative) / safe_slope
        )


def tangent_pieces(
    top_sets: Callable[[FloatArray], Tangents],
    low: float,
    high: float,
    total_rate: float,
    tolerance: float,
) -> Pieces:
    """Tangents above a concave Phi on [0, 1], enough for the tolerance.

    Parameters
    ----------
    top_sets : callable
        Takes parameters, ndarray of shape (n,), and gives mass, rate and slope of the
        tangents, each (n,). The mass falls as the parameter grows.

    low, high : float
        Range of the parameter: from nearly all the mass to less than `SMALLEST_MASS`.

    total_rate : float
        Phi(1).

    tolerance : float
        Largest relative distance of a tangent from Phi.

    Returns
    -------
    pieces : Pieces
        From mass 1 down to mass 0.
    """
    parameter = np.linspace(low, high, _FIRST_NODES)
    nodes = np.stack([parameter, *top_sets(parameter)])
    for _ in range(_MAX_ROUNDS):
        wide = (_gaps(nodes[1:]) > tolerance) & (nodes[1, :-1] > SMALLEST_MASS)
        if not wide.any() or nodes.shape[1] > _MAX_NODES:
            break
        middle = 0.5 * (nodes[0, :-1] + nodes[0, 1:])[wide]
        fresh = np.stack([middle, *top_sets(middle)])
        nodes = np.insert(nodes, np.flatnonzero(wide) + 1, fresh, axis=1)
    # The first tangent beyond the smallest mass is used down to mass 0.
    _, mass, rate, slope = nodes[:, : np.count_nonzero(nodes[1] > SMALLEST_MASS) + 1]
    # At mass 1 a flat line is above Phi, which grows.
    mass, rate = np.append(1.0, mass), np.append(total_rate, rate)
    slope = np.append(0.0, slope)
    start = np.append(1.0, 0.5 * (mass[:-1] + mass[1:]))
    return pieces_of_lines(start, mass, rate, slope)


def _gaps(nodes: FloatArray) -> FloatArray:
    """Distance from the chord to the higher tangent, where the two tangents meet.

    The distance grows linearly up to that place.
    """
    mass, rate, slope = nodes
    half = 0.5 * (mass[:-1] - mass[1:])
    upper = np.maximum(rate[:-1] - slope[:-1] * half, rate[1:] + slope[1:] * half)
    with np.errstate(invalid="ignore"):  # no mass, no rate
        return upper / (0.5 * (rate[:-1] + rate[1:])) - 1.0
