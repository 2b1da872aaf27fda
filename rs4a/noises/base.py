"""What every smoothing noise has in common."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from rs4a.radii import conversion_factor, round_down
from rs4a.utils.checks import (
    check_dim,
    check_norm,
    check_positive,
    check_probability,
    format_norm,
)

__all__ = ["Noise"]


class Noise(BaseEstimator, ABC):
    """Base class of additive smoothing noise.

    A noise object holds its parameters and nothing else: the dimension comes from the
    data and the device from the net. It is a hyperparameter in scikit-learn's sense
    (`get_params`, `set_params`, `clone`), so that searches sweep it and its numbers.

    A subclass says what its distribution is at unit scale (`_unit_sigma`,
    `_fill_unit_noise`, and `_unit_radius` for the norms in `norms`). Scale, conversion
    to other norms, checks and rounding are done here.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, sqrt(E||e||_2^2 / d), in units of X. All
        shapes of noise are compared at equal sigma.

    lambd : float, default=None
        Scale lambda of the noise, in units of X. Exactly one of `sigma` and `lambd`
        must be given when the noise is used.
    """

    #: Norms of the adversary with a direct guarantee, the noise's own first.
    norms: ClassVar[tuple[float, ...]]

    def __init__(self, sigma: float | None = None, *, lambd: float | None = None):
        self.sigma = sigma
        self.lambd = lambd

    @abstractmethod
    def _unit_sigma(self, dim: int) -> float:
        """Sigma of the noise of scale 1."""

    @abstractmethod
    def _fill_unit_noise(
        self, out: torch.Tensor, generator: torch.Generator | None
    ) -> None:
        """Overwrite `out`, (n, ...) in float32 or float64, with noise of scale 1."""

    @abstractmethod
    def _unit_radius(
        self, prob_lower: NDArray[np.float64], norm: float, dim: int
    ) -> NDArray[np.float64]:
        """Radius of the noise of scale 1 for a norm in `norms`."""

    def _check_scale(self) -> None:
        for name in ("sigma", "lambd"):
            check_positive(f"{name} of {type(self).__name__}", getattr(self, name))
        if (self.sigma is None) == (self.lambd is None):
            got = "neither" if self.sigma is None else "both"
            raise ValueError(
                f"{type(self).__name__} takes exactly one of sigma and lambd, got {got}: "
                f"sigma={self.sigma}, lambd={self.lambd}. Give sigma, the standard "
                "deviation of a coordinate, or lambd, the scale of the distribution."
            )

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
        self._check_scale()
        dim = check_dim(dim)
        if self.lambd is not None:
            return float(self.lambd)
        assert self.sigma is not None
        return float(self.sigma) / self._unit_sigma(dim)

    def std(self, dim: int) -> float:
        """Sigma of the noise on inputs of `dim` coordinates: `scale` read backwards.

        Parameters
        ----------
        dim : int
            Number of coordinates of one input.

        Returns
        -------
        sigma : float
            Standard deviation of a coordinate, in units of X.
        """
        self._check_scale()
        if self.sigma is not None:
            return float(self.sigma)
        assert self.lambd is not None
        return float(self.lambd) * self._unit_sigma(check_dim(dim))

    def sample(
        self,
        x: torch.Tensor,
        generator: torch.Generator | None = None,
        *,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Noisy copy of every input; gradients flow through to `x`.

        Parameters
        ----------
        x : torch.Tensor of shape (n, ...), floating point
            Inputs; left as they are.

        generator : torch.Generator, default=None
            Source of randomness, on the device of `x`. None: torch's default one.

        out : torch.Tensor, default=None
            Memory for the result, of the shape, dtype and device of `x`, but not that of
            `x`. None: new memory.

        Returns
        -------
        noisy : torch.Tensor
            Of the shape, dtype and device of `x`.

        Raises
        ------
        TypeError
            If `x` is not a floating-point tensor.
        ValueError
            If `out` is `x`.

        Examples
        --------
        >>> import torch
        >>> from rs4a.noises import Gaussian
        >>> Gaussian(sigma=0.25).sample(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
        """
        if not (isinstance(x, torch.Tensor) and x.is_floating_point()):
            kind = x.dtype if isinstance(x, torch.Tensor) else type(x).__name__
            raise TypeError(f"x must be a floating-point torch.Tensor, got {kind}.")
        if out is x:
            raise ValueError("out must be other memory than x, got x itself.")
        scale = self.scale(x[0].numel() if len(x) else 1)
        noise = torch.empty(x.shape, dtype=x.dtype, device=x.device) if out is None else out
        # Half precision has too few values to draw from: float32, then rounded.
        draw = noise if noise.dtype.itemsize >= 4 else noise.to(torch.float32)
        self._fill_unit_noise(draw, generator)
        if x.requires_grad and out is None:
            return torch.add(x, draw, alpha=scale).to(x.dtype)
        return torch.add(x, draw, alpha=scale, out=noise)

    def radius(self, prob_lower: ArrayLike, norm: float, dim: int) -> NDArray[np.float64]:
        """Certified radius, given a lower bound on the top class's probability.

        Within this l_p distance of an input no change alters the majority vote. The
        radius is never above the true one: approximations are rounded down. A norm
        that is not in `norms` gets the best radius that one of them implies.

        Parameters
        ----------
        prob_lower : array-like of any shape
            Lower bound on the probability, under the noise, of the top class.

        norm : {1, 2, inf}
            Norm p of the adversary.

        dim : int
            Number of coordinates of one input.

        Returns
        -------
        radius : ndarray of float64, of the shape of `prob_lower`
            In units of X; 0 at probabilities up to 1/2.

        Raises
        ------
        ValueError
            If an entry of `prob_lower` is NaN or outside [0, 1].
        UnsupportedNormError
            If `norm` is none of 1, 2 and inf.

        Examples
        --------
        >>> from rs4a.noises import Uniform
        >>> Uniform(lambd=1.0).radius([0.4, 0.75, 1.0], norm=1, dim=784).round(6)
        array([0. , 0.5, 1. ])
        """
        norm, dim = check_norm(norm), check_dim(dim)
        probabilities = check_probability(prob_lower)
        scale = self.scale(dim)
        candidates = [
            self._unit_radius(probabilities, source, dim)
            * (scale * conversion_factor(source, norm, dim))
            for source in self.norms
        ]
        return round_down(np.max(candidates, axis=0))

    def guarantee(self, norm: float) -> str:
        """Where the radius for a norm comes from, in words.

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


def _conversion_in_words(source: float, target: float) -> str:
    if target <= source:
        return "as it is"
    exponent = 1 / source - (0.0 if np.isinf(target) else 1 / target)
    return f"divided by dim**{exponent:g}"
