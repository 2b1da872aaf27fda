"""Cubical noises: the density depends on the linf norm."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from rs4a import radii
from rs4a.noises.draws import log_gamma_draws
from rs4a.noises.radial import RadialNoise
from rs4a.utils.checks import check_in_range

__all__ = ["ExpInf", "PowInf"]


class _Cubical(RadialNoise):
    norms = (math.inf, 1.0)

    def _fill_directions(
        self, rows: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        """Uniform in the cube, then one coordinate moved to the face on its side."""
        rows.uniform_(-1.0, 1.0, generator=generator)
        n, dim = rows.shape
        face = torch.randint(dim, (n, 1), generator=generator, device=rows.device)
        side = rows.gather(1, face)
        rows.scatter_(1, face, torch.ones_like(side).copysign_(side))
        return torch.ones(n, dtype=rows.dtype, device=rows.device)


class ExpInf(_Cubical):
    """Cubical noise with exponential tails, against linf and l1 adversaries.

    Density proportional to r^-j exp(-(r / lambda)^k), r = ||x||_inf. Both radii come from
    the differential method [1]_ and are sound lower bounds; at k = 1, j = 0 the linf
    radius -lambda log(2 (1 - prob_lower)) is exact. The method proves nothing for
    j >= d - 1, where the radius is 0.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    k : float, default=1.0
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
    >>> from rs4a.noises import ExpInf
    >>> noise = ExpInf(sigma=1.0, k=1, j=3070)
    >>> noise.radius([0.5, 0.9, 0.999], norm=1, dim=3072).round(4)
    array([0.    , 0.5657, 0.7057])
    """

    def __init__(
        self,
        sigma: float | None = None,
        *,
        k: float = 1.0,
        j: float = 0.0,
        lambd: float | None = None,
    ):
        super().__init__(sigma, lambd=lambd)
        self.k = k
        self.j = j

    def _check_shape(self, dim: int) -> None:
        self._check_exponents(dim)

    def _unit_sigma(self, dim: int) -> float:
        k, j = self._floats("k", "j")
        shape = (dim - j) / k
        return _sigma(radii.log_gamma_ratio(shape, 2.0 / k), dim)

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
        return radii.exp_inf(prob_lower, norm, dim, k, j)


class PowInf(_Cubical):
    """Cubical noise with polynomial tails, against linf and l1 adversaries.

    Density proportional to (1 + r / lambda)^-a, r = ||x||_inf. Both radii come from the
    differential method [1]_ and are sound lower bounds.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    a : float, default=None
        Exponent of the density, above d + 2: else the variance is infinite. None: d + 10.

    lambd : float, default=None
        Scale of the distribution, in units of X. Give exactly one of `sigma` and `lambd`.

    References
    ----------
    .. [1] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> from rs4a.noises import PowInf
    >>> noise = PowInf(sigma=1.0, a=3082)
    >>> noise.radius([0.5, 0.9, 0.999], norm=1, dim=3072).round(4)
    array([0.    , 1.1752, 1.466 ])
    """

    def __init__(
        self,
        sigma: float | None = None,
        *,
        a: float | None = None,
        lambd: float | None = None,
    ):
        super().__init__(sigma, lambd=lambd)
        self.a = a

    def _check_shape(self, dim: int) -> None:
        if self.a is not None:
            check_in_range(
                f"a of PowInf in {dim} coordinates", self.a, dim + 2, math.inf,
                why="up to dim + 2 the variance is infinite",
            )  # fmt: skip

    def _exponent(self, dim: int) -> float:
        return dim + 10.0 if self.a is None else float(self.a)

    def _unit_sigma(self, dim: int) -> float:
        a = self._exponent(dim)
        # r ~ BetaPrime(d, b): E r^2 = d (d + 1) / ((b - 1) (b - 2)).
        b = a - dim
        return _sigma(math.log(dim) + math.log1p(dim) - math.log((b - 1) * (b - 2)), dim)

    def _log_radii(
        self, n: int, dim: int, generator: torch.Generator | None, device: torch.device
    ) -> torch.Tensor:
        a = self._exponent(dim)
        log_ratio = log_gamma_draws(dim, n, generator, device)
        return log_ratio.sub_(log_gamma_draws(a - dim, n, generator, device))

    def _unit_radius(
        self, prob_lower: NDArray[np.float64], norm: float, dim: int
    ) -> NDArray[np.float64]:
        a = self._exponent(dim)
        return radii.pow_inf(prob_lower, norm, dim, a)


def _sigma(log_moment: float, dim: int) -> float:
    """Sigma from log E r^2: the face has 1, the other coordinates (d - 1) / 3 in all."""
    return math.exp(0.5 * log_moment) * math.sqrt((dim + 2.0) / (3.0 * dim))
