"""Base class of smoothing noise: scale, conversion of norms, checks and rounding."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from torch import Generator, Tensor

from rs4a.noises.capabilities import InBox, Soft, TwoBounds, refuse
from rs4a.radii import complement, conversion_factor, round_down
from rs4a.radii.rounding import FloatArray
from rs4a.utils.checks import (
    check_dim,
    check_norm,
    check_positive,
    check_probability,
    format_norm,
)

Sampler = Callable[[Tensor, Generator | None, Tensor | None], Tensor]
#: Largest sigma, as a share of the largest number of the dtype: draws of heavy-tailed noise
#: exceed sigma by far.
_LARGEST_SHARE = 1e-4


class Noise(BaseEstimator, ABC):
    """Base class of smoothing noise: randomness between an input and the net.

    A noise object holds its parameters and nothing else: the dimension comes from the
    data and the device from the net. It is a hyperparameter in scikit-learn's sense
    (`get_params`, `set_params`, `clone`), so that searches vary it and its numbers.

    A subclass states its distribution at unit scale (`_unit_sigma`, `_unit_radius` for the
    norms in `norms`, and `_check_shape` if it has parameters besides its scale) and how an
    input is changed (`_sample_at_scale`; noise that is added to the input inherits from
    :class:`AdditiveNoise` instead). This class does the scale, the conversion to other
    norms, checks and rounding.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, sqrt(E||e||_2^2 / d), in units of X. Noises are
        compared at equal sigma.

    lambd : float, default=None
        Scale lambda of the noise, in units of X. Give exactly one of `sigma` and `lambd`
        before the noise is used.

    Attributes
    ----------
    deterministic : bool
        Whether an input has finitely many views, all of which vote; then nothing about the
        votes is random.

    unit_inputs : bool
        Whether inputs must lie in [0, 1].
    """

    deterministic: bool = False
    unit_inputs: bool = False

    def __init__(self, sigma: float | None = None, *, lambd: float | None = None):
        self.sigma = sigma
        self.lambd = lambd

    @property
    @abstractmethod
    def norms(self) -> tuple[float, ...]:
        """Norms of the adversary with a direct guarantee, the noise's own first."""

    @abstractmethod
    def _unit_sigma(self, dim: int) -> float:
        """Sigma of the noise of scale 1."""

    @abstractmethod
    def _sample_at_scale(
        self, scale: float, x: Tensor, generator: Generator | None, out: Tensor | None
    ) -> Tensor:
        """Result of `sample` for the noise's scale; `x` is checked."""

    @abstractmethod
    def _unit_radius(self, prob_lower: FloatArray, norm: float, dim: int) -> FloatArray:
        """Radius of the noise of scale 1 for a norm in `norms`."""

    def _ideal_bounds(
        self, prob_lower: FloatArray, prob_runner_up: FloatArray | None, dim: int
    ) -> tuple[FloatArray, FloatArray | None]:
        """Bounds under the law that radii are about, given bounds under the drawn law."""
        return prob_lower, prob_runner_up

    @property
    def has_two_bound_radius(self) -> bool:
        """Whether `radius` uses a bound on the runner-up."""
        return isinstance(self, TwoBounds) and not self.deterministic

    @property
    def has_box_radius(self) -> bool:
        """Whether `radius` uses the box that attacks must stay in."""
        return isinstance(self, InBox) and not self.deterministic

    @property
    def has_soft_radius(self) -> bool:
        """Whether there is a radius in which gradients exist."""
        return isinstance(self, Soft)

    def _check_shape(self, dim: int) -> None:
        """Refuse parameters that leave no density or no variance in `dim` coordinates."""

    def fixed(
        self,
        random_state: np.random.RandomState | None,
        trained_under: Noise | None = None,
    ) -> Noise:
        """The noise, with the part that a fit draws once and keeps.

        Parameters
        ----------
        random_state : RandomState or None
            Source of randomness. None: the net is trained already, and nothing is drawn.

        trained_under : Noise, default=None
            Noise of the net's training, if it is known.

        Returns
        -------
        noise : Noise
            The same object, unless the noise has such a part.
        """
        return self

    @property
    def input_levels(self) -> int | None:
        """Steps from 0 to 1 of the grid of inputs, attacked inputs included; or None."""
        return None

    def check_inputs(self, X: NDArray[np.float32] | Tensor) -> None:
        """Refuse inputs that the certificates do not cover; here none.

        Parameters
        ----------
        X : ndarray or torch.Tensor of any shape
            One input or several.

        Raises
        ------
        ValueError
            If the noise is not defined for a value.
        """

    def _floats(self, *names: str) -> tuple[float, ...]:
        """Parameters as Python floats: a numpy float32 would compute in float32."""
        return tuple(float(getattr(self, name)) for name in names)

    def _scales(self, dim: int) -> tuple[float, float]:
        """Lambda and sigma, after all checks of parameters."""
        name = type(self).__name__
        for each in ("sigma", "lambd"):
            check_positive(f"{each} of {name}", getattr(self, each))
        if (self.sigma is None) == (self.lambd is None):
            got = "neither" if self.sigma is None else "both"
            raise ValueError(
                f"{name} takes exactly one of sigma and lambd, got {got}: "
                f"sigma={self.sigma}, lambd={self.lambd}. Give sigma, the standard "
                "deviation of a coordinate, or lambd, the scale of the distribution."
            )
        self._check_shape(dim)
        try:
            unit_sigma = self._unit_sigma(dim)
        except OverflowError:
            unit_sigma = math.inf
        if not sys.float_info.min < unit_sigma < sys.float_info.max:
            raise ValueError(
                f"{self} has sigma / lambd = {unit_sigma:g} in {dim} coordinates, which "
                "float64 cannot hold: its shape parameters are too extreme."
            )
        if self.sigma is not None:
            return float(self.sigma) / unit_sigma, float(self.sigma)
        assert self.lambd is not None
        return float(self.lambd), float(self.lambd) * unit_sigma

    def scale(self, dim: int) -> float:
        """Scale lambda of the noise on inputs of `dim` coordinates.

        Parameters
        ----------
        dim : int
            Number of coordinates of one input.

        Returns
        -------
        lambd : float
            In units of X.

        Raises
        ------
        ValueError
            If a parameter is out of range, or not exactly one of `sigma` and `lambd`
            is given.

        Examples
        --------
        >>> from rs4a.noises import Uniform
        >>> round(Uniform(sigma=0.5).scale(dim=3072), 4)
        0.866
        """
        return self._scales(check_dim(dim))[0]

    def std(self, dim: int) -> float:
        """Sigma of the noise on inputs of `dim` coordinates.

        Parameters
        ----------
        dim : int
            Number of coordinates of one input.

        Returns
        -------
        sigma : float
            Standard deviation of a coordinate, in units of X.
        """
        return self._scales(check_dim(dim))[1]

    def sample(
        self, x: Tensor, generator: Generator | None = None, *, out: Tensor | None = None
    ) -> Tensor:
        """Noisy copy of every input; gradients flow through to `x`.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...), floating point
            Inputs, which do not change.

        generator : torch.Generator, default=None
            Source of randomness, on the device of `x`. None: torch's default one.

        out : torch.Tensor, default=None
            Memory for the result, of the shape, dtype and device of `x`, but other memory
            than `x`. None: new memory.

        Returns
        -------
        noisy : torch.Tensor
            Of the shape, dtype and device of `x`.

        Raises
        ------
        TypeError
            If `x` is not a floating-point tensor.
        ValueError
            If `out` shares memory with `x`, or the dtype cannot hold sigma.

        Examples
        --------
        >>> import torch
        >>> from rs4a.noises import Gaussian
        >>> Gaussian(sigma=0.25).sample(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
        """
        if not (isinstance(x, Tensor) and x.is_floating_point()):
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"x must be a floating-point torch.Tensor, got {kind}.")
        if x.dim() == 0:
            raise ValueError("x must have a first axis, of inputs, got a scalar.")
        _check_out(out, x)
        self.check_inputs(x)
        dim = max(1, math.prod(x.shape[1:]))
        return self.sampler(dim, x.dtype)(x, generator, out)

    def sampler(self, dim: int, dtype: torch.dtype) -> Sampler:
        """`sample` for many small draws: it checks once, here.

        Parameters
        ----------
        dim : int
            Number of coordinates of one input.

        dtype : torch.dtype
            Of the inputs: a floating-point type.

        Returns
        -------
        sampler : callable
            Takes `x`, `generator` and `out` as `sample` does, unchecked.

        Raises
        ------
        ValueError
            If a parameter is out of range, or the dtype cannot hold sigma.
        """
        scale = self.scale(dim)
        self._check_fits(dtype, dim)
        return partial(self._sample_at_scale, scale)

    def _check_fits(self, dtype: torch.dtype, dim: int) -> None:
        largest = torch.finfo(dtype).max
        if self.std(dim) > _LARGEST_SHARE * largest:
            raise ValueError(
                f"{self} has sigma = {self.std(dim):g} in {dim} coordinates, too much for "
                f"{dtype}, which ends at {largest:g}: draws would be infinite."
            )

    def radius(
        self,
        prob_lower: ArrayLike,
        norm: float,
        dim: int,
        *,
        prob_runner_up: ArrayLike | None = None,
        reach: ArrayLike | None = None,
    ) -> FloatArray:
        """Certified radius, given a lower bound on the top class's probability.

        Within this l_p distance of an input no change alters the majority vote. The
        radius is never above the true one: approximations are rounded down. A norm
        that is not in `norms` gets the best radius that a norm in `norms` implies.

        Parameters
        ----------
        prob_lower : array-like of any shape
            Lower bound on the probability, under the noise, of the top class.

        norm : {1, 2, inf}
            Norm p of the adversary.

        dim : int
            Number of coordinates of one input.

        prob_runner_up : array-like of the shape of `prob_lower`, default=None
            Upper bound on the probability of every other class, for noises with a
            two-bound radius (``rs4a.noises.capabilities.TwoBounds``). None:
            1 - `prob_lower`.

        reach : array-like of shape (..., k), default=None
            For an attack that must stay in a box: the farthest move of the coordinates of
            each input, the largest first, in units of X. Coordinates beyond the k-th move
            at most as far as the k-th. The radius then holds within the box, for noises
            with a box radius (``rs4a.noises.capabilities.InBox``). None: no box.

        Returns
        -------
        radius : ndarray of float64, of the shape of `prob_lower`
            In units of X; 0 where `prob_lower` is at most 1/2, or at most
            `prob_runner_up` if that is given.

        Raises
        ------
        ValueError
            If a probability is NaN or outside [0, 1], or `prob_runner_up` is given and
            the noise has no two-bound radius.
        UnsupportedNormError
            If `norm` is none of 1, 2 and inf.

        Examples
        --------
        >>> from rs4a.noises import Uniform
        >>> Uniform(lambd=1.0).radius([0.4, 0.75, 1.0], norm=1, dim=784).round(6)
        array([0. , 0.5, 1. ])
        """
        norm, dim = check_norm(norm), check_dim(dim)
        top, runner_up = check_probability("prob_lower", prob_lower), None
        if prob_runner_up is not None:
            self.check_two_bounds()
            runner_up = check_probability("prob_runner_up", prob_runner_up)
        top, runner_up = self._ideal_bounds(top, runner_up, dim)
        if runner_up is not None:
            top = self._one_bound(top, runner_up)
        scale, sigma = self._scales(dim)
        candidates = [
            self._unit_radius(top, source, dim)
            * (scale * conversion_factor(source, norm, dim))
            for source in self.norms
        ]
        # The half-space x_1 <= c of that probability bounds every radius by c, and
        # Chebyshev bounds c. No noise comes near it: it only limits errors.
        root = np.sqrt(2.0 * complement(top))
        limit = np.full_like(root, np.inf)
        np.divide(sigma, root, out=limit, where=root > 0.0)
        radius = np.minimum(np.max(candidates, axis=0), limit)
        if reach is not None:
            in_box = self._box_radius(top, reach, dim)
            radius = np.maximum(radius, in_box * conversion_factor(1.0, norm, dim))
        return round_down(radius)

    def _box_radius(self, prob_lower: FloatArray, reach: ArrayLike, dim: int) -> FloatArray:
        self.check_box_radius()
        scale = self.scale(dim)
        lengths = np.asarray(reach, dtype=np.float64)
        good = lengths.ndim > 0 and lengths.shape[-1] > 0 and bool((lengths >= 0.0).all())
        if not (good and (np.diff(lengths, axis=-1) <= 0.0).all()):
            raise ValueError(
                "reach must be an array of shape (..., k) of lengths of at least 0, the "
                f"largest first, got {reach!r}."
            )
        return scale * self._unit_box_radius(prob_lower, lengths / scale, dim)

    def check_two_bounds(self) -> None:
        """Refuse a bound on the runner-up, unless a radius uses it.

        Raises
        ------
        ValueError
            If the noise has no two-bound radius.
        """
        if not self.has_two_bound_radius:
            refuse(self, TwoBounds, "runner_up=True or prob_runner_up")

    def check_box_radius(self) -> None:
        """Refuse a box, unless a radius uses it.

        Raises
        ------
        ValueError
            If the noise has no box radius, with the reason.
        """
        if not self.has_box_radius:
            refuse(self, InBox, "box")

    def guarantee(self, norm: float) -> str:
        """Origin of the radius for a norm, in words.

        Parameters
        ----------
        norm : {1, 2, inf}
            Norm p of the adversary.

        Returns
        -------
        guarantee : str
            "direct", or the norms that it is converted from.

        Examples
        --------
        >>> from rs4a.noises import Laplace
        >>> Laplace(sigma=0.5).guarantee(norm=1)
        'direct l1'
        >>> Laplace(sigma=0.5).guarantee(norm=2)
        'l2 converted from l1 (divided by dim**0.5) or linf (as it is)'
        """
        norm = check_norm(norm)
        if norm in self.norms:
            return f"direct {format_norm(norm)}"
        ways = " or ".join(
            f"{format_norm(source)} ({_conversion_in_words(source, norm)})"
            for source in self.norms
        )
        return f"{format_norm(norm)} converted from {ways}"


def _check_out(out: Tensor | None, x: Tensor) -> None:
    if out is None:
        return
    wanted, got = ((tuple(each.shape), each.dtype, each.device.type) for each in (x, out))
    if wanted != got:
        raise ValueError(f"out must be like x, {wanted}, got {got}.")
    if out.untyped_storage().data_ptr() == x.untyped_storage().data_ptr():
        raise ValueError("out must be other memory than x, got x or a view of it.")


def _conversion_in_words(source: float, target: float) -> str:
    if target <= source:
        return "as it is"
    return f"divided by dim**{1 / source - 1 / target:g}"
