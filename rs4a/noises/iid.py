"""Noises whose coordinates are independent and identically distributed."""

import math
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from rs4a import radii
from rs4a.noises.base import Noise

__all__ = ["Gaussian", "Laplace", "Uniform"]


class Gaussian(Noise):
    """Gaussian noise, the classical choice against l2 adversaries.

    Density proportional to exp(-||x||_2^2 / (2 lambda^2)). The l2 radius is
    sigma ndtri(prob_lower), exact [1]_; it holds for l1 as it is, and divided by
    sqrt(d) for linf, and both are the best that this noise can prove.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    lambd : float, default=None
        Scale; for Gaussian noise the same as `sigma`. Give exactly one of the two.

    References
    ----------
    .. [1] Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized
       Smoothing", ICML 2019, Theorem 1, arXiv:1902.02918.

    Examples
    --------
    >>> from rs4a.noises import Gaussian
    >>> Gaussian(sigma=0.25).radius([0.5, 0.9, 0.999], norm=2, dim=3072).round(4)
    array([0.    , 0.3204, 0.7726])
    """

    norms: ClassVar[tuple[float, ...]] = (2.0,)

    def _unit_sigma(self, dim: int) -> float:
        return 1.0

    def _fill_unit_noise(
        self, out: torch.Tensor, generator: torch.Generator | None
    ) -> None:
        out.normal_(generator=generator)

    def _unit_radius(
        self, prob_lower: NDArray[np.float64], norm: float, dim: int
    ) -> NDArray[np.float64]:
        return radii.gaussian_l2(prob_lower)


class Laplace(Noise):
    """Laplace noise, against l1 adversaries, with a direct linf guarantee as well.

    Density proportional to exp(-||x||_1 / lambda); sigma = sqrt(2) lambda. The l1
    radius is -lambda log(2 (1 - prob_lower)), exact [1]_. The linf radius comes from
    the differential method in closed form [2]_, a sound lower bound.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    lambd : float, default=None
        Scale of the distribution, in units of X. Give exactly one of the two.

    References
    ----------
    .. [1] Teng, Lee, Yuan, "l1 Adversarial Robustness Certificates: a Randomized
       Smoothing Approach", 2019.
    .. [2] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> from rs4a.noises import Laplace
    >>> Laplace(lambd=1.0).radius([0.5, 0.9, 0.999], norm=1, dim=3072).round(4)
    array([0.    , 1.6094, 6.2146])
    """

    norms: ClassVar[tuple[float, ...]] = (1.0, math.inf)

    def _unit_sigma(self, dim: int) -> float:
        return math.sqrt(2.0)

    def _fill_unit_noise(
        self, out: torch.Tensor, generator: torch.Generator | None
    ) -> None:
        # Inverse distribution function, at the centres of the cells that torch draws
        # from: a symmetric grid of odd multiples of eps/2 inside (-1, 1). So no draw is
        # infinite.
        out.uniform_(-1.0 + torch.finfo(out.dtype).eps / 2, 1.0, generator=generator)
        magnitude = out.abs().neg_().log1p_()
        torch.copysign(magnitude, out, out=out)

    def _unit_radius(
        self, prob_lower: NDArray[np.float64], norm: float, dim: int
    ) -> NDArray[np.float64]:
        if norm == 1.0:
            return radii.laplace_l1(prob_lower)
        return radii.laplace_linf(prob_lower, dim)


class Uniform(Noise):
    """Noise uniform on a cube, the best known choice against l1 adversaries.

    Density constant on [-lambda, lambda]^d; sigma = lambda / sqrt(3). The l1 radius is
    2 lambda (prob_lower - 1/2) and the linf radius
    2 lambda (1 - (3/2 - prob_lower)^(1/d)), both exact [1]_. No l1 radius exceeds
    lambda.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    lambd : float, default=None
        Half the side of the cube, in units of X. Give exactly one of the two.

    References
    ----------
    .. [1] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> from rs4a.noises import Uniform
    >>> Uniform(lambd=1.0).radius([0.5, 0.9, 0.999], norm=1, dim=3072).round(4)
    array([0.   , 0.8  , 0.998])
    """

    norms: ClassVar[tuple[float, ...]] = (1.0, math.inf)

    def _unit_sigma(self, dim: int) -> float:
        return 1.0 / math.sqrt(3.0)

    def _fill_unit_noise(
        self, out: torch.Tensor, generator: torch.Generator | None
    ) -> None:
        out.uniform_(-1.0, 1.0, generator=generator)

    def _unit_radius(
        self, prob_lower: NDArray[np.float64], norm: float, dim: int
    ) -> NDArray[np.float64]:
        if norm == 1.0:
            return radii.uniform_l1(prob_lower)
        return radii.uniform_linf(prob_lower, dim)
