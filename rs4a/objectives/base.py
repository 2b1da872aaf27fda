"""What every training objective has in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from sklearn.base import BaseEstimator

from rs4a.noises import Noise

__all__ = ["BaseLoss", "Objective"]

#: The net's own loss of (outputs, targets), both with n rows; a scalar.
BaseLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Objective(BaseEstimator, ABC):
    """Base class of training objectives: parameter objects, as noises are.

    Training asks an objective twice a batch: which noisy copies of the inputs the net
    shall see, and what the loss of the outputs for all copies is.
    """

    n_samples: int

    def noisy_copies(self, noise: Noise, X: torch.Tensor) -> torch.Tensor:
        """`n_samples` noisy copies of a batch.

        Parameters
        ----------
        noise : Noise
            Smoothing noise; its randomness comes from torch's default generator.

        X : torch.Tensor of shape (n, ...)
            Clean inputs, left as they are.

        Returns
        -------
        copies : torch.Tensor of shape (n_samples, n, ...)
            Independent noisy copies.
        """
        copies = noise.sample(X.repeat(self.n_samples, *[1] * (X.ndim - 1)))
        return copies.reshape(self.n_samples, *X.shape)

    @abstractmethod
    def loss(
        self, base_loss: BaseLoss, outputs: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        """Loss of a batch.

        Parameters
        ----------
        base_loss : callable
            The net's own loss, of outputs (m, n_classes) and targets (m,).

        outputs : torch.Tensor of shape (n_samples, n, n_classes)
            Outputs for the noisy copies.

        y : torch.Tensor of shape (n,)
            Targets.

        Returns
        -------
        loss : torch.Tensor of shape ()
            To be minimised.
        """
