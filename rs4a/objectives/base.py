"""Base class of training objectives, and its inputs."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator

from rs4a.noises import Noise


@dataclass(frozen=True)
class Batch:
    """A batch before a step of training, or of validation.

    Parameters
    ----------
    X : torch.Tensor of shape (n, ...)
        Clean inputs, which must not change.

    y : torch.Tensor of shape (n,), int64
        Indices of the net's outputs.

    noise : Noise
        Smoothing noise; its randomness comes from torch's default generator.

    epoch : int
        Number of the epoch, from 1.

    log_proba : callable
        The net in evaluation mode: takes k inputs, and gives logarithms of probabilities
        of shape (k, n_classes), through which gradients flow.
    """

    X: torch.Tensor
    y: torch.Tensor
    noise: Noise
    epoch: int
    log_proba: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class NoisyOutputs:
    """Outputs of the net for the noisy copies of a batch.

    Parameters
    ----------
    outputs : torch.Tensor of shape (m, n, n_classes)
        Logits or probabilities, as the net gives them, of m copies.

    y : torch.Tensor of shape (n,), int64
        Indices of the net's outputs.

    noise : Noise
        Smoothing noise.

    dim : int
        Number of coordinates of an input.

    own_loss : callable
        Takes a number of copies, and gives the net's own loss on the first ones, a scalar.

    to_log_proba : callable
        Turns `outputs` into logarithms of probabilities.

    weights : torch.Tensor of shape (n,), default=None
        Weights of the inputs in the mean of their losses. None: all are equal.
    """

    outputs: torch.Tensor
    y: torch.Tensor
    noise: Noise
    dim: int
    own_loss: Callable[[int], torch.Tensor]
    to_log_proba: Callable[[torch.Tensor], torch.Tensor]
    weights: torch.Tensor | None = None

    def mean(self, losses: torch.Tensor) -> torch.Tensor:
        """Mean over inputs of their losses times their weights.

        Parameters
        ----------
        losses : torch.Tensor of shape (n,)
            One number per input.

        Returns
        -------
        mean : torch.Tensor of shape ()
            Weighted by `weights`, unless they are None.
        """
        return (losses if self.weights is None else self.weights * losses).mean()

    def votes_loss(self) -> torch.Tensor:
        """Minus the logarithm of the soft vote for the true class, by `mean`.

        Returns
        -------
        loss : torch.Tensor of shape ()
            Cross-entropy of the soft votes.
        """
        if self.weights is None:
            return torch.nn.functional.nll_loss(self.log_votes, self.y)
        each = torch.nn.functional.nll_loss(self.log_votes, self.y, reduction="none")
        return self.mean(each)

    def base_loss(self, n_copies: int | None = None) -> torch.Tensor:
        """The net's own loss, by its criterion and its `get_loss`.

        Parameters
        ----------
        n_copies : int, default=None
            Number of copies, from the first on. None: all.

        Returns
        -------
        loss : torch.Tensor of shape ()
            As the criterion reduces it: usually the mean over copies and inputs, with the
            weight of each input.
        """
        return self.own_loss(len(self.outputs) if n_copies is None else n_copies)

    @cached_property
    def log_proba(self) -> torch.Tensor:
        """Logarithms of the net's probabilities, (m, n, n_classes)."""
        return self.to_log_proba(self.outputs)

    @cached_property
    def log_votes(self) -> torch.Tensor:
        """Logarithms of the soft votes, which are mean probabilities, (n, n_classes)."""
        return log_mean_vote(self.log_proba)


class Objective(BaseEstimator, ABC):
    """Base class of training objectives: parameter objects, as noises are.

    Training calls an objective twice per batch: for the noisy copies that the net sees, and
    for the loss of its outputs. Searches vary a subclass with parameters, `n_samples` and
    `loss` as they vary the library's objectives.

    Examples
    --------
    >>> from rs4a import SmoothedClassifier
    >>> from rs4a.objectives import Objective
    >>> class Agreement(Objective):
    ...     n_samples = 2
    ...
    ...     def __init__(self, weight=1.0):
    ...         self.weight = weight
    ...
    ...     def loss(self, answers):
    ...         first, second = answers.log_proba.exp()
    ...         distance = (first - second).square().sum(dim=1).mean()
    ...         return answers.base_loss() + self.weight * distance
    >>> clf = SmoothedClassifier(objective=Agreement(weight=5.0))
    """

    # A default, so that users' objectives need not declare any.
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    n_samples: int

    #: Whether the class's own `loss` takes each mean over inputs by `answers.mean`, so that
    #: it uses the weights of a training set.
    takes_weights: ClassVar[bool] = False

    @property
    def is_base_loss(self) -> bool:
        """Whether the loss is the net's own on all copies, and nothing more."""
        return False

    def check_noise(self, noise: Noise) -> None:
        """Refuse noise that the objective cannot train under; here none.

        Parameters
        ----------
        noise : Noise
            Smoothing noise.
        """

    def check_weights(self) -> None:
        """Refuse weights of inputs, unless the loss is known to use them.

        Raises
        ------
        ValueError
            If the class that defines `loss` does not say `takes_weights`.
        """
        owner = next(each for each in type(self).__mro__ if "loss" in vars(each))
        if not vars(owner).get("takes_weights", False):
            raise ValueError(
                f"sample_weight must be None for objective={self}: the loss of "
                f"{owner.__name__} is not known to use weights. Take means over inputs by "
                "answers.mean, and set takes_weights = True in the class."
            )

    def noisy_copies(self, batch: Batch) -> torch.Tensor:
        """Noisy copies of a batch: `n_samples` independent ones, unless overridden.

        Parameters
        ----------
        batch : Batch
            Clean inputs, their labels and the epoch.

        Returns
        -------
        copies : torch.Tensor of shape (m, n, ...)
            Inputs of the net.
        """
        return _draw_copies(batch.noise, batch.X, self.n_samples)

    @abstractmethod
    def loss(self, answers: NoisyOutputs) -> torch.Tensor:
        """Loss of a batch.

        Parameters
        ----------
        answers : NoisyOutputs
            Outputs of the net for the noisy copies.

        Returns
        -------
        loss : torch.Tensor of shape ()
            To be minimised.
        """


def _draw_copies(noise: Noise, X: torch.Tensor, n_copies: int) -> torch.Tensor:
    """Independent noisy copies of a batch, (n_copies, n, ...)."""
    noise.check_inputs(X)  # once, and not each copy
    copies = X.expand(n_copies, *X.shape).flatten(0, 1)
    sample = noise.sampler(X[0].numel(), X.dtype)
    return sample(copies, None, None).unflatten(0, (n_copies, len(X)))


def log_mean_vote(log_proba: torch.Tensor) -> torch.Tensor:
    """Logarithm of the mean probability over noisy copies.

    It does not underflow, unlike the logarithm of a mean of exponentials.

    Parameters
    ----------
    log_proba : torch.Tensor of shape (m, ...)
        Logarithms of probabilities, one row per copy.

    Returns
    -------
    log_votes : torch.Tensor of shape (...)
        log of the mean of exp(log_proba) over the first axis.

    Examples
    --------
    >>> import torch
    >>> from rs4a.objectives.base import log_mean_vote
    >>> log_mean_vote(torch.tensor([[0.2], [0.4]]).log()).exp()
    tensor([0.3000])
    """
    return torch.logsumexp(log_proba, dim=0) - math.log(len(log_proba))
