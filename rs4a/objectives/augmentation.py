"""Training on noisy copies of the inputs."""

from numbers import Integral
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval

from rs4a.objectives.base import NoisyOutputs, Objective

__all__ = ["NoiseAugmentation"]


class NoiseAugmentation(Objective):
    """The net's own loss on noisy copies, drawn afresh for every batch.

    Parameters
    ----------
    n_samples : int, default=1
        Noisy copies of every input in a batch.

    References
    ----------
    .. [1] Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized
       Smoothing", ICML 2019, section 3.3, arXiv:1902.02918.

    Examples
    --------
    >>> from rs4a.objectives import NoiseAugmentation
    >>> NoiseAugmentation(n_samples=2)
    NoiseAugmentation(n_samples=2)
    """

    takes_weights = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_samples": [Interval(Integral, 1, None, closed="left")]
    }

    def __init__(self, n_samples: int = 1):
        self.n_samples = n_samples

    @property
    def is_base_loss(self) -> bool:
        """Whether the loss is the net's own on all copies, and nothing more."""
        return type(self).loss is NoiseAugmentation.loss

    def loss(self, answers: NoisyOutputs) -> torch.Tensor:
        """Mean of the net's own loss over all copies.

        Parameters
        ----------
        answers : NoisyOutputs
            What the net answered to the noisy copies.

        Returns
        -------
        loss : torch.Tensor of shape ()
            To be minimised.
        """
        return answers.base_loss()
