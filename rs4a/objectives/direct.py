"""Direct training of the soft smoothed classifier."""

from numbers import Integral
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval

from rs4a.objectives.base import NoisyOutputs, Objective

__all__ = ["Direct"]


class Direct(Objective):
    """Cross-entropy of the soft smoothed classifier: minus the log of the mean vote.

    The loss is -log (1/m sum_i f(x + e_i)_y), with f the net's probabilities. Noise
    augmentation is an upper bound on it, by Jensen's inequality [1]_. The net's criterion
    does not enter, but for saying what its outputs are.

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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_samples": [Interval(Integral, 1, None, closed="left")]
    }

    def __init__(self, n_samples: int = 16):
        self.n_samples = n_samples

    def loss(self, answers: NoisyOutputs) -> torch.Tensor:
        """Minus the logarithm of the soft vote for the true class.

        Parameters
        ----------
        answers : NoisyOutputs
            What the net answered to the noisy copies.

        Returns
        -------
        loss : torch.Tensor of shape ()
            To be minimised; the mean over inputs.
        """
        return answers.votes_loss()
