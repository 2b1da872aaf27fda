"""What noises share whose density depends on one norm of x: a radius times a direction."""

import math
from abc import abstractmethod

import torch

from rs4a.noises.additive import AdditiveNoise
from rs4a.utils.checks import check_in_range

__all__ = ["RadialNoise"]


class RadialNoise(AdditiveNoise):
    """Base class of noise r u, u uniform on the unit sphere of a norm, r independent.

    A subclass draws the radius (`_log_radii`) and says which sphere (`_fill_directions`).
    Parameters are those of `AdditiveNoise`.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    lambd : float, default=None
        Scale lambda of the noise, in units of X.
    """

    @abstractmethod
    def _log_radii(
        self, n: int, dim: int, generator: torch.Generator | None, device: torch.device
    ) -> torch.Tensor:
        """Logarithms of n radii at unit scale, (n,), float64."""

    @abstractmethod
    def _fill_directions(
        self, rows: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        """Overwrite rows with vectors of uniform direction; return their norms, (n,)."""

    def _check_exponents(self, dim: int) -> None:
        """Check k and j of a density r^-j exp(-r^k)."""
        name = type(self).__name__
        k, j = self.get_params()["k"], self.get_params()["j"]
        check_in_range(f"k of {name}", k, 0.0, math.inf, why="there is no density")
        check_in_range(
            f"j of {name} in {dim} coordinates", j, 0.0, dim, closed=True,
            why="from dim on there is no density",
        )  # fmt: skip

    def _fill_noise(
        self, out: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        rows = out.view(len(out), -1)
        log_radii = self._log_radii(len(rows), rows.shape[1], generator, out.device)
        return log_radii.exp_() / self._fill_directions(rows, generator)
