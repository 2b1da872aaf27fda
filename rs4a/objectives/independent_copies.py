"""Objectives that are a loss of the outputs for independent noisy copies."""

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval

from rs4a.noises import Noise
from rs4a.noises.capabilities import Soft, refuse
from rs4a.objectives.base import NoisyOutputs, Objective, log_mean_vote

_AT_LEAST_0 = [Interval(Real, 0, None, closed="left")]
_ABOVE_0 = [Interval(Real, 0, None, closed="neither")]
_ONE_OR_MORE = [Interval(Integral, 1, None, closed="left")]
_TWO_OR_MORE = [Interval(Integral, 2, None, closed="left")]


class NoiseAugmentation(Objective):
    """The net's own loss on noisy copies, which each batch draws anew.

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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"n_samples": _ONE_OR_MORE}

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
            Outputs of the net for the noisy copies.

        Returns
        -------
        loss : torch.Tensor of shape ()
            To be minimised.
        """
        return answers.base_loss()


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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"weight": _AT_LEAST_0}

    n_samples = 2

    def __init__(self, weight: float = 6.0):
        self.weight = weight

    def loss(self, answers: NoisyOutputs) -> torch.Tensor:
        """The net's own loss on the first copy, and the weighted divergence.

        Parameters
        ----------
        answers : NoisyOutputs
            Outputs of the net for two noisy copies.

        Returns
        -------
        loss : torch.Tensor of shape ()
            To be minimised.
        """
        first, second = answers.log_proba
        divergence = (first.exp() * (first - second)).sum(dim=1)
        return answers.base_loss(n_copies=1) + self.weight * answers.mean(divergence)


class Consistency(Objective):
    """The net's own loss on all copies, plus their distance from one certain answer.

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
        "weight": _AT_LEAST_0,
        "entropy_weight": _AT_LEAST_0,
        "n_samples": _TWO_OR_MORE,
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
            Outputs of the net for the noisy copies.

        Returns
        -------
        loss : torch.Tensor of shape ()
            To be minimised.
        """
        log_votes = answers.log_votes
        votes = log_votes.exp()
        entropy = answers.mean(-(votes * log_votes).sum(dim=1))
        # Mean over i of KL(v || f_i): the entropy of v is the same for each i.
        cross_entropy = answers.mean(-(votes * answers.log_proba.mean(dim=0)).sum(dim=1))
        divergence = cross_entropy - entropy
        return (
            answers.base_loss() + self.weight * divergence + self.entropy_weight * entropy
        )


class Direct(Objective):
    """Cross-entropy of the soft smoothed classifier: minus the log of the mean vote.

    The loss is -log (1/m sum_i f(x + e_i)_y), with f the net's probabilities. Noise
    augmentation is an upper bound on it, by Jensen's inequality [1]_. The net's criterion
    is ignored, except that it tells whether outputs are logits or probabilities.

    Parameters
    ----------
    n_samples : int, default=16
        Noisy copies m of every input in a batch. An epoch takes m times as long.

    References
    ----------
    .. [1] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> from rs4a import SmoothedClassifier
    >>> from rs4a.noises import Uniform
    >>> from rs4a.objectives import Direct
    >>> clf = SmoothedClassifier(noise=Uniform(sigma=0.5), objective=Direct(n_samples=8))
    """

    takes_weights = True

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"n_samples": _ONE_OR_MORE}

    def __init__(self, n_samples: int = 16):
        self.n_samples = n_samples

    def loss(self, answers: NoisyOutputs) -> torch.Tensor:
        """Minus the logarithm of the soft vote for the true class.

        Parameters
        ----------
        answers : NoisyOutputs
            Outputs of the net for the noisy copies.

        Returns
        -------
        loss : torch.Tensor of shape ()
            To be minimised; the mean over inputs.
        """
        return answers.votes_loss()


class MACER(Objective):
    """Cross-entropy of the soft votes, and a hinge loss on the certified radius.

    Where the soft votes are right, training raises the radius R of the sharpened soft votes
    up to gamma sigma / 2: the loss is the mean over inputs of -log v_y +
    weight max(0, gamma sigma / 2 - R) [1]_. v is the mean of the probabilities f(x + e_i)
    over m copies; R is computed from the two largest means of softmax(beta log f).

    The noise must have a radius in which gradients exist
    (``rs4a.noises.capabilities.Soft``): Gaussian noise has it in l2, as in [1]_, Uniform
    and Laplace noise in l1. Uniform noise has no radius beyond sqrt(3) sigma, so that its
    hinge never closes with gamma above 2 sqrt(3).

    Parameters
    ----------
    n_samples : int, default=16
        Noisy copies m of every input in a batch. An epoch takes m times as long.

    weight : float, default=12.0
        Weight of the loss on the radius. In a short training a large weight costs
        certified accuracy at small radii: see docs/benchmarks.md.

    gamma : float, default=8.0
        Radius that training aims at, in units of sigma / 2.

    beta : float, default=16.0
        Inverse temperature: a large one makes the soft votes of R nearly hard votes.

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
        "n_samples": _TWO_OR_MORE,
        "weight": _AT_LEAST_0,
        "gamma": _ABOVE_0,
        "beta": _ABOVE_0,
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
            refuse(noise, Soft, "MACER")

    def loss(self, answers: NoisyOutputs) -> torch.Tensor:
        """Cross-entropy of the soft votes, and the weighted hinge loss on the radius.

        Parameters
        ----------
        answers : NoisyOutputs
            Outputs of the net for the noisy copies.

        Returns
        -------
        loss : torch.Tensor of shape ()
            To be minimised.
        """
        return answers.votes_loss() + self.weight * self._hinge(answers) / len(answers.y)

    def _hinge(self, answers: NoisyOutputs) -> torch.Tensor:
        """Weighted sum of the lacking radii of inputs that are classified correctly."""
        noise, dim = answers.noise, answers.dim
        sharp = torch.log_softmax(self.beta * answers.log_proba, dim=-1)
        top, classes = log_mean_vote(sharp).exp().double().topk(2, dim=1)
        aim = 0.5 * self.gamma * noise.std(dim)
        # Selected without gradients: the gradient of an infinite radius is NaN.
        radius = noise.soft_radius(*top.detach().unbind(dim=1), dim=dim)
        lacking = (classes[:, 0] == answers.y) & (radius < aim)
        hinge = aim - noise.soft_radius(*top[lacking].unbind(dim=1), dim=dim)
        if answers.weights is not None:
            hinge = answers.weights[lacking] * hinge
        return hinge.sum()
