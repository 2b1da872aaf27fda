"""Noise in whole steps of the grid that inputs lie on: sound in floating point."""

import math
from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray

from rs4a.noises.additive import AdditiveNoise
from rs4a.noises.grid import check_levels, check_on_grid
from rs4a.noises.integer_law import IntegerLaw, in_parts

__all__ = ["GridNoise", "largest_support"]

#: Most steps that an input, and a draw, may be away from 0: float32 adds and rounds them
#: with an error of less than half a step.
_MOST_INPUT_STEPS, _MOST_DRAW_STEPS = 2**20, 2**18
#: As in `check_on_grid`, for inputs in [-1, 1].
_ROUNDING = 2.0**-22
#: Relative error allowed to a number of steps in units of the scale.
_STEP_ERROR = 2.0**-50
#: Relative slack for a lambda that is meant to lie on the grid of scales.
_SLACK = 1e-9


class GridNoise(AdditiveNoise):
    """Base class of additive noise that can be drawn exactly, in steps of a grid.

    With ``exact=True`` inputs are multiples of 1 / levels, and so is the noise: that of
    the same name, rounded to the nearest multiple. The net then sees a float that
    depends on the sum of two integers and on nothing else, and every radius holds for what
    the machine computes.

    A subclass says which integers these are: `_integer_law` and `_support`.

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
        """Largest integer of that law, whose values are all those from -reach on."""

    def _scale_on_grid(self, scale: float) -> float:
        """Scale for which radii hold, if the noise of this scale is asked for."""
        return scale

    def _check_shape(self, dim: int) -> None:
        name = type(self).__name__
        if not isinstance(self.exact, bool | np.bool_):
            raise ValueError(f"exact of {name} must be True or False, got {self.exact!r}.")
        if self.exact:
            check_levels(name, self.levels)

    def scale(self, dim: int) -> float:
        """Scale lambda of the noise on inputs of `dim` coordinates.

        Parameters
        ----------
        dim : int
            Number of coordinates of one input.

        Returns
        -------
        lambd : float
            In units of X. Exact Uniform noise has the largest that its grid allows.
        """
        scale = super().scale(dim)
        return self._scale_on_grid(scale) if self.exact else scale

    def std(self, dim: int) -> float:
        """Sigma of the noise on inputs of `dim` coordinates: `scale` read backwards.

        Parameters
        ----------
        dim : int
            Number of coordinates of one input.

        Returns
        -------
        sigma : float
            Standard deviation of a coordinate, in units of X, before it is rounded to the
            grid.
        """
        if not self.exact:
            return super().std(dim)
        return self.scale(dim) * self._unit_sigma(dim)

    @property
    def input_levels(self) -> int | None:
        """Steps from 0 to 1 of the grid that inputs lie on, if the noise is exact."""
        return int(self.levels) if self.exact else None

    def check_inputs(self, X: NDArray[np.float32] | torch.Tensor) -> None:
        """Refuse inputs off the grid, if the noise is exact.

        Parameters
        ----------
        X : ndarray or torch.Tensor of any shape
            One input or several.

        Raises
        ------
        ValueError
            If a value is no multiple of 1 / levels, but for rounding, or too large.
        """
        if not self.exact:
            return
        values = torch.as_tensor(X).detach()
        if all(self._plainly_on_grid(part) for part in in_parts(values.contiguous())):
            return
        check_on_grid(values, self.levels, self)
        largest = float(values.abs().max())
        if not largest * self.levels <= _MOST_INPUT_STEPS:
            raise ValueError(
                f"X must be at most {_MOST_INPUT_STEPS} / levels = "
                f"{_MOST_INPUT_STEPS / self.levels:g} for {self}, got {largest:g}: "
                "float32 would not add it to noise exactly. Scale X and sigma."
            )

    def _plainly_on_grid(self, values: torch.Tensor) -> bool:
        """Whether it is seen at once, in the inputs' own precision."""
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
        self,
        scale: float,
        x: torch.Tensor,
        generator: torch.Generator | None,
        out: torch.Tensor | None,
    ) -> torch.Tensor:
        if not self.exact or x.numel() == 0:
            return super()._sample_at_scale(scale, x, generator, out)
        noisy = self._sample_on_grid(scale, x.detach(), generator, out)
        if out is not None:
            return noisy if noisy is out else out.copy_(noisy)
        noisy = noisy.to(x.dtype)
        # Adds 0 with the gradient of x: rounding has none, and the sum must not change.
        return noisy + (x - x.detach()) if x.requires_grad else noisy

    def _sample_on_grid(
        self,
        scale: float,
        x: torch.Tensor,
        generator: torch.Generator | None,
        out: torch.Tensor | None,
    ) -> torch.Tensor:
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
        self,
        prob_lower: NDArray[np.float64],
        prob_runner_up: NDArray[np.float64] | None,
        dim: int,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Bounds that allow for what the law of the draws differs from the noise's.

        At the input and at the attack, hence twice.
        """
        if not self.exact:
            return prob_lower, prob_runner_up
        error = 2.0 * self._law_error(dim)
        lower = np.maximum(np.nextafter(prob_lower - error, -np.inf), 0.0)
        if prob_runner_up is None:
            return lower, None
        return lower, np.minimum(np.nextafter(prob_runner_up + error, np.inf), 1.0)

    def _reach_on_grid(self, reach: NDArray[np.float64], dim: int) -> NDArray[np.float64]:
        """How far attacks reach that end on the grid, in units of the scale.

        Inputs are off the grid by a quarter of a step at most, where they were rounded.
        """
        step = 1.0 / (self.scale(dim) * int(self.levels))
        return np.floor(reach / step + 0.25) * (step * (1.0 + _STEP_ERROR))

    def _law_error(self, dim: int) -> float:
        """Total variation between what is drawn and the noise rounded to the grid.

        Each threshold is off by less than 2^-64, and either tail holds no more.
        """
        return math.ldexp(dim * (2 * self._support(self.scale(dim)) + 2), -64)


def largest_support(lambd: float, noise: GridNoise) -> int:
    """Steps m to either side, at least 1, with (2 m + 1) / (2 levels) at most lambda."""
    levels = int(noise.levels)
    reach = math.floor(lambd * levels * (1.0 + _SLACK) - 0.5)
    if reach < 1:
        raise ValueError(
            f"{noise} is narrower than three steps of the grid: lambda must be at least "
            f"1.5 / levels = {1.5 / levels:g}, got {lambd:g}. Take a larger sigma."
        )
    return reach
