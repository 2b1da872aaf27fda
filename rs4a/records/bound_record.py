"""Certified predictions of which confidence bounds are known, but not the votes."""

from dataclasses import dataclass, fields, replace
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from rs4a.noises import Noise
from rs4a.records.box import as_box
from rs4a.utils.arrays import check_rows, plain_labels, read_only
from rs4a.utils.checks import (
    NORMS,
    check_dim,
    check_norm,
    check_probability,
    format_norm,
)

__all__ = ["BoundRecord"]


def _refuse_votes(record: Any) -> NoReturn:
    raise AttributeError(
        "This record has no votes: it keeps confidence bounds only, which is all that the "
        "results of the paper's code hold. Another alpha or bound needs the votes, as a "
        "Certification has them; another norm does not: radius(norm=...)."
    )


@dataclass(frozen=True, eq=False, repr=False)
class BoundRecord:
    """Labels and confidence bounds on a batch of inputs, without the votes behind them.

    It answers `labels`, `abstained` and `radius(norm)` as a :class:`~rs4a.Certification`
    does, so that the metrics and displays take either. Whatever needs votes says that there
    are none: `counts`, `selection_counts`,
    `n_votes` and `recompute` raise an AttributeError.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        All labels that there are.

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
    norm: float | None = None
    alpha: float = 0.001
    proba: NDArray[np.float64] | None = None
    box: Any = None

    counts = property(_refuse_votes)
    selection_counts = property(_refuse_votes)
    n_votes = property(_refuse_votes)
    recompute = property(_refuse_votes)

    def __post_init__(self) -> None:
        store = object.__setattr__  # the fields are frozen for everybody else
        store(self, "classes", read_only(_check_classes(self.classes)))
        store(self, "labels", read_only(_check_labels(self.labels, self.classes)))
        store(self, "prob_lower", _check_shares("prob_lower", self.prob_lower, len(self)))
        if self.proba is not None:
            shape = len(self), len(self.classes)
            store(self, "proba", _check_shares("proba", self.proba, *shape))
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(
                f"alpha must be a float in the range (0, 1), got {self.alpha!r}."
            )
        store(self, "dim", check_dim(self.dim))
        self.noise.scale(self.dim)  # refuses a noise without a scale
        store(self, "noise", clone(self.noise))
        norm = self.noise.norms[0] if self.norm is None else self.norm
        store(self, "norm", check_norm(norm))
        store(self, "box", as_box(self.box))
        if self.box is not None:
            self.noise.check_box_radius()

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies are built anew, so that their arrays are read-only too.
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Any) -> "BoundRecord":
        """Record of some of the inputs: a slice, a mask, positions, or a single one."""
        at = check_rows(rows, len(self))
        return replace(
            self,
            labels=self.labels[at],
            prob_lower=self.prob_lower[at],
            proba=None if self.proba is None else self.proba[at],
            box=self.box and self.box.of(at),
        )

    def __repr__(self) -> str:
        return (
            f"BoundRecord(n={len(self)}, noise={self.noise}, alpha={self.alpha}, "
            f"norm={format_norm(self._norm)}, abstained={int(self.abstained.sum())})"
        )

    @property
    def _norm(self) -> float:
        assert self.norm is not None
        return self.norm

    @property
    def vote_shares(self) -> NDArray[np.float64] | None:
        """The probabilities `proba`, by the name that `Certification` has for them."""
        return self.proba

    @property
    def abstained(self) -> NDArray[np.bool_]:
        """Where the label has no certificate."""
        return self.prob_lower <= 0.5

    def radius(self, norm: float | None = None) -> NDArray[np.float64]:
        """Certified radius of every input.

        Parameters
        ----------
        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: the record's own.

        Returns
        -------
        radius : ndarray of shape (n,), float64
            In units of X, never above what the bounds prove; 0 where the classifier
            abstained. With a `box` it holds for attacks that stay in it.

        Raises
        ------
        UnsupportedNormError
            If `norm` is none of 1, 2 and inf.
        """
        norm = self._norm if norm is None else norm
        reach = None if self.box is None else self.box.lengths
        return self.noise.radius(self.prob_lower, norm=norm, dim=self.dim, reach=reach)

    def to_frame(self) -> pd.DataFrame:
        """Table with a row for every input.

        Returns
        -------
        frame : pandas.DataFrame of shape (n, 6)
            Columns label, abstained, prob_lower, radius_l1, radius_l2 and radius_linf.
        """
        columns: dict[str, Any] = {
            "label": self.labels,
            "abstained": self.abstained,
            "prob_lower": self.prob_lower,
        }
        for norm in NORMS:
            columns[f"radius_{format_norm(norm)}"] = self.radius(norm)
        return pd.DataFrame(columns)


def _check_classes(classes: ArrayLike) -> NDArray:
    """Return classes as a plain array; refuse what is no list of different labels."""
    labels = plain_labels("classes", classes)
    if len(np.unique(labels)) < len(labels):
        raise ValueError(f"classes must differ, got {labels.tolist()}.")
    return labels


def _check_labels(labels: ArrayLike, classes: NDArray) -> NDArray:
    values = np.asarray(labels)
    if values.ndim != 1 or not np.isin(values, classes).all():
        raise ValueError(
            f"labels must be an array of shape (n,) with entries in {classes.tolist()}, "
            f"got {labels!r}."
        )
    return values


def _check_shares(name: str, values: ArrayLike, *shape: int) -> NDArray[np.float64]:
    """Return probabilities as read-only float64; refuse another shape."""
    checked = check_probability(name, values)
    if checked.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {checked.shape}.")
    return read_only(checked)
