"""Gauss's rule on panels that follow the integrand.

Many integrals at once, one per row. The panels of a row are placed on a grid, with equal
progress of its features from edge to edge. A wrong place costs accuracy, never validity.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rs4a.radii.rounding import FloatArray

_BISECTIONS = 55


def edges_of_equal_progress(
    grid: FloatArray, features: list[FloatArray], n_panels: int
) -> FloatArray:
    """Edges between which the features change equally much.

    Parameters
    ----------
    grid : ndarray of shape (n_rows, n_grid)
        Ascending in every row.

    features : list of ndarray of shape (n_rows, n_grid)
        Values on the grid.

    n_panels : int
        Number of panels.

    Returns
    -------
    edges : ndarray of shape (n_rows, n_panels + 1)
        Ascending, from the first to the last point of the grid.
    """
    steps = sum(np.abs(np.diff(feature, axis=1)) for feature in features)
    progress = np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0)))
    share = np.linspace(0.0, 1.0, n_panels + 1)
    return np.stack(
        [
            np.interp(share * way[-1], way, row)
            for way, row in zip(progress, grid, strict=True)
        ]
    )


def gauss_rule(
    edges: FloatArray, n_nodes: int, half_powers: bool
) -> tuple[FloatArray, FloatArray]:
    """Gauss-Legendre nodes and weights of every panel.

    Parameters
    ----------
    edges : ndarray of shape (n_rows, n_panels + 1)
        Ascending.

    n_nodes : int
        Nodes of a panel.

    half_powers : bool
        Whether the integrand may begin like a half-integer power at an edge. The
        substitution x = u^2 (3 - 2u) turns that into an integer power.

    Returns
    -------
    nodes, weights : ndarray of shape (n_rows, n_panels * n_nodes)
    """
    x, weight = np.polynomial.legendre.leggauss(n_nodes)
    x, weight = 0.5 * (x + 1.0), 0.5 * weight
    if half_powers:
        x, weight = x * x * (3.0 - 2.0 * x), weight * 6.0 * x * (1.0 - x)
    width = np.diff(edges, axis=1)[:, :, None]
    nodes = edges[:, :-1, None] + width * x
    return nodes.reshape(len(edges), -1), (width * weight).reshape(len(edges), -1)


def change_between(
    condition: Callable[[FloatArray], NDArray[np.bool_]], low: FloatArray, high: FloatArray
) -> FloatArray:
    """Place, to the last bit, of the change of a condition that changes at most once.

    Parameters
    ----------
    condition : callable
        Takes points, (n_rows, n), and tells whether the condition holds there.

    low, high : ndarray of shape (n_rows, n)
        Ends of the search.

    Returns
    -------
    places : ndarray of shape (n_rows, n)
        `high` where the condition does not change.
    """
    at_low = condition(low)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        same = condition(middle) == at_low
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return high
