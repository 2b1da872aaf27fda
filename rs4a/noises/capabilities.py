"""Capabilities of noises besides a radius: a noise inherits from the class of each."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from inspect import isabstract
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rs4a.radii.rounding import FloatArray

#: Takes an input, the number of the first view, and memory for that view and the next ones.
Viewer = Callable[[Tensor, int, Tensor], None]


class Capability(ABC):
    """Base class of capabilities.

    Attributes
    ----------
    words : str
        The capability in words.
    """

    words: ClassVar[str]

    @abstractmethod
    def scale(self, dim: int) -> float:
        """Scale lambda of the noise, in units of X."""


class TwoBounds(Capability):
    """A radius that uses a bound on the runner-up."""

    words = "a two-bound radius, and random draws,"

    @abstractmethod
    def _one_bound(self, prob_lower: FloatArray, prob_runner_up: FloatArray) -> FloatArray:
        """Bound on the top class alone that proves as much as the two bounds."""


class InBox(Capability):
    """A larger l1 radius against attacks that stay in a box."""

    words = "coordinates shifted or cut independently and uniformly, and random draws,"

    @abstractmethod
    def _unit_box_radius(
        self, prob_lower: FloatArray, reach: FloatArray, dim: int
    ) -> FloatArray:
        """l1 radius of the noise of scale 1, with `reach` in units of the scale."""


class Soft(Capability):
    """A radius in which gradients exist, to train for."""

    words = "a radius in which gradients exist"

    @abstractmethod
    def _unit_soft_radius(self, prob_top: Tensor, prob_runner_up: Tensor) -> Tensor:
        """Radius of the noise of scale 1 in its own norm, in torch."""

    def soft_radius(self, prob_top: Tensor, prob_runner_up: Tensor, *, dim: int) -> Tensor:
        """Radius in the noise's own norm with gradients: to train, not to certify.

        Parameters
        ----------
        prob_top : torch.Tensor of any shape
            Probability, under the noise, of the top class.

        prob_runner_up : torch.Tensor of the shape of `prob_top`
            Probability of the second class.

        dim : int
            Number of coordinates of one input.

        Returns
        -------
        radius : torch.Tensor of the shape of `prob_top`
            In units of X, not rounded down; below 0 where the probabilities prove nothing.

        Examples
        --------
        >>> import torch
        >>> from rs4a.noises import Uniform
        >>> Uniform(lambd=1.0).soft_radius(torch.tensor(0.75), torch.tensor(0.25), dim=784)
        tensor(0.5000)
        """
        return self.scale(dim) * self._unit_soft_radius(prob_top, prob_runner_up)


class Views(Capability):
    """Finitely many views of an input, which all vote if the noise is deterministic."""

    words = "finitely many views of an input"

    @abstractmethod
    def n_views(self, dim: int) -> int:
        """Number of views of an input that vote.

        Parameters
        ----------
        dim : int
            Number of coordinates of one input.

        Returns
        -------
        n_views : int
            At least 1.
        """

    @abstractmethod
    def viewer(self, dim: int, dtype: torch.dtype) -> Viewer:
        """Views of an input in their order.

        Parameters
        ----------
        dim : int
            Number of coordinates of one input.

        dtype : torch.dtype
            Of the inputs: float32 or float64.

        Returns
        -------
        viewer : callable
            Takes an input `x`, the number `start` of a view, and `out` of shape (n, ...):
            overwrites `out` with the views number `start` to `start` + n - 1. Unchecked.
        """

    @abstractmethod
    def exact_radius(
        self, counts: NDArray[np.int64], columns: NDArray[np.int64], norm: float, dim: int
    ) -> FloatArray:
        """Certified radius, given the votes on all views.

        Parameters
        ----------
        counts : ndarray of shape (n, n_classes), int64
            Votes on all views.

        columns : ndarray of shape (n,), int64
            Column with the most votes, the first one of equals.

        norm : {1, 2, inf}
            Norm of the adversary.

        dim : int
            Number of coordinates of one input.

        Returns
        -------
        radius : ndarray of shape (n,), float64
            In units of X, rounded down.
        """


def refuse(noise: object, capability: Any, who: str) -> NoReturn:
    """Say that a noise lacks a capability, and which noises of the library have it.

    Parameters
    ----------
    noise : Noise
        The noise.

    capability : type
        The capability.

    who : str
        Parameter, or class, that needs the capability.

    Raises
    ------
    ValueError
        Always.
    """
    names = " or ".join(sorted(each.__name__ for each in _able(capability)))
    raise ValueError(
        f"{who} needs noise with {capability.words} as {names} has, got {noise}."
    )


def _able(capability: Any) -> set[type]:
    """Classes of the library that have a capability and can be made."""
    able: set[type] = set()
    for kind in capability.__subclasses__():
        own = kind.__module__.startswith("rs4a.") and not isabstract(kind)
        able |= _able(kind) | ({kind} if own else set())
    return able
