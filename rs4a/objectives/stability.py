"""Stability training: two noisy copies shall get the same answer."""

from numbers import Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval

from rs4a.objectives.base import NoisyOutputs, Objective

__all__ = ["Stability"]


class Stability(Objective):
    """The net's own loss on one noisy copy, and the divergence of a second copy from it.

    The loss is L(f(x + e), y) + weight KL(f(x + e) || f(x + e')), where L is the net's own
    loss and e, e' are independent draws of the noise: stability training [1]_ as in the
    code of [2]_.

    Parameters
    ----------
    weight : float, default=6.0
        Weight of the divergence.

    References
    ----------
    .. [1] Li, Chen, Wang, Carin, "Certified Adversarial Robustness with Additive Noise",
       NeurIPS 2019, section 4, arXiv:1809.03113.
    .. [2] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> from rs4a import SmoothedClassifier
    >>> from rs4a.noises import Uniform
    >>> from rs4a.objectives import Stability
    >>> clf = SmoothedClassifier(noise=Uniform(sigma=0.5), objective=Stability(weight=6.0))
    """

    takes_weights = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "weight": [Interval(Real, 0, None, closed="left")]
    }

    n_samples = 2

    def __init__(self, weight: float = 6.0):
        self.weight = weight

    def loss(self, answers: NoisyOutputs) -> torch.Tensor:
        """The net's own loss on the first copy, and the weighted divergence.

        Parameters
        ----------
        answers : NoisyOutputs
            What the net answered to two noisy copies.

        Returns
        -------
        loss : torch.Tensor of shape ()
            To be minimised.
        """
        first, second = answers.log_proba
        divergence = (first.exp() * (first - second)).sum(dim=1)
        return answers.base_loss(n_copies=1) + self.weight * answers.mean(divergence)
