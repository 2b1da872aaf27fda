"""Inputs on a grid of equal steps, as images of bytes are."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["check_levels", "check_on_grid", "to_steps"]

#: Most levels: float32 tells so many apart, and their sums with noise.
_MOST_LEVELS = 2**16 - 1
#: Distance from the grid, as a share of the value, that rounding to float32 explains.
_ROUNDING = 2.0**-22
#: Grids that are tried for values that are off the one they should be on.
_MOST_TRIED, _N_TRIED = 255, 10_000
#: Numbers that are looked at together.
_CHUNK_SIZE = 2**22


def check_levels(name: str, levels: Any) -> None:
    """Refuse what is no number of steps of a grid."""
    is_int = isinstance(levels, int | np.integer) and not isinstance(levels, bool)
    if is_int and 1 <= levels <= _MOST_LEVELS:
        return
    raise ValueError(
        f"levels of {name} must be an int in the range [1, {_MOST_LEVELS}], the number of "
        f"steps between 0 and 1 (255 for bytes), got {levels!r}."
    )


def check_on_grid(
    X: NDArray[np.float32] | torch.Tensor, levels: int, noise: object
) -> None:
    """Refuse inputs that are not whole multiples of 1 / levels.

    Raises
    ------
    ValueError
        With the first value that is none, and what can be done.
    """
    values = torch.as_tensor(X).detach().reshape(-1)
    if values.dtype.itemsize < 4:
        raise ValueError(
            f"X must be float32 or float64 for {noise}, got {values.dtype}: half precision "
            f"does not hold all multiples of 1/{levels}."
        )
    for part in values.split(_CHUNK_SIZE):
        steps = part * levels
        off = (steps - steps.round()).abs() > steps.abs() * _ROUNDING
        if off.any():
            raise ValueError(
                f"X must lie on the grid of multiples of 1/{levels} for {noise}, got "
                f"{float(part[off][0]):.9g}. Its certificates are about inputs on the "
                f"grid: {_remedy(values, levels)}"
            )


def _remedy(values: torch.Tensor, levels: int) -> str:
    """What to do with values off the grid: another grid that holds them, or rounding."""
    some = values[:_N_TRIED].double()
    for other in range(1, _MOST_TRIED + 1):
        steps = some * other
        if ((steps - steps.round()).abs() <= steps.abs() * _ROUNDING).all():
            return f"give levels={other}, whose multiples of 1/{other} these are."
    return (
        f"round X yourself, numpy.round(X * {levels}) / {levels}, in training as well, or "
        "give levels= as the data have them."
    )


def to_steps(x: torch.Tensor, levels: int) -> torch.Tensor:
    """Inputs on the grid as whole numbers of steps, in the dtype of `x`."""
    return (x * levels).round_()
