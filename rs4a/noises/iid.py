"""Noises whose coordinates are independent and identically distributed."""

import math

import torch
from torch import Generator, Tensor

from rs4a import radii
from rs4a.noises.additive import AdditiveNoise
from rs4a.noises.base import Noise
from rs4a.noises.capabilities import InBox, Soft, TwoBounds
from rs4a.noises.draws import fill_exponential_power, fill_laplace, fill_pareto
from rs4a.noises.grid import GridNoise, largest_support
from rs4a.noises.integer_law import IntegerLaw, gaussian_law, gaussian_support, uniform_law
from rs4a.radii.rounding import FloatArray
from rs4a.utils.checks import check_in_range


class Gaussian(GridNoise, TwoBounds, Soft):
    """Gaussian noise, the classical choice against l2 adversaries.

    Density proportional to exp(-||x||_2^2 / (2 lambda^2)). The l2 radius is
    sigma ndtri(prob_lower), exact [1]_. It holds for l1 unchanged, and for linf divided by
    sqrt(d); this noise can prove no more in either norm.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    exact : bool, default=False
        Whether the noise is drawn in whole steps of a grid, on which inputs must lie. The
        noise is then rounded to the nearest step, and radii hold for the floating-point
        computation, between points of the grid [2]_.

    levels : int, default=255
        Number of steps of that grid between 0 and 1, used with ``exact=True``.

    lambd : float, default=None
        Scale; for Gaussian noise the same as `sigma`. Give exactly one of the two.

    References
    ----------
    .. [1] Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized
       Smoothing", ICML 2019, Theorem 1, arXiv:1902.02918.
    .. [2] Voracek, Hein, "Sound Randomized Smoothing in Floating-Point Arithmetic", ICLR
       2023, arXiv:2207.07209.

    Examples
    --------
    >>> from rs4a.noises import Gaussian
    >>> Gaussian(sigma=0.25).radius([0.5, 0.9, 0.999], norm=2, dim=3072).round(4)
    array([0.    , 0.3204, 0.7726])

    Steps of 1/255, as in images of bytes:

    >>> import torch
    >>> noise = Gaussian(sigma=0.25, exact=True)
    >>> draws = 255 * noise.sample(torch.zeros(1, 5), torch.Generator().manual_seed(0))
    >>> torch.equal(draws, draws.round())
    True
    """

    norms = (2.0,)

    def _unit_sigma(self, dim: int) -> float:
        return 1.0

    def _fill_noise(self, out: Tensor, generator: Generator | None) -> float:
        out.normal_(generator=generator)
        return 1.0

    def _integer_law(self, scale: float, device: torch.device) -> IntegerLaw:
        return gaussian_law(scale, int(self.levels), device)

    def _support(self, scale: float) -> int:
        return gaussian_support(scale, int(self.levels))

    def _unit_radius(self, prob_lower: FloatArray, norm: float, dim: int) -> FloatArray:
        return radii.gaussian_l2(prob_lower)

    def _one_bound(self, prob_lower: FloatArray, prob_runner_up: FloatArray) -> FloatArray:
        return radii.gaussian_one_bound(prob_lower, prob_runner_up)

    def _unit_soft_radius(self, prob_top: Tensor, prob_runner_up: Tensor) -> Tensor:
        ndtri = torch.special.ndtri
        return 0.5 * (ndtri(prob_top) - ndtri(prob_runner_up))


class Laplace(AdditiveNoise, Soft):
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

    norms = (1.0, math.inf)

    def _unit_sigma(self, dim: int) -> float:
        return math.sqrt(2.0)

    def _fill_noise(self, out: Tensor, generator: Generator | None) -> float:
        fill_laplace(out, generator)
        return 1.0

    def _unit_radius(self, prob_lower: FloatArray, norm: float, dim: int) -> FloatArray:
        if norm == 1.0:
            return radii.laplace_l1(prob_lower)
        return radii.laplace_linf(prob_lower, dim)

    def _unit_soft_radius(self, prob_top: Tensor, prob_runner_up: Tensor) -> Tensor:
        return -math.log(2.0) - torch.log1p(-prob_top)


class UniformCuts(Noise, TwoBounds, InBox, Soft):
    """Share of noises that cut the range of each coordinate at uniform places."""

    def _unit_sigma(self, dim: int) -> float:
        return 1.0 / math.sqrt(3.0)

    def _one_bound(self, prob_lower: FloatArray, prob_runner_up: FloatArray) -> FloatArray:
        return radii.uniform_one_bound(prob_lower, prob_runner_up)

    def _unit_box_radius(
        self, prob_lower: FloatArray, reach: FloatArray, dim: int
    ) -> FloatArray:
        return radii.uniform_l1_in_box(prob_lower, reach, dim)

    def _unit_soft_radius(self, prob_top: Tensor, prob_runner_up: Tensor) -> Tensor:
        return prob_top - prob_runner_up


class Uniform(UniformCuts, GridNoise):
    """Noise uniform on a cube, the best known choice against l1 adversaries.

    Density constant on [-lambda, lambda]^d; sigma = lambda / sqrt(3). The l1 radius is
    2 lambda (prob_lower - 1/2) and the linf radius
    2 lambda (1 - (3/2 - prob_lower)^(1/d)), both exact [1]_. No l1 radius exceeds
    lambda.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    exact : bool, default=False
        Whether the noise is drawn in whole steps of a grid, on which inputs must lie, so
        that radii hold for the floating-point computation, between points of the grid
        [2]_. lambda is then the largest (2 m + 1) / (2 levels) of at most the given
        one.

    levels : int, default=255
        Number of steps of that grid between 0 and 1, used with ``exact=True``.

    lambd : float, default=None
        Half the side of the cube, in units of X. Give exactly one of the two.

    References
    ----------
    .. [1] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.
    .. [2] Voracek, Hein, "Sound Randomized Smoothing in Floating-Point Arithmetic", ICLR
       2023, arXiv:2207.07209.

    Examples
    --------
    >>> from rs4a.noises import Uniform
    >>> Uniform(lambd=1.0).radius([0.5, 0.9, 0.999], norm=1, dim=3072).round(4)
    array([0.   , 0.8  , 0.998])
    >>> Uniform(lambd=1.0, exact=True).scale(dim=3072) == (2 * 254 + 1) / (2 * 255)
    True
    """

    norms = (1.0, math.inf)

    def _fill_noise(self, out: Tensor, generator: Generator | None) -> float:
        out.uniform_(-1.0, 1.0, generator=generator)
        return 1.0

    def _scale_on_grid(self, scale: float) -> float:
        return (2 * largest_support(scale, self) + 1) / (2 * int(self.levels))

    def _integer_law(self, scale: float, device: torch.device) -> IntegerLaw:
        return uniform_law(self._support(scale), device)

    def _support(self, scale: float) -> int:
        return round(scale * int(self.levels) - 0.5)

    def _unit_radius(self, prob_lower: FloatArray, norm: float, dim: int) -> FloatArray:
        if norm == 1.0:
            return radii.uniform_l1(prob_lower)
        return radii.uniform_linf(prob_lower, dim)

    def _unit_box_radius(
        self, prob_lower: FloatArray, reach: FloatArray, dim: int
    ) -> FloatArray:
        reach = self._reach_on_grid(reach, dim) if self.exact else reach
        return super()._unit_box_radius(prob_lower, reach, dim)


class Pareto(AdditiveNoise):
    """Symmetric Pareto noise with polynomial tails, against l1 adversaries.

    Density proportional to ``prod (1 + |x_i| / lambda)^-(a + 1)``; sigma =
    lambda (2 / ((a - 1) (a - 2)))^(1/2). For large a it is close to Laplace noise. The l1
    radius, by the differential method [1]_, is a sound lower bound,
    lambda q / a 2F1(1, c; 1 + c; q^(1/c)) with q = 2 prob_lower - 1, c = a / (a + 1).

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    a : float, default=3.0
        Exponent of the tail, above 2: up to 2 the variance is infinite.

    lambd : float, default=None
        Scale of the distribution, in units of X. Give exactly one of `sigma` and `lambd`.

    References
    ----------
    .. [1] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> from rs4a.noises import Pareto
    >>> Pareto(sigma=1.0, a=3).radius([0.5, 0.9, 0.999], norm=1, dim=3072).round(4)
    array([0.    , 0.4489, 1.6088])
    """

    norms = (1.0,)

    def __init__(
        self, sigma: float | None = None, *, a: float = 3.0, lambd: float | None = None
    ):
        super().__init__(sigma, lambd=lambd)
        self.a = a

    def _check_shape(self, dim: int) -> None:
        check_in_range("a of Pareto", self.a, 2.0, math.inf, why="the variance is infinite")

    def _unit_sigma(self, dim: int) -> float:
        (a,) = self._floats("a")
        return math.sqrt(2.0 / ((a - 1.0) * (a - 2.0)))

    def _fill_noise(self, out: Tensor, generator: Generator | None) -> float:
        (a,) = self._floats("a")
        fill_pareto(out, a, generator)
        return 1.0

    def _unit_radius(self, prob_lower: FloatArray, norm: float, dim: int) -> FloatArray:
        (a,) = self._floats("a")
        return radii.pareto_l1(prob_lower, a)


class Expp(AdditiveNoise):
    """Exponential power noise, between Laplace (p = 1), Gaussian (2) and Uniform (inf).

    Density proportional to exp(-||x / lambda||_p^p); sigma =
    lambda (Gamma(3/p) / Gamma(1/p))^(1/2). For p >= 1 the l1 radius is exact, the R with
    P(1/p, (R / lambda)^p) = 2 prob_lower - 1, P the regularized lower gamma function;
    for p < 1 it is a sound lower bound by the differential method [1]_.

    At p = 1 the noise is Laplace noise and has its direct linf guarantee as well; at p = 2
    it is Gaussian noise and has its direct l2 guarantee.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    p : float, default=2.0
        Exponent, at least 0.01: below, sigma / lambda leaves float64.

    lambd : float, default=None
        Scale of the distribution, in units of X. Give exactly one of `sigma` and `lambd`.

    References
    ----------
    .. [1] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> from rs4a.noises import Expp
    >>> Expp(sigma=1.0, p=4).radius([0.5, 0.9, 0.999], norm=1, dim=3072).round(4)
    array([0.    , 1.3352, 2.3978])
    """

    def __init__(
        self, sigma: float | None = None, *, p: float = 2.0, lambd: float | None = None
    ):
        super().__init__(sigma, lambd=lambd)
        self.p = p

    @property
    def norms(self) -> tuple[float, ...]:
        """Norms of the adversary with a direct guarantee, the noise's own first."""
        if self.p == 1:
            return (1.0, math.inf)
        return (1.0, 2.0) if self.p == 2 else (1.0,)

    def _check_shape(self, dim: int) -> None:
        check_in_range(
            "p of Expp", self.p, 0.01, math.inf, closed=True,
            why="below 0.01 sigma / lambd leaves float64",
        )  # fmt: skip

    def _unit_sigma(self, dim: int) -> float:
        (p,) = self._floats("p")
        return math.exp(0.5 * radii.log_gamma_ratio(1.0 / p, 2.0 / p))

    def _fill_noise(self, out: Tensor, generator: Generator | None) -> float:
        (p,) = self._floats("p")
        if p == 1.0:
            fill_laplace(out, generator)
            return 1.0
        if p == 2.0:
            out.normal_(generator=generator)
            return math.sqrt(0.5)
        # At sigma = 1: at scale 1 float32 overflows for small p.
        unit_sigma = self._unit_sigma(1)
        fill_exponential_power(out, p, 1.0 / unit_sigma, generator)
        return unit_sigma

    def _unit_radius(self, prob_lower: FloatArray, norm: float, dim: int) -> FloatArray:
        (p,) = self._floats("p")
        if norm == 2.0:
            return math.sqrt(0.5) * radii.gaussian_l2(prob_lower)
        if math.isinf(norm):
            return radii.laplace_linf(prob_lower, dim)
        return radii.expp_l1(prob_lower, p)
