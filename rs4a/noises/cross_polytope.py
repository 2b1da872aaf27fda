"""Cross-polytope noise: the density depends on the l1 norm."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from rs4a import radii
from rs4a.noises.draws import fill_laplace, log_gamma_draws
from rs4a.noises.radial import RadialNoise
from rs4a.utils.checks import check_in_range

__all__ = ["Exp1"]


class Exp1(RadialNoise):
    """Cross-polytope noise with exponential tails, against l1 adversaries.

    Density proportional to exp(-(||x||_1 / lambda)^k); Laplace noise at k = 1, where it has
    that noise's direct linf guarantee as well. The l1 radius comes from the differential
    method [1]_, a sound lower bound, exact at k = 1.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    k : float, default=1.0
        Exponent of the tail, above 0.

    lambd : float, default=None
        Scale of the distribution, in units of X. Give exactly one of `sigma` and `lambd`.

    References
    ----------
    .. [1] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> from rs4a.noises import Exp1
    >>> Exp1(sigma=1.0, k=10).radius([0.5, 0.9, 0.999], norm=1, dim=3072).round(4)
    array([0.    , 1.092 , 3.9863])
    """

    def __init__(
        self, sigma: float | None = None, *, k: float = 1.0, lambd: float | None = None
    ):
        super().__init__(sigma, lambd=lambd)
        self.k = k

    @property
    def norms(self) -> tuple[float, ...]:
        """Norms of the adversary with a direct guarantee, the noise's own first."""
        return (1.0, math.inf) if self.k == 1.0 else (1.0,)

    def _check_shape(self, dim: int) -> None:
        check_in_range("k of Exp1", self.k, 0.0, math.inf, why="there is no density")

    def _unit_sigma(self, dim: int) -> float:
        (k,) = self._floats("k")
        # 2 E r^2 / (d (d + 1)) for r^k ~ Gamma(d / k).
        log_moment = radii.log_gamma_ratio(dim / k, 2.0 / k)
        return math.exp(0.5 * log_moment) * math.sqrt(2.0 / dim / (dim + 1.0))

    def _fill_directions(
        self, rows: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        fill_laplace(rows, generator)
        return torch.linalg.vector_norm(rows, ord=1, dim=1)

    def _log_radii(
        self, n: int, dim: int, generator: torch.Generator | None, device: torch.device
    ) -> torch.Tensor:
        (k,) = self._floats("k")
        return log_gamma_draws(dim / k, n, generator, device).div_(k)

    def _unit_radius(
        self, prob_lower: NDArray[np.float64], norm: float, dim: int
    ) -> NDArray[np.float64]:
        (k,) = self._floats("k")
        if math.isinf(norm):
            return radii.laplace_linf(prob_lower, dim)
        return radii.exp_one_l1(prob_lower, dim, k)
