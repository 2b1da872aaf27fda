"""skorch callbacks: certified accuracy after every epoch, and interrupted trainings."""

import math
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_scalar
from skorch.callbacks import EpochScoring

from rs4a.bounds import ClopperPearson
from rs4a.certify import Procedure, certify
from rs4a.inputs import Inputs
from rs4a.inputs.arrays import as_array
from rs4a.metrics import certified_accuracy_score
from rs4a.nets.outputs import probe
from rs4a.noises import Noise
from rs4a.training.resume import ResumeTraining
from rs4a.utils.checks import check_in_range, check_norm, format_norm
from rs4a.utils.user_warnings import warn_user

__all__ = ["ResumeTraining", "certified_epoch_scoring"]

_N_SELECTION = 32
#: Separates this noise, which chooses epochs, from the noise of certificates.
_PURPOSE = b"epoch scoring"


def certified_epoch_scoring(
    radius: float,
    *,
    norm: float | None = None,
    n_images: int = 100,
    n_votes: int = 500,
    alpha: float = 0.001,
    on_train: bool = False,
    name: str = "certified_accuracy",
) -> EpochScoring:
    """Make skorch's EpochScoring compute certified accuracy after every epoch.

    The callback certifies some images of the validation set under the noise of the
    training. Early stopping, checkpoints and learning-rate schedules can monitor the score
    by its name. The images and their noise are the same in all epochs; the noise is
    independent of the noise of `certify`, under any `random_state`.

    Parameters
    ----------
    radius : float
        Distance of the adversary, in units of X.

    norm : {1, 2, inf}, default=None
        Norm of the adversary. None: the first norm of the noise, also if the classifier
        has another one.

    n_images : int, default=100
        Images to certify, at even distances in the validation set.

    n_votes : int, default=500
        Estimation votes per image. With deterministic noise every view votes instead.

    alpha : float, default=0.001
        Probability with which each certificate may be wrong.

    on_train : bool, default=False
        Take images of the training set instead.

    name : str, default="certified_accuracy"
        Name of the score in the net's history.

    Returns
    -------
    callback : skorch.callbacks.EpochScoring
        For the net's `callbacks`. A `SmoothedClassifier` must train the net.

    Raises
    ------
    ValueError
        If `radius` or a number is out of range, or `norm` is none of 1, 2 and inf; in
        training, if the net is not trained under noise.

    Warns
    -----
    CertificationWarning
        In training, if no number of right votes certifies the radius.

    Examples
    --------
    >>> from skorch import NeuralNetClassifier
    >>> from skorch.callbacks import EarlyStopping
    >>> from skorch.dataset import ValidSplit
    >>> from rs4a.callbacks import certified_epoch_scoring
    >>> from rs4a.networks import LeNet
    >>> net = NeuralNetClassifier(
    ...     LeNet,
    ...     max_epochs=100,
    ...     train_split=ValidSplit(5, stratified=True),
    ...     callbacks=[
    ...         ("certified", certified_epoch_scoring(radius=0.5, norm=1)),
    ...         ("stop", EarlyStopping("certified_accuracy", lower_is_better=False)),
    ...     ],
    ... )
    """
    score = _CertifiedEpochScore(radius, norm, n_images, n_votes, alpha)
    return EpochScoring(
        score, lower_is_better=False, on_train=on_train, name=name, use_caching=False
    )


class _CertifiedEpochScore:
    """Scorer of a net in training, which can be pickled and copied."""

    def __init__(
        self, radius: float, norm: float | None, n_images: int, n_votes: int, alpha: float
    ):
        check_in_range("radius", radius, 0.0, math.inf, closed=True, why="a distance")
        check_scalar(n_images, "n_images", Integral, min_val=1)
        self.radius = float(radius)
        self.norm = None if norm is None else check_norm(norm)
        self.n_images = n_images
        self.bound = ClopperPearson(n=n_votes)
        if not self.bound.can_certify(alpha):
            raise ValueError(
                f"n_votes must be enough to certify anything at alpha={alpha}, got "
                f"{n_votes}."
            )
        self.alpha = alpha

    def __call__(self, net: Any, X: Any, y: Any) -> float:
        smoothing = getattr(net, "smoothing_", None)
        if smoothing is None:
            raise ValueError(
                "certified_epoch_scoring needs a net that is trained under noise, by a "
                "SmoothedClassifier, got a net that is trained alone."
            )
        images, targets = _evenly(X, y, self.n_images)
        n_classes = probe(net, images, 2).shape[1]
        procedure = Procedure(
            bound=self.bound,
            n_selection=_N_SELECTION,
            alpha=self.alpha,
            norm=self.norm,
            seed=0,
            purpose=_PURPOSE,
        )
        inputs, classes = Inputs(images, images), np.arange(n_classes)
        certification = certify(net, inputs, smoothing.noise, classes, procedure)
        self._warn_if_impossible(smoothing.noise, certification.dim)
        return certified_accuracy_score(targets, certification, radius=self.radius)

    def _warn_if_impossible(self, noise: Noise, dim: int) -> None:
        """Warn of a score that is 0 in all epochs: early stopping would keep the first."""
        if noise.deterministic:  # the number of votes limits no radius
            return
        norm = noise.norms[0] if self.norm is None else self.norm
        unanimous = self.bound.prob_lower([self.bound.n], self.bound.n, self.alpha)
        (farthest,) = noise.radius(unanimous, norm=norm, dim=dim)
        if farthest < self.radius:
            warn_user(
                "certified_epoch_scoring gives 0 in every epoch: with "
                f"{self.bound.n} votes {noise} certifies no {format_norm(norm)} radius "
                f"above {farthest:.3g}, got radius={self.radius:g}. Take a smaller radius "
                "or more votes."
            )


def _evenly(X: Any, y: Any, n: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Inputs and targets at even distances, since data may be sorted by class."""
    rows = np.unique(np.linspace(0, len(X) - 1, n).astype(int))
    X, y = as_array(X), as_array(y)
    if isinstance(X, np.ndarray):
        images, targets = X[rows], y[rows]
    else:  # a torch Dataset
        pairs = [X[row] for row in rows.tolist()]
        images = np.stack([np.asarray(as_array(image)) for image, _ in pairs])
        targets = np.array([int(target) for _, target in pairs])
    return images.astype(np.float32), targets.astype(np.int64)
