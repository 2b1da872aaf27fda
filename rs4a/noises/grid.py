"""Inputs on a grid of equal steps, as images of bytes are."""

from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["check_levels", "check_on_grid", "to_steps"]

#: Most levels: float32 tells so many apart, and their sums with noise.
_MOST_LEVELS = 2**16 - 1
#: Distance from the grid, as a share of the range, that rounding to float32 explains.
_ROUNDING = 2.0**-22


def check_levels(name: str, levels: Any) -> None:
    """Refuse what is no number of steps of a grid."""
    if isinstance(levels, Integral) and 1 <= levels <= _MOST_LEVELS:
        return
    raise ValueError(
        f"levels of {name} must be an int in the range [1, {_MOST_LEVELS}], the number of "
        f"steps between 0 and 1 (255 for bytes), got {levels!r}."
    )


def check_on_grid(X: NDArray[np.float32], levels: int, noise: Any) -> None:
    """Refuse inputs that are not whole multiples of 1 / levels.

    Raises
    ------
    ValueError
        With the first value that is none, and what can be done.
    """
    steps = X * np.float64(levels)
    off = np.abs(steps - np.rint(steps)) > levels * _ROUNDING * np.maximum(np.abs(X), 1.0)
    if off.any():
        raise ValueError(
            f"X must lie on the grid of multiples of 1/{levels} for {noise}, got "
            f"{X[off].flat[0]:.9g}. The certificate is about inputs on the grid: round X "
            f"yourself, numpy.round(X * {levels}) / {levels}, before training as well, or "
            "give levels= as the data have them."
        )


def to_steps(x: torch.Tensor, levels: int) -> torch.Tensor:
    """Inputs on the grid as whole numbers of steps, in the dtype of `x`."""
    return (x * levels).round_()
