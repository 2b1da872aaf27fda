"""Certified predictions of which confidence bounds are known, but not the votes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rs4a.noises import Noise
from rs4a.records.predictions import (
    CertifiedPredictions,
    check_classes,
    check_noise,
    store,
)
from rs4a.utils.arrays import read_only
from rs4a.utils.checks import check_dim, check_in_range, check_probability

__all__ = ["BoundRecord"]


def _refuse_votes(record: Any) -> NoReturn:
    raise AttributeError(
        "This record has no votes: it keeps confidence bounds only, which is all that the "
        "results of the paper's code hold. Another alpha or bound needs the votes, as a "
        "Certification has them; another norm does not: radius(norm=...)."
    )


@dataclass(frozen=True, eq=False, repr=False)
class BoundRecord(CertifiedPredictions):
    """Labels and confidence bounds on a batch of inputs, without the votes behind them.

    Scores, tables and figures take it as they take a :class:`~rs4a.Certification`. The
    attributes that need votes, `counts`, `selection_counts`, `n_votes` and `recompute`,
    raise an AttributeError.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Labels that an input can have.

    labels : ndarray of shape (n,)
        Predicted labels, entries of `classes`.

    prob_lower : ndarray of shape (n,), float64
        Lower confidence bound on the probability, under the noise, of the label.

    noise : Noise
        Noise under which the votes were drawn.

    dim : int
        Number of coordinates of one input.

    norm : {1, 2, inf}, default=None
        Norm of the adversary where a method is given none. None: the noise's own.

    alpha : float, default=0.001
        Probability with which each single bound may be wrong.

    proba : ndarray of shape (n, n_classes), float64, default=None
        Share of the selection votes for every class.

    box : tuple of two floats, default=None
        Smallest and largest value of a coordinate, if attacks must respect them too. Radii
        are then larger, and hold within the box only, for inputs that lie in it. For
        Uniform noise and independent Splitting.

    Attributes
    ----------
    abstained : ndarray of shape (n,), bool
        Where `prob_lower` is at most 1/2: the label has no certificate.

    Raises
    ------
    ValueError
        If the arrays do not fit each other and the classes, a probability is outside
        [0, 1], or another argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from rs4a.records import BoundRecord
    >>> from rs4a.noises import Uniform
    >>> record = BoundRecord(
    ...     classes=np.array([0, 1]),
    ...     labels=np.array([0, 0]),
    ...     prob_lower=np.array([0.9, 0.45]),
    ...     noise=Uniform(lambd=1.0),
    ...     dim=784,
    ... )
    >>> record.abstained
    array([False,  True])
    >>> record.radius(norm=1).round(3)
    array([0.8, 0. ])
    """

    classes: NDArray
    labels: NDArray
    prob_lower: NDArray[np.float64]
    noise: Noise
    dim: int
    norm: Any = None
    alpha: float = 0.001
    proba: NDArray[np.float64] | None = None
    box: Any = None

    _PER_INPUT = ("labels", "prob_lower", "proba")
    _COLUMNS = ("prob_lower",)

    counts = property(_refuse_votes)
    selection_counts = property(_refuse_votes)
    n_votes = property(_refuse_votes)
    recompute = property(_refuse_votes)

    def __post_init__(self) -> None:
        classes = check_classes(self.classes)
        store(self, classes=classes, labels=_check_labels(self.labels, classes))
        store(self, prob_lower=_check_shares("prob_lower", self.prob_lower, len(self)))
        if self.proba is not None:
            shape = len(self), len(classes)
            store(self, proba=_check_shares("proba", self.proba, *shape))
        check_in_range("alpha", self.alpha, 0.0, 1.0, why="a probability")
        store(self, alpha=float(self.alpha), dim=check_dim(self.dim))
        store(self, noise=check_noise(self.noise, self.dim))
        self._settle(self.norm, self.box)

    @property
    def _conclusions(self) -> str:
        return f", alpha={self.alpha}"

    @property
    def vote_shares(self) -> NDArray[np.float64] | None:
        """The probabilities `proba`, by the name that `Certification` has for them."""
        return self.proba

    @property
    def abstained(self) -> NDArray[np.bool_]:
        """Where the label has no certificate."""
        return self.prob_lower <= 0.5

    def _radius(self, norm: float) -> NDArray[np.float64]:
        reach = None if self.box is None else self.box.lengths
        return self.noise.radius(self.prob_lower, norm=norm, dim=self.dim, reach=reach)


def _check_labels(labels: ArrayLike, classes: NDArray) -> NDArray:
    values = np.asarray(labels)
    if values.ndim != 1 or not np.isin(values, classes).all():
        raise ValueError(
            f"labels must be an array of shape (n,) with entries in {classes.tolist()}, "
            f"got {labels!r}."
        )
    return read_only(values)


def _check_shares(name: str, values: ArrayLike, *shape: int) -> NDArray[np.float64]:
    """Return probabilities as read-only float64; refuse another shape."""
    checked = check_probability(name, values)
    if checked.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {checked.shape}.")
    return read_only(checked)
