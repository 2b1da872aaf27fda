"""No noise: the base classifier itself, for comparison."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from rs4a.noises.additive import AdditiveNoise
from rs4a.utils.checks import check_dim

__all__ = ["Clean"]


class Clean(AdditiveNoise):
    """No noise: trains and predicts as the base classifier, and certifies nothing.

    Every radius is 0. It stands in a grid beside the others to show what robustness
    costs in accuracy.

    Parameters
    ----------
    sigma : float, default=None
        Ignored; there so that a search may sweep it over noises of different kinds.

    lambd : float, default=None
        Ignored.

    Examples
    --------
    >>> from rs4a.noises import Clean
    >>> Clean().radius([0.5, 0.9, 1.0], norm=2, dim=3072)
    array([0., 0., 0.])
    """

    norms = (2.0, 1.0, math.inf)

    def _check_scale(self) -> None:
        """Nothing to refuse."""

    def scale(self, dim: int) -> float:
        """Scale of the noise: 0.

        Parameters
        ----------
        dim : int
            Number of coordinates of one input.

        Returns
        -------
        lambd : float
            0.
        """
        check_dim(dim)
        return 0.0

    def std(self, dim: int) -> float:
        """Standard deviation of a coordinate: 0.

        Parameters
        ----------
        dim : int
            Number of coordinates of one input.

        Returns
        -------
        sigma : float
            0.
        """
        return self.scale(dim)

    def _unit_sigma(self, dim: int) -> float:
        return 1.0

    def _fill_noise(self, out: torch.Tensor, generator: torch.Generator | None) -> float:
        out.zero_()
        return 1.0

    def _unit_radius(
        self, prob_lower: NDArray[np.float64], norm: float, dim: int
    ) -> NDArray[np.float64]:
        return np.zeros_like(prob_lower)
