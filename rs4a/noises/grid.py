"""Inputs on a grid of equal steps, as images of bytes are, and noise in whole steps.

Such noise is sound in floating point.
"""

import math
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from rs4a.noises.additive import AdditiveNoise
from rs4a.noises.draws import in_parts
from rs4a.noises.integer_law import IntegerLaw
from rs4a.radii.rounding import FloatArray

#: Most levels: float32 tells so many numbers apart, and their sums with noise.
_MOST_LEVELS = 2**16 - 1
#: Most steps that an input, and a draw, may be away from 0: float32 adds and rounds them
#: with an error of less than half a step.
_MOST_INPUT_STEPS, _MOST_DRAW_STEPS = 2**20, 2**18
#: Distance from the grid, as a share of the value, that rounding to float32 explains.
_ROUNDING = 2.0**-22
#: Relative error allowed to a number of steps in units of the scale.
_STEP_ERROR = 2.0**-50
#: Relative slack for a lambda that is meant to lie on the grid of scales.
_SLACK = 1e-9
#: Grids that are tried for values that are off their grid.
_MOST_TRIED, _N_TRIED = 255, 10_000
#: Numbers of one step of the check.
_CHUNK_SIZE = 2**22


def check_levels(name: str, levels: Any) -> None:
    """Refuse a value that is no number of steps of a grid."""
    steps = "the number of steps between 0 and 1 (255 for bytes), "
    check_int(f"levels of {name}", levels, 1, _MOST_LEVELS, steps)


def check_int(name: str, value: Any, low: int, high: int, hint: str = "") -> None:
    """Refuse a value that is no int from `low` to `high`."""
    is_int = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not (is_int and low <= value <= high):
        raise ValueError(
            f"{name} must be an int in the range [{low}, {high}], {hint}got {value!r}."
        )


def check_bool(name: str, value: Any) -> None:
    """Refuse a value that is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}.")


def check_on_grid(X: NDArray[np.float32] | Tensor, levels: int, noise: object) -> None:
    """Refuse inputs that are not whole multiples of 1 / levels.

    Raises
    ------
    ValueError
        With the first such value, and advice.
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


def _remedy(values: Tensor, levels: int) -> str:
    """Advice for values off the grid: another grid that holds them, or rounding."""
    some = values[:_N_TRIED].double()
    for other in range(1, _MOST_TRIED + 1):
        steps = some * other
        if ((steps - steps.round()).abs() <= steps.abs() * _ROUNDING).all():
            return f"give levels={other}, whose multiples of 1/{other} these are."
    return (
        f"round X yourself, numpy.round(X * {levels}) / {levels}, in training as well, or "
        "give levels= as the data have them."
    )


def to_steps(x: Tensor, levels: int) -> Tensor:
    """Inputs on the grid as whole numbers of steps, in the dtype of `x`."""
    return (x * levels).round_()


class GridNoise(AdditiveNoise):
    """Base class of additive noise that can be drawn exactly, in steps of a grid.

    With ``exact=True`` inputs are multiples of 1 / levels, and the noise is rounded to the
    nearest multiple. The net then sees a float that depends on the sum of two integers and
    on nothing else, and every radius holds for the computation of the machine.

    A subclass gives the law of the integers: `_integer_law` and `_support`.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    exact : bool, default=False
        Whether the noise is drawn exactly, on the grid.

    levels : int, default=255
        Number of steps of the grid between 0 and 1.

    lambd : float, default=None
        Scale lambda of the noise, in units of X. Exactly one of `sigma` and `lambd`
        must be given when the noise is used.
    """

    def __init__(
        self,
        sigma: float | None = None,
        *,
        exact: bool = False,
        levels: int = 255,
        lambd: float | None = None,
    ):
        super().__init__(sigma, lambd=lambd)
        self.exact = exact
        self.levels = levels

    @abstractmethod
    def _integer_law(self, scale: float, device: torch.device) -> IntegerLaw:
        """Law of the noise in steps."""

    @abstractmethod
    def _support(self, scale: float) -> int:
        """Largest integer of that law; its smallest integer is the negative."""

    def _scale_on_grid(self, scale: float) -> float:
        """Scale on the grid that stands for this scale: radii hold for it."""
        return scale

    def _check_shape(self, dim: int) -> None:
        name = type(self).__name__
        check_bool(f"exact of {name}", self.exact)
        if self.exact:
            check_levels(name, self.levels)

    def _scales(self, dim: int) -> tuple[float, float]:
        """Of exact noise, sigma is that before the draws are rounded to the grid."""
        scale, sigma = super()._scales(dim)
        if not self.exact:
            return scale, sigma
        scale = self._scale_on_grid(scale)
        return scale, scale * self._unit_sigma(dim)

    @property
    def input_levels(self) -> int | None:
        """Steps from 0 to 1 of the grid of inputs, if the noise is exact."""
        return int(self.levels) if self.exact else None

    def check_inputs(self, X: NDArray[np.float32] | Tensor) -> None:
        """Refuse inputs off the grid, if the noise is exact.

        Parameters
        ----------
        X : ndarray or torch.Tensor of any shape
            One input or several.

        Raises
        ------
        ValueError
            If a value is too large, or no multiple of 1 / levels up to rounding.
        """
        if not self.exact:
            return
        values = torch.as_tensor(X).detach()
        if all(self._seen_on_grid(part) for part in in_parts(values.contiguous(), 2**19)):
            return
        check_on_grid(values, self.levels, self)
        largest = float(values.abs().max())
        if not largest * self.levels <= _MOST_INPUT_STEPS:
            raise ValueError(
                f"X must be at most {_MOST_INPUT_STEPS} / levels = "
                f"{_MOST_INPUT_STEPS / self.levels:g} for {self}, got {largest:g}: "
                "float32 would not add it to noise exactly. Scale X and sigma."
            )

    def _seen_on_grid(self, values: Tensor) -> bool:
        """Whether a quick test in float32 shows that values are on the grid."""
        if values.numel() == 0:
            return True
        steps = values.float() * self.levels
        smallest, largest = steps.aminmax()
        off = (steps - steps.round()).abs_().amax()
        within = torch.maximum(-smallest, largest) <= _MOST_INPUT_STEPS
        return bool((off <= _ROUNDING * self.levels) & within)

    def _check_fits(self, dtype: torch.dtype, dim: int) -> None:
        super()._check_fits(dtype, dim)
        if self.exact and self._support(self.scale(dim)) > _MOST_DRAW_STEPS:
            raise ValueError(
                f"{self} draws up to {self._support(self.scale(dim))} steps, too much for "
                f"{torch.float32}, which adds {_MOST_DRAW_STEPS} of them exactly. Take a "
                "smaller sigma or fewer levels."
            )

    def _sample_at_scale(
        self, scale: float, x: Tensor, generator: Generator | None, out: Tensor | None
    ) -> Tensor:
        if not self.exact or x.numel() == 0:
            return super()._sample_at_scale(scale, x, generator, out)
        noisy = self._sample_on_grid(scale, x.detach(), generator, out)
        if out is not None:
            return noisy if noisy is out else out.copy_(noisy)
        noisy = noisy.to(x.dtype)
        # Adds 0 with the gradient of x: rounding has none, and the sum must not change.
        return noisy + (x - x.detach()) if x.requires_grad else noisy

    def _sample_on_grid(
        self, scale: float, x: Tensor, generator: Generator | None, out: Tensor | None
    ) -> Tensor:
        """Noisy copies in float32 or float64, written to `out` where that is possible."""
        draw = out
        if draw is None or draw.dtype != torch.float32 or not draw.is_contiguous():
            draw = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        self._integer_law(scale, x.device).fill(draw, generator)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        target = draw if x.dtype == draw.dtype else None
        steps = torch.add(draw, x, alpha=int(self.levels), out=target).round_()
        # A sum of 0 may have been rounded to -0, which a net can tell from 0.
        return steps.add_(0.0).div_(int(self.levels))

    def _ideal_bounds(
        self, prob_lower: FloatArray, prob_runner_up: FloatArray | None, dim: int
    ) -> tuple[FloatArray, FloatArray | None]:
        """Bounds that allow for the distance of the drawn law from the noise's law.

        The distance counts twice: at the input and at the attack.
        """
        if not self.exact:
            return prob_lower, prob_runner_up
        error = 2.0 * self._law_error(dim)
        lower = np.maximum(np.nextafter(prob_lower - error, -np.inf), 0.0)
        if prob_runner_up is None:
            return lower, None
        return lower, np.minimum(np.nextafter(prob_runner_up + error, np.inf), 1.0)

    def _reach_on_grid(self, reach: FloatArray, dim: int) -> FloatArray:
        """Farthest moves of attacks that end on the grid, in units of the scale.

        Rounded inputs are off the grid by at most a quarter of a step.
        """
        step = 1.0 / (self.scale(dim) * int(self.levels))
        return np.floor(reach / step + 0.25) * (step * (1.0 + _STEP_ERROR))

    def _law_error(self, dim: int) -> float:
        """Total variation between the drawn law and the noise rounded to the grid.

        Each threshold is off by less than 2^-64, and so is the mass of each tail.
        """
        return math.ldexp(dim * (2 * self._support(self.scale(dim)) + 2), -64)


def largest_support(lambd: float, noise: GridNoise) -> int:
    """Steps m to either side, at least 1, with (2 m + 1) / (2 levels) at most lambda."""
    levels = int(noise.levels)
    support = math.floor(lambd * levels * (1.0 + _SLACK) - 0.5)
    if support < 1:
        raise ValueError(
            f"{noise} is narrower than three steps of the grid: lambda must be at least "
            f"1.5 / levels = {1.5 / levels:g}, got {lambd:g}. Take a larger sigma."
        )
    return support
