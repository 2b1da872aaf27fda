"""Consistency regularisation: every noisy copy shall agree with the mean vote."""

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval

from rs4a.objectives.base import NoisyOutputs, Objective

__all__ = ["Consistency"]


class Consistency(Objective):
    """The net's own loss on all copies, and how far they are from one certain answer.

    With f the net's probabilities and v the mean of f(x + e_i) over m copies, the loss is
    the mean over i of L(f(x + e_i), y) + weight KL(v || f(x + e_i)), L the net's own loss,
    and entropy_weight H(v), H the entropy [1]_.

    Parameters
    ----------
    weight : float, default=10.0
        Weight of the divergence from the mean vote.

    entropy_weight : float, default=0.5
        Weight of the entropy of the mean vote.

    n_samples : int, default=2
        Noisy copies m of every input in a batch. An epoch takes m times as long.

    References
    ----------
    .. [1] Jeong, Shin, "Consistency Regularization for Certified Robustness of Smoothed
       Classifiers", NeurIPS 2020, equations 10 to 12, arXiv:2006.04062.

    Examples
    --------
    >>> from rs4a import SmoothedClassifier
    >>> from rs4a.noises import Gaussian
    >>> from rs4a.objectives import Consistency
    >>> clf = SmoothedClassifier(noise=Gaussian(sigma=0.5), objective=Consistency())
    """

    takes_weights = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "weight": [Interval(Real, 0, None, closed="left")],
        "entropy_weight": [Interval(Real, 0, None, closed="left")],
        "n_samples": [Interval(Integral, 2, None, closed="left")],
    }

    def __init__(
        self, weight: float = 10.0, *, entropy_weight: float = 0.5, n_samples: int = 2
    ):
        self.weight = weight
        self.entropy_weight = entropy_weight
        self.n_samples = n_samples

    def loss(self, answers: NoisyOutputs) -> torch.Tensor:
        """The net's own loss, the weighted divergence, and the weighted entropy.

        Parameters
        ----------
        answers : NoisyOutputs
            What the net answered to the noisy copies.

        Returns
        -------
        loss : torch.Tensor of shape ()
            To be minimised.
        """
        log_votes = answers.log_votes
        votes = log_votes.exp()
        entropy = answers.mean(-(votes * log_votes).sum(dim=1))
        # KL(v || f_i), averaged over i: v's entropy is the same in all of them.
        cross_entropy = answers.mean(-(votes * answers.log_proba.mean(dim=0)).sum(dim=1))
        divergence = cross_entropy - entropy
        return (
            answers.base_loss() + self.weight * divergence + self.entropy_weight * entropy
        )
