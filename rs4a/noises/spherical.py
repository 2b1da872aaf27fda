"""Spherical noises: the density depends on the l2 norm."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from rs4a import radii
from rs4a.noises.draws import log_gamma_draws
from rs4a.noises.radial import RadialNoise
from rs4a.utils.checks import check_in_range

__all__ = ["Exp2", "Pow2", "UniformBall"]


class _Spherical(RadialNoise):
    norms = (2.0,)

    def _fill_directions(
        self, rows: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        rows.normal_(generator=generator)
        norms = torch.linalg.vector_norm(rows, dim=1)
        return torch.where(norms > 0.0, norms, 1.0)  # a row of zeros stays one


class UniformBall(_Spherical):
    """Noise uniform on an l2 ball, against l2 adversaries.

    Density constant on the ball of radius lambda; sigma = lambda / (d + 2)^(1/2). The l2
    radius is the R with cap_{d+2}(R / (2 lambda)) = 3/4 - prob_lower / 2, exact [1]_,
    where cap_d(h) is the mass of the directions of R^d at a height above h. It is nearly
    that of Gaussian noise near probability 1/2, and bounded.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    lambd : float, default=None
        Radius of the ball, in units of X. Give exactly one of the two.

    References
    ----------
    .. [1] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> from rs4a.noises import UniformBall
    >>> UniformBall(sigma=1.0).radius([0.5, 0.9, 0.999], norm=2, dim=3072).round(4)
    array([0.    , 1.049 , 1.3461])
    """

    def _unit_sigma(self, dim: int) -> float:
        return 1.0 / math.sqrt(dim + 2.0)

    def _log_radii(
        self, n: int, dim: int, generator: torch.Generator | None, device: torch.device
    ) -> torch.Tensor:
        # r^d is uniform, and minus its logarithm exponential.
        log_radii = torch.empty(n, dtype=torch.float64, device=device)
        return log_radii.exponential_(generator=generator).mul_(-1.0 / dim)

    def _unit_radius(
        self, prob_lower: NDArray[np.float64], norm: float, dim: int
    ) -> NDArray[np.float64]:
        return radii.uniform_ball_l2(prob_lower, dim)


class Exp2(_Spherical):
    """Spherical noise with exponential tails, against l2 adversaries.

    Density proportional to r^-j exp(-(r / lambda)^k), r = ||x||_2; Gaussian noise at
    k = 2, j = 0. The l2 radius is exact, by level sets [1]_.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    k : float, default=2.0
        Exponent of the tail, above 0.

    j : float, default=0.0
        Exponent of the pole at 0, in [0, d): from d on there is no density.

    lambd : float, default=None
        Scale of the distribution, in units of X. Give exactly one of `sigma` and `lambd`.

    References
    ----------
    .. [1] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> from rs4a.noises import Exp2
    >>> noise = Exp2(sigma=1.0, k=2, j=3064)
    >>> noise.radius([0.5, 0.9, 0.999], norm=2, dim=3072).round(4)
    array([0.    , 1.1637, 2.8481])
    """

    def __init__(
        self,
        sigma: float | None = None,
        *,
        k: float = 2.0,
        j: float = 0.0,
        lambd: float | None = None,
    ):
        super().__init__(sigma, lambd=lambd)
        self.k = k
        self.j = j

    def _check_shape(self, dim: int) -> None:
        self._check_exponents(dim)
        check_in_range(
            "dim for Exp2", dim, 2, math.inf, closed=True,
            why="in one coordinate it has no direction; take Expp",
        )  # fmt: skip

    def _unit_sigma(self, dim: int) -> float:
        k, j = self._floats("k", "j")
        # E r^2 / d for r^k ~ Gamma((d - j) / k).
        shape = (dim - j) / k
        return math.exp(0.5 * radii.log_gamma_ratio(shape, 2.0 / k)) / math.sqrt(dim)

    def _log_radii(
        self, n: int, dim: int, generator: torch.Generator | None, device: torch.device
    ) -> torch.Tensor:
        k, j = self._floats("k", "j")
        shape = (dim - j) / k
        return log_gamma_draws(shape, n, generator, device).div_(k)

    def _unit_radius(
        self, prob_lower: NDArray[np.float64], norm: float, dim: int
    ) -> NDArray[np.float64]:
        k, j = self._floats("k", "j")
        return radii.exp_two_l2(prob_lower, dim, k, j)


class Pow2(_Spherical):
    """Spherical noise with polynomial tails, against l2 adversaries.

    Density proportional to (1 + (r / lambda)^k)^-a, r = ||x||_2: at k = 2 a multivariate
    t distribution. The l2 radius is exact, by level sets [1]_.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    a : float, default=None
        Exponent of the density, above (d + 2) / k: else the variance is infinite. None:
        (d + 16) / k, tails as of a t distribution with 16 degrees of freedom.

    k : float, default=2.0
        Exponent of the norm, above 0.

    lambd : float, default=None
        Scale of the distribution, in units of X. Give exactly one of `sigma` and `lambd`.

    References
    ----------
    .. [1] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> from rs4a.noises import Pow2
    >>> noise = Pow2(sigma=1.0, a=1544)
    >>> noise.radius([0.5, 0.9, 0.999], norm=2, dim=3072).round(4)
    array([0.    , 1.2177, 2.9371])
    """

    def __init__(
        self,
        sigma: float | None = None,
        *,
        a: float | None = None,
        k: float = 2.0,
        lambd: float | None = None,
    ):
        super().__init__(sigma, lambd=lambd)
        self.a = a
        self.k = k

    def _check_shape(self, dim: int) -> None:
        check_in_range("k of Pow2", self.k, 0.0, math.inf, why="there is no density")
        if self.a is not None:
            check_in_range(
                f"a of Pow2(k={self.k}) in {dim} coordinates", self.a, (dim + 2) / self.k,
                math.inf, why="up to (dim + 2) / k the variance is infinite",
            )  # fmt: skip
        check_in_range(
            "dim for Pow2", dim, 2, math.inf, closed=True,
            why="in one coordinate it has no direction; take Pareto",
        )  # fmt: skip

    def _exponents(self, dim: int) -> tuple[float, float]:
        """Return k and a; by default the tail is the same in every dimension."""
        (k,) = self._floats("k")
        return k, (dim + 16.0) / k if self.a is None else float(self.a)

    def _unit_sigma(self, dim: int) -> float:
        k, a = self._exponents(dim)
        # E r^2 / d for r^k ~ BetaPrime(low, high).
        low, high = dim / k, a - dim / k
        log_moment = radii.log_gamma_ratio(low, 2.0 / k) + radii.log_gamma_ratio(
            high, -2.0 / k
        )
        return math.exp(0.5 * log_moment) / math.sqrt(dim)

    def _log_radii(
        self, n: int, dim: int, generator: torch.Generator | None, device: torch.device
    ) -> torch.Tensor:
        k, a = self._exponents(dim)
        low, high = dim / k, a - dim / k
        log_ratio = log_gamma_draws(low, n, generator, device)
        return log_ratio.sub_(log_gamma_draws(high, n, generator, device)).div_(k)

    def _unit_radius(
        self, prob_lower: NDArray[np.float64], norm: float, dim: int
    ) -> NDArray[np.float64]:
        k, a = self._exponents(dim)
        return radii.pow_two_l2(prob_lower, dim, k, a)
