"""Noise whose density depends on one norm of x: a random radius times a direction."""

import math
from abc import abstractmethod

import torch
from torch import Generator, Tensor

from rs4a import radii
from rs4a.noises.additive import AdditiveNoise
from rs4a.noises.draws import fill_laplace, log_gamma_draws
from rs4a.radii.rounding import FloatArray
from rs4a.utils.checks import check_in_range


class RadialNoise(AdditiveNoise):
    """Base class of noise r u, with u uniform on the unit sphere of a norm, r independent.

    A subclass draws the radius (`_log_radii`) and the direction (`_fill_directions`).

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    lambd : float, default=None
        Scale lambda of the noise, in units of X.
    """

    @abstractmethod
    def _log_radii(
        self, n: int, dim: int, generator: Generator | None, device: torch.device
    ) -> Tensor:
        """Logarithms of n radii at unit scale, (n,), float64."""

    @abstractmethod
    def _fill_directions(self, rows: Tensor, generator: Generator | None) -> Tensor:
        """Overwrite rows with vectors of uniform direction; return their norms, (n,)."""

    def _fill_noise(self, out: Tensor, generator: Generator | None) -> Tensor:
        rows = out.view(len(out), -1)
        log_radii = self._log_radii(len(rows), rows.shape[1], generator, out.device)
        return log_radii.exp_() / self._fill_directions(rows, generator)


# Spheres: the direction, and sigma from the root mean square of r


class _CrossPolytope(RadialNoise):
    def _fill_directions(self, rows: Tensor, generator: Generator | None) -> Tensor:
        fill_laplace(rows, generator)
        return torch.linalg.vector_norm(rows, ord=1, dim=1)

    def _per_coordinate(self, radius: float, dim: int) -> float:
        return radius * math.sqrt(2.0 / dim / (dim + 1.0))


class _Sphere(RadialNoise):
    norms = (2.0,)

    def _fill_directions(self, rows: Tensor, generator: Generator | None) -> Tensor:
        rows.normal_(generator=generator)
        norms = torch.linalg.vector_norm(rows, dim=1)
        return torch.where(norms > 0.0, norms, 1.0)  # a row of zeros remains one

    def _per_coordinate(self, radius: float, dim: int) -> float:
        return radius / math.sqrt(dim)

    def _check_direction(self, dim: int, instead: str) -> None:
        check_in_range(
            f"dim for {type(self).__name__}", dim, 2, math.inf, closed=True,
            why=f"in one coordinate it has no direction; take {instead}",
        )  # fmt: skip


class _Cube(RadialNoise):
    norms = (math.inf, 1.0)

    def _fill_directions(self, rows: Tensor, generator: Generator | None) -> Tensor:
        """Uniform in the cube, then one coordinate moved to the face on its side."""
        rows.uniform_(-1.0, 1.0, generator=generator)
        n, dim = rows.shape
        face = torch.randint(dim, (n, 1), generator=generator, device=rows.device)
        side = rows.gather(1, face)
        rows.scatter_(1, face, torch.ones_like(side).copysign_(side))
        return torch.ones(n, dtype=rows.dtype, device=rows.device)

    def _per_coordinate(self, radius: float, dim: int) -> float:
        # The face has r^2, the other coordinates (d - 1) / 3 r^2 in all.
        return radius * math.sqrt((dim + 2.0) / (3.0 * dim))


# Radii


class _ExponentialTail(RadialNoise):
    """Density r^-j exp(-r^k): r^k ~ Gamma((d - j) / k)."""

    k: float
    j: float = 0.0

    @abstractmethod
    def _per_coordinate(self, radius: float, dim: int) -> float:
        """Sigma of noise with this root mean square of r."""

    def _check_shape(self, dim: int) -> None:
        name = type(self).__name__
        check_in_range(f"k of {name}", self.k, 0.0, math.inf, why="there is no density")
        check_in_range(
            f"j of {name} in {dim} coordinates", self.j, 0.0, dim, closed=True,
            why="from dim on there is no density",
        )  # fmt: skip

    def _unit_sigma(self, dim: int) -> float:
        k, j = self._floats("k", "j")
        log_mean_square = radii.log_gamma_ratio((dim - j) / k, 2.0 / k)
        return self._per_coordinate(math.exp(0.5 * log_mean_square), dim)

    def _log_radii(
        self, n: int, dim: int, generator: Generator | None, device: torch.device
    ) -> Tensor:
        k, j = self._floats("k", "j")
        return log_gamma_draws((dim - j) / k, n, generator, device).div_(k)


class _PolynomialTail(RadialNoise):
    """Density (1 + r^k)^-a: r^k ~ BetaPrime(d / k, a - d / k)."""

    @abstractmethod
    def _exponents(self, dim: int) -> tuple[float, float]:
        """Return k and a; by default the tail is the same in every dimension."""

    def _log_radii(
        self, n: int, dim: int, generator: Generator | None, device: torch.device
    ) -> Tensor:
        k, a = self._exponents(dim)
        low, high = dim / k, a - dim / k
        log_ratio = log_gamma_draws(low, n, generator, device)
        return log_ratio.sub_(log_gamma_draws(high, n, generator, device)).div_(k)


class UniformBall(_Sphere):
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
        self, n: int, dim: int, generator: Generator | None, device: torch.device
    ) -> Tensor:
        # r^d is uniform, and minus its logarithm exponential.
        log_radii = torch.empty(n, dtype=torch.float64, device=device)
        return log_radii.exponential_(generator=generator).mul_(-1.0 / dim)

    def _unit_radius(self, prob_lower: FloatArray, norm: float, dim: int) -> FloatArray:
        return radii.uniform_ball_l2(prob_lower, dim)


class Exp2(_Sphere, _ExponentialTail):
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
        super()._check_shape(dim)
        self._check_direction(dim, "Expp")

    def _unit_radius(self, prob_lower: FloatArray, norm: float, dim: int) -> FloatArray:
        return radii.exp_two_l2(prob_lower, dim, *self._floats("k", "j"))


class ExpInf(_Cube, _ExponentialTail):
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

    def _unit_radius(self, prob_lower: FloatArray, norm: float, dim: int) -> FloatArray:
        return radii.exp_inf(prob_lower, norm, dim, *self._floats("k", "j"))


class Exp1(_CrossPolytope, _ExponentialTail):
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

    def _unit_radius(self, prob_lower: FloatArray, norm: float, dim: int) -> FloatArray:
        if math.isinf(norm):
            return radii.laplace_linf(prob_lower, dim)
        return radii.exp_one_l1(prob_lower, dim, *self._floats("k"))


class Pow2(_Sphere, _PolynomialTail):
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
        self._check_direction(dim, "Pareto")

    def _exponents(self, dim: int) -> tuple[float, float]:
        (k,) = self._floats("k")
        return k, (dim + 16.0) / k if self.a is None else float(self.a)

    def _unit_sigma(self, dim: int) -> float:
        k, a = self._exponents(dim)
        low, high = dim / k, a - dim / k
        log_mean_square = radii.log_gamma_ratio(low, 2.0 / k)
        log_mean_square += radii.log_gamma_ratio(high, -2.0 / k)
        return self._per_coordinate(math.exp(0.5 * log_mean_square), dim)

    def _unit_radius(self, prob_lower: FloatArray, norm: float, dim: int) -> FloatArray:
        return radii.pow_two_l2(prob_lower, dim, *self._exponents(dim))


class PowInf(_Cube, _PolynomialTail):
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

    def _exponents(self, dim: int) -> tuple[float, float]:
        return 1.0, dim + 10.0 if self.a is None else float(self.a)

    def _unit_sigma(self, dim: int) -> float:
        b = self._exponents(dim)[1] - dim
        # r ~ BetaPrime(d, b): E r^2 = d (d + 1) / ((b - 1) (b - 2)).
        log_mean_square = math.log(dim) + math.log1p(dim) - math.log((b - 1) * (b - 2))
        return self._per_coordinate(math.exp(0.5 * log_mean_square), dim)

    def _unit_radius(self, prob_lower: FloatArray, norm: float, dim: int) -> FloatArray:
        return radii.pow_inf(prob_lower, norm, dim, self._exponents(dim)[1])
