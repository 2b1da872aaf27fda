"""Adversarial training of the smoothed classifier."""

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval

from rs4a.attacks.ascent import Ball, ascend, check_additive, soft_vote_loss
from rs4a.noises import Noise
from rs4a.objectives.base import Batch, NoisyOutputs, Objective
from rs4a.objectives.independent_copies import NoiseAugmentation
from rs4a.utils.checks import check_box, check_norm


class SmoothAdv(Objective):
    """Training on noisy copies of inputs that were attacked first.

    Projected gradient ascent lowers the soft vote for the true class: the mean of the
    net's probabilities over some draws of the noise. The net, in evaluation mode during
    the attack, is then trained on the attacked input with the same draws [1]_.

    Parameters
    ----------
    radius : float, default=0.5
        Largest distance of the attack, in units of X.

    norm : {1, 2, inf}, default=None
        Norm of the distance. None: the noise's own.

    steps : int, default=4
        Gradient steps, each of 2 radius / steps. An epoch takes about
        (1 + steps) times as long as without the attack.

    n_samples : int, default=2
        Draws of the noise that the attack sees, and that the net is trained on.

    warmup : int, default=10
        Epochs in which the radius of the attack grows linearly to its full size. 1: it is
        full from the first epoch on.

    box : tuple of two floats, default=None
        Smallest and largest value of an attacked coordinate. (0, 1) for images.

    objective : Objective, default=None
        Loss on the attacked inputs. None: the net's own loss on `n_samples` copies.
        ``Consistency()``, for example, adds its terms on its own number of copies.

    References
    ----------
    .. [1] Salman et al., "Provably Robust Deep Learning via Adversarially Trained Smoothed
       Classifiers", NeurIPS 2019, section 2.2, arXiv:1906.04584.

    Examples
    --------
    >>> from rs4a import SmoothedClassifier
    >>> from rs4a.noises import Uniform
    >>> from rs4a.objectives import SmoothAdv, Stability
    >>> clf = SmoothedClassifier(
    ...     noise=Uniform(sigma=0.5),
    ...     objective=SmoothAdv(radius=1.0, norm=1, box=(0, 1), objective=Stability()),
    ... )
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "radius": [Interval(Real, 0, None, closed="left")],
        "steps": [Interval(Integral, 1, None, closed="left")],
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "warmup": [Interval(Integral, 1, None, closed="left")],
        "objective": [Objective, None],
    }

    def __init__(
        self,
        radius: float = 0.5,
        norm: float | None = None,
        *,
        steps: int = 4,
        n_samples: int = 2,
        warmup: int = 10,
        box: tuple[float, float] | None = None,
        objective: Objective | None = None,
    ):
        self.radius = radius
        self.norm = norm
        self.steps = steps
        self.n_samples = n_samples
        self.warmup = warmup
        self.box = box
        self.objective = objective

    @property
    def is_base_loss(self) -> bool:
        """Whether the loss is the net's own on all copies, and nothing more."""
        return self._trained.is_base_loss

    def check_noise(self, noise: Noise) -> None:
        """Refuse noise that the inner objective refuses, and an attack without meaning.

        Parameters
        ----------
        noise : Noise
            Smoothing noise.

        Raises
        ------
        ValueError
            If `norm`, `box` or `objective` is not as described, the noise is not added to
            the inputs, or the inner objective cannot train under it.
        """
        check_additive(noise, "SmoothAdv")
        if self.norm is not None:
            check_norm(self.norm)
        check_box(self.box)
        if self.objective is None:
            return
        if type(self.objective).noisy_copies is not Objective.noisy_copies:
            raise ValueError(
                "objective of SmoothAdv says how the net is trained on attacked inputs, "
                "and must leave the inputs to it: Stability, Consistency, Direct or "
                f"MACER, say. Got {self.objective}."
            )
        self.objective._validate_params()
        self.objective.check_noise(noise)

    def check_weights(self) -> None:
        """Refuse weights of inputs where the inner objective does.

        Raises
        ------
        ValueError
            If the inner objective's loss is not known to use them.
        """
        self._trained.check_weights()

    def noisy_copies(self, batch: Batch) -> torch.Tensor:
        """Noisy copies of attacked inputs, with the draws that the attack saw.

        Parameters
        ----------
        batch : Batch
            Clean inputs, their labels and the epoch.

        Returns
        -------
        copies : torch.Tensor of shape (m, n, ...)
            Inputs of the net.
        """
        X, n_copies = batch.X, self._trained.n_samples
        n_draws = max(self.n_samples, n_copies)
        draws = batch.noise.sample(X.new_zeros((n_draws * len(X), *X.shape[1:])))
        draws = draws.unflatten(0, (n_draws, len(X)))
        return X + self._attack(batch, draws[: self.n_samples]) + draws[:n_copies]

    def _attack(self, batch: Batch, draws: torch.Tensor) -> torch.Tensor:
        norm = batch.noise.norms[0] if self.norm is None else check_norm(self.norm)
        radius = self.radius * min(1.0, batch.epoch / self.warmup)
        radii = batch.X.new_full((len(batch.X),), radius)
        ball = Ball.around(batch.X, norm, radii, self.box)

        def loss(X: torch.Tensor) -> torch.Tensor:
            return soft_vote_loss(batch.log_proba, X, draws, batch.y)

        return ascend(
            loss, batch.X, ball, steps=self.steps, step_size=2 * radii / self.steps
        )

    @property
    def _trained(self) -> Objective:
        """The inner objective."""
        return self.objective or NoiseAugmentation(self.n_samples)

    def loss(self, answers: NoisyOutputs) -> torch.Tensor:
        """The inner objective's loss on the attacked inputs.

        Parameters
        ----------
        answers : NoisyOutputs
            Outputs of the net for noisy copies of the attacked inputs.

        Returns
        -------
        loss : torch.Tensor of shape ()
            To be minimised.
        """
        return self._trained.loss(answers)
