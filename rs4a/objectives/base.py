"""What every training objective has in common."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator

from rs4a.noises import Noise

__all__ = ["Batch", "NoisyOutputs", "Objective", "log_mean_vote"]


@dataclass(frozen=True)
class Batch:
    """A batch that is about to be trained, or validated, on.

    Parameters
    ----------
    X : torch.Tensor of shape (n, ...)
        Clean inputs, to be left as they are.

    y : torch.Tensor of shape (n,), int64
        Indices of the net's outputs.

    noise : Noise
        Smoothing noise; its randomness comes from torch's default generator.

    epoch : int
        Number of the epoch, from 1.

    log_proba : callable
        The net in evaluation mode: takes k inputs, gives logarithms of probabilities of
        shape (k, n_classes), and gradients flow through it.
    """

    X: torch.Tensor
    y: torch.Tensor
    noise: Noise
    epoch: int
    log_proba: Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class NoisyOutputs:
    """What the net answered to the noisy copies of a batch.

    Parameters
    ----------
    outputs : torch.Tensor of shape (m, n, n_classes)
        Outputs of the net for m copies: logits or probabilities, as the net has them.

    y : torch.Tensor of shape (n,), int64
        Indices of the net's outputs.

    noise : Noise
        Smoothing noise.

    dim : int
        Number of coordinates of an input.

    own_loss : callable
        Takes a number of copies, and gives the net's own loss, a scalar, on the first of
        them.

    to_log_proba : callable
        Takes `outputs` to logarithms of probabilities.

    weights : torch.Tensor of shape (n,), default=None
        Weights of the inputs, in the mean of which their losses are taken. None: they
        count alike.
    """

    outputs: torch.Tensor
    y: torch.Tensor
    noise: Noise
    dim: int
    own_loss: Callable[[int], torch.Tensor]
    to_log_proba: Callable[[torch.Tensor], torch.Tensor]
    weights: torch.Tensor | None = None

    def mean(self, losses: torch.Tensor) -> torch.Tensor:
        """Mean over inputs of what each of them adds to the loss, times its weight.

        Parameters
        ----------
        losses : torch.Tensor of shape (n,)
            A number per input.

        Returns
        -------
        mean : torch.Tensor of shape ()
            Weighted by `weights`, if there are some.
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
            On how many of the copies, the first ones. None: on all.

        Returns
        -------
        loss : torch.Tensor of shape ()
            As the criterion reduces it: the mean over copies and inputs, as a rule, in
            which every input has its weight.
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

    Training asks an objective twice a batch: which noisy copies of the inputs the net
    shall see, and what the loss of its outputs is. A subclass with parameters, `n_samples`
    and `loss` can be swept like those of the library.

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

    # Of users' objectives too, which need not declare any.
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    n_samples: int

    #: Whether the class's own `loss` takes means over inputs by `answers.mean` alone, so
    #: that the weights of a training set count in it.
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
        """Refuse weights of inputs, unless the loss is known to heed them.

        Raises
        ------
        ValueError
            If the class that defines `loss` does not say `takes_weights`.
        """
        owner = next(each for each in type(self).__mro__ if "loss" in vars(each))
        if not vars(owner).get("takes_weights", False):
            raise ValueError(
                f"sample_weight must be None for objective={self}: the loss of "
                f"{owner.__name__} is not known to heed weights. Take means over inputs by "
                "answers.mean, and set takes_weights = True in the class."
            )

    def noisy_copies(self, batch: Batch) -> torch.Tensor:
        """Noisy copies of a batch: `n_samples` independent ones, unless overridden.

        Parameters
        ----------
        batch : Batch
            Clean inputs, and what else is known.

        Returns
        -------
        copies : torch.Tensor of shape (m, n, ...)
            Inputs of the net.
        """
        return draw_copies(batch.noise, batch.X, self.n_samples)

    @abstractmethod
    def loss(self, answers: NoisyOutputs) -> torch.Tensor:
        """Loss of a batch.

        Parameters
        ----------
        answers : NoisyOutputs
            What the net answered to the noisy copies.

        Returns
        -------
        loss : torch.Tensor of shape ()
            To be minimised.
        """


def draw_copies(noise: Noise, X: torch.Tensor, n_copies: int) -> torch.Tensor:
    """Independent noisy copies of a batch, (n_copies, n, ...)."""
    noise.check_inputs(X)  # once, not every copy
    copies = X.expand(n_copies, *X.shape).flatten(0, 1)
    sample = noise.sampler(X[0].numel(), X.dtype)
    return sample(copies, None, None).unflatten(0, (n_copies, len(X)))


def log_mean_vote(log_proba: torch.Tensor) -> torch.Tensor:
    """Logarithm of the mean probability over noisy copies.

    Unlike the logarithm of a mean of exponentials it does not underflow.

    Parameters
    ----------
    log_proba : torch.Tensor of shape (m, ...)
        Logarithms of probabilities, a row a copy.

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
