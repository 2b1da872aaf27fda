"""MACER: training that maximises the certified radius itself."""

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval

from rs4a.noises import Noise
from rs4a.objectives.base import NoisyOutputs, Objective, log_mean_vote

__all__ = ["MACER"]


class MACER(Objective):
    """Cross-entropy of the soft votes, and a hinge loss on the certified radius.

    Of an input that the soft votes classify correctly, the radius R of the sharpened soft
    votes is pushed up to gamma sigma / 2: the loss is the mean over inputs of -log v_y +
    weight max(0, gamma sigma / 2 - R) [1]_. v is the mean of the probabilities f(x + e_i)
    over m copies; R is computed from the two largest means of softmax(beta log f).

    The noise must have a radius in which gradients exist: Gaussian in l2, as in [1]_,
    Uniform and Laplace in l1. Uniform noise has no radius beyond sqrt(3) sigma, so with
    gamma above 2 sqrt(3) its hinge never closes.

    Parameters
    ----------
    n_samples : int, default=16
        Noisy copies m of every input in a batch. An epoch takes m times as long.

    weight : float, default=12.0
        Weight of the loss on the radius. In a short training it may be too large, which
        costs certified accuracy at small radii: see docs/benchmarks.md.

    gamma : float, default=8.0
        Radius up to which inputs are pushed, in units of sigma / 2.

    beta : float, default=16.0
        Inverse temperature that makes the soft votes of R nearly hard ones.

    References
    ----------
    .. [1] Zhai et al., "MACER: Attack-free and Scalable Robust Training via Maximizing
       Certified Radius", ICLR 2020, section 4, arXiv:2001.02378.

    Examples
    --------
    >>> from rs4a import SmoothedClassifier
    >>> from rs4a.noises import Gaussian
    >>> from rs4a.objectives import MACER
    >>> clf = SmoothedClassifier(noise=Gaussian(sigma=0.5), objective=MACER(n_samples=8))
    """

    takes_weights = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_samples": [Interval(Integral, 2, None, closed="left")],
        "weight": [Interval(Real, 0, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="neither")],
        "beta": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        n_samples: int = 16,
        *,
        weight: float = 12.0,
        gamma: float = 8.0,
        beta: float = 16.0,
    ):
        self.n_samples = n_samples
        self.weight = weight
        self.gamma = gamma
        self.beta = beta

    def check_noise(self, noise: Noise) -> None:
        """Refuse noise without a radius in which gradients exist.

        Parameters
        ----------
        noise : Noise
            Smoothing noise.

        Raises
        ------
        ValueError
            If the noise has no `soft_radius`.
        """
        if not noise.has_soft_radius:
            raise ValueError(
                "MACER maximises the certified radius by gradients and needs noise with a "
                f"differentiable one, Gaussian, Uniform or Laplace, got {noise}. "
                "Consistency and Stability train under any noise."
            )

    def loss(self, answers: NoisyOutputs) -> torch.Tensor:
        """Cross-entropy of the soft votes, and the weighted hinge loss on the radius.

        Parameters
        ----------
        answers : NoisyOutputs
            What the net answered to the noisy copies.

        Returns
        -------
        loss : torch.Tensor of shape ()
            To be minimised.
        """
        return answers.votes_loss() + self.weight * self._hinge(answers) / len(answers.y)

    def _hinge(self, answers: NoisyOutputs) -> torch.Tensor:
        """Weighted sum of what correctly classified inputs lack of the radius aimed at."""
        noise, dim = answers.noise, answers.dim
        sharp = torch.log_softmax(self.beta * answers.log_proba, dim=-1)
        top, classes = log_mean_vote(sharp).exp().double().topk(2, dim=1)
        aim = 0.5 * self.gamma * noise.std(dim)
        # Chosen before gradients are taken: those of an infinite radius are NaN.
        radius = noise.soft_radius(*top.detach().unbind(dim=1), dim=dim)
        lacking = (classes[:, 0] == answers.y) & (radius < aim)
        hinge = aim - noise.soft_radius(*top[lacking].unbind(dim=1), dim=dim)
        if answers.weights is not None:
            hinge = answers.weights[lacking] * hinge
        return hinge.sum()
