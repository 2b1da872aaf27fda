"""How far attacks that must stay in a box can move the coordinates of an input."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs4a.utils.arrays import read_only
from rs4a.utils.checks import check_box

FloatArray = NDArray[np.float64]

#: Coordinates that are compared together.
_CHUNK_SIZE = 2**22


@dataclass(frozen=True, eq=False)
class Box:
    """Range that attacks must stay in, and how far they can move each input.

    Parameters
    ----------
    low, high : float
        Smallest and largest value of a coordinate.

    reach : ndarray of shape (n, k), float64, default=None
        Array from `coordinate_reach`. None: the inputs lie in the box, and nothing else is
        known about them.

    Examples
    --------
    >>> from rs4a.records import Box
    >>> Box(0, 1)
    (0, 1)
    >>> Box(0, 1).lengths.round(9)
    array([[1.]])
    """

    low: float
    high: float
    reach: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.reach is not None:
            reach = read_only(np.asarray(self.reach, dtype=np.float64))
            object.__setattr__(self, "reach", reach)

    def __repr__(self) -> str:
        return str(self.interval)

    def __reduce__(self) -> tuple[Any, ...]:
        return Box, (self.low, self.high, self.reach)  # built anew: its array is read-only

    def of(self, rows: NDArray[np.int64]) -> "Box":
        """The same box with the reach of some of the inputs.

        Parameters
        ----------
        rows : ndarray of shape (m,), int64
            Positions of the inputs.

        Returns
        -------
        box : Box
            Box with the reach of these inputs, if this box has a reach.
        """
        return self if self.reach is None else replace(self, reach=self.reach[rows])

    @property
    def interval(self) -> tuple[float, float]:
        """Smallest and largest value of a coordinate."""
        return self.low, self.high

    @property
    def lengths(self) -> FloatArray:
        """Reach of every input, or one row that bounds the reach of any input."""
        return input_free_reach(self.interval) if self.reach is None else self.reach


def as_box(box: Any) -> Box | None:
    """Box from a tuple (low, high); a Box and None are returned unchanged.

    Parameters
    ----------
    box : tuple of two floats, Box or None
        Box as a user gives it.

    Returns
    -------
    box : Box or None
        Box with its reach, if `box` is a Box that has a reach.

    Raises
    ------
    ValueError
        If `box` is anything else.
    """
    if isinstance(box, Box):
        return box
    interval = check_box(box)
    return None if interval is None else Box(*interval)


def coordinate_reach(X: Any, box: tuple[float, float], lambd: float) -> FloatArray:
    """Distances from the coordinates of every input to the further side of the box.

    Parameters
    ----------
    X : ndarray or LazyInputs of shape (n, ...)
        Inputs.

    box : tuple of two floats
        Smallest and largest value that an attack may give a coordinate.

    lambd : float
        Scale of the noise, in units of X.

    Returns
    -------
    reach : ndarray of shape (n, k), float64
        The k largest distances of every input, the largest first, in units of X, rounded
        up. Further coordinates cannot change a radius under noise of this scale.

    Raises
    ------
    ValueError
        If an input is not in the box.

    Examples
    --------
    >>> import numpy as np
    >>> from rs4a.records import coordinate_reach
    >>> coordinate_reach(np.array([[0.5, 0.75, 0.0], [0.5, 0.5, 0.5]]), (0, 1), lambd=1.0)
    array([[1.  , 0.75, 0.5 ],
           [0.5 , 0.5 , 0.5 ]])
    """
    low, high = widened(box)
    dim = math.prod(X.shape[1:])
    # Every coordinate reaches half of the box or more, so k of them leave at most the share
    # (1 - (high - low) / (4 lambd))^k < exp(-k (high - low) / (4 lambd)) of the noise. From
    # k = 4 ln 2 lambd / (high - low) on this is below 1/2, and so below every threshold.
    enough = 4.0 * math.log(2.0) * float(lambd) / (high - low) + 2.0
    n_columns = math.ceil(min(dim, enough))
    n_rows = max(_CHUNK_SIZE // dim, 1)
    reach = np.empty((len(X), n_columns))
    for start in range(0, len(X), n_rows):
        rows = slice(start, start + n_rows)
        values = np.asarray(X[rows], dtype=np.float64).reshape(-1, dim)
        is_outside = ~((values >= low) & (values <= high))
        if is_outside.any():
            raise ValueError(
                f"X must lie in box={box}, got {values[is_outside].flat[0]:.9g}. A box "
                "certificate is about inputs and attacks that are in the box: scale the "
                "inputs, or give the range that their values have."
            )
        both_sides = np.maximum(values - low, high - values)
        reach[rows] = np.partition(both_sides, dim - n_columns, axis=1)[:, -n_columns:]
    return np.nextafter(-np.sort(-reach, axis=1), np.inf)


def widened(box: tuple[float, float]) -> tuple[float, float]:
    """The box, widened to its ends in float32: inputs are rounded to float32."""
    low, high = map(float, box)
    return min(low, float(np.float32(low))), max(high, float(np.float32(high)))


def input_free_reach(box: tuple[float, float]) -> FloatArray:
    """Distances that no attack on any input in the box can exceed.

    Parameters
    ----------
    box : tuple of two floats
        Smallest and largest value that an attack may give a coordinate.

    Returns
    -------
    reach : ndarray of shape (1, 1), float64
        Width of the box, rounded up, for every coordinate of every input.

    Examples
    --------
    >>> from rs4a.records import input_free_reach
    >>> from rs4a.noises import Uniform
    >>> reach = input_free_reach((0.0, 1.0))
    >>> Uniform(lambd=2.0).radius([0.9, 1.0], norm=1, dim=784, reach=reach).round(4)
    array([1.8   , 2.4444])
    """
    low, high = widened(box)
    return np.array([[np.nextafter(high - low, np.inf)]])
