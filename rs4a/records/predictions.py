"""The interface that all records share, and the record of confidence bounds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

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
    check_in_range,
    check_norm,
    check_probability,
    format_norm,
)


class CertifiedPredictions(ABC):
    """Labels, abstentions and certified radii of a batch of inputs.

    A :class:`~rs4a.Certification` derives them from votes, a :class:`BoundRecord` from
    confidence bounds, and a :class:`CertificationLog` reads them from a file. Scores,
    tables and figures take any of the three.

    Attributes
    ----------
    labels : ndarray of shape (n,)
        Predicted labels.

    abstained : ndarray of shape (n,), bool
        Where the label has no certificate.

    noise : Noise or None
        Noise of the votes; None in a log that was read without a noise.

    dim : int or None
        Number of coordinates of one input; None in a log that was read without it.

    norm : {1, 2, inf}
        Norm of the adversary, unless a method gets another norm.

    box : Box or None
        Box that inputs and attacks lie in. None: no box.

    Examples
    --------
    >>> from rs4a import Certification
    >>> from rs4a.noises import Uniform
    >>> from rs4a.records import CertifiedPredictions
    >>> certification = Certification.from_counts(
    ...     [[990, 10], [520, 480]], labels=[0, 0], noise=Uniform(sigma=0.5), dim=784
    ... )
    >>> isinstance(certification, CertifiedPredictions)
    True
    >>> certification[1:].to_frame()[["label", "abstained", "radius_l1"]]
       label  abstained  radius_l1
    0      0       True        0.0
    """

    noise: Any
    dim: Any
    norm: Any
    box: Any

    if TYPE_CHECKING:  # a field of some records, a property of the others

        @property
        def labels(self) -> NDArray:
            """Predicted labels."""

        @property
        def abstained(self) -> NDArray[np.bool_]:
            """Where the label has no certificate."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    #: Fields with one row per input, and further columns of `to_frame`.
    _PER_INPUT: ClassVar[tuple[str, ...]]
    _COLUMNS: ClassVar[tuple[str, ...]]

    @abstractmethod
    def _radius(self, norm: float) -> NDArray[np.float64]:
        """Certified radius of every input, in a norm that was checked."""

    def _norms(self) -> Iterable[float]:
        """Norms in which radii are known."""
        return NORMS

    def _settle(self) -> None:
        """Check and copy noise, norm and box; the default norm is the noise's own."""
        store(self, dim=check_dim(self.dim))
        self.noise.scale(self.dim)  # refuses a noise without a scale
        norm = self.noise.norms[0] if self.norm is None else self.norm
        store(self, noise=clone(self.noise), norm=check_norm(norm), box=as_box(self.box))
        if self.box is not None:
            self.noise.check_box_radius()
            reach = self.box.reach
            if reach is not None and reach.shape[:-1] != (len(self),):
                raise ValueError(
                    f"reach of the box must have shape ({len(self)}, k), one row per "
                    f"input, got {reach.shape}."
                )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Any) -> Self:
        """Record of some of the inputs: a slice, a mask, positions, or a single one."""
        at = check_rows(rows, len(self))
        return replace(self, box=self.box and self.box.of(at), **self._rows(at))

    def _rows(self, at: NDArray[np.int64]) -> dict[str, Any]:
        """Fields of the record of the inputs at these positions, without its box."""
        arrays = {name: getattr(self, name) for name in self._PER_INPUT}
        return {name: array[at] for name, array in arrays.items() if array is not None}

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy is built anew, so that its arrays are read-only too.
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    def __repr__(self) -> str:
        box = "" if self.box is None else f", box={self.box}"
        return (
            f"{type(self).__name__}(n={len(self)}, noise={self.noise}{self._conclusions}, "
            f"norm={format_norm(self.norm)}{box}, abstained={int(self.abstained.sum())})"
        )

    @property
    def _conclusions(self) -> str:
        """Bound and alpha in the text of the record, if they are known."""
        return ""

    def radius(self, norm: float | None = None) -> NDArray[np.float64]:
        """Certified radius of every input.

        Parameters
        ----------
        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: the record's own.

        Returns
        -------
        radius : ndarray of shape (n,), float64
            In units of X, never above the radius that is proven, or that a log claims; 0
            where the classifier abstained. With a `box`, the radius holds for attacks that
            stay in the box.

        Raises
        ------
        UnsupportedNormError
            If `norm` is none of 1, 2 and inf.
        ValueError
            If a log must convert its radii to `norm` and was read without `dim`.
        """
        return self._radius(check_norm(self.norm if norm is None else norm))

    def to_frame(self) -> pd.DataFrame:
        """Table with one row per input.

        Returns
        -------
        frame : pandas.DataFrame of shape (n, n_columns)
            Columns label and abstained; y_true of a log; prob_lower of the other records;
            n_votes of a Certification; radius_l1, radius_l2 and radius_linf, without the
            norms to which a log cannot convert its radii. The index of a Certification is
            the index of the certified DataFrame; the index of a log holds the numbers of
            the images.
        """
        columns = {"label": self.labels, "abstained": self.abstained}
        columns |= {name: getattr(self, name) for name in self._COLUMNS}
        columns |= {
            f"radius_{format_norm(norm)}": self.radius(norm) for norm in self._norms()
        }
        return pd.DataFrame(columns, index=getattr(self, "index", None))


def store(record: Any, **values: Any) -> None:
    """Set fields of a frozen record while it is built."""
    for name, value in values.items():
        object.__setattr__(record, name, value)


def check_shape(name: str, values: Any, *shape: int) -> None:
    """Refuse an array of another shape."""
    if np.shape(values) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {np.shape(values)}.")


def check_classes(classes: ArrayLike) -> NDArray:
    """Return classes as a read-only array; refuse anything but different labels."""
    labels = plain_labels("classes", classes)
    if len(np.unique(labels)) < len(labels):
        raise ValueError(f"classes must differ, got {labels.tolist()}.")
    return read_only(labels)


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
        Norm of the adversary, unless a method gets another norm. None: the noise's own.

    alpha : float, default=0.001
        Probability with which each single bound may be wrong.

    proba : ndarray of shape (n, n_classes), float64, default=None
        Share of the selection votes for every class.

    box : tuple of two floats, default=None
        Smallest and largest value of a coordinate, if they bound inputs and attacks. Radii
        are then larger, and hold within the box only. For Uniform noise and independent
        Splitting.

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

    counts = selection_counts = n_votes = recompute = property(_refuse_votes)

    def __post_init__(self) -> None:
        classes, labels = check_classes(self.classes), read_only(self.labels)
        if labels.ndim != 1 or not np.isin(labels, classes).all():
            raise ValueError(
                "labels must be an array of shape (n,) with entries in "
                f"{classes.tolist()}, got {self.labels!r}."
            )
        store(self, classes=classes, labels=labels)
        shapes: dict[str, tuple[int, ...]] = {"prob_lower": (len(self),)}
        if self.proba is not None:
            shapes["proba"] = len(self), len(classes)
        for name, shape in shapes.items():
            values = read_only(check_probability(name, getattr(self, name)))
            check_shape(name, values, *shape)
            store(self, **{name: values})
        check_in_range("alpha", self.alpha, 0.0, 1.0, why="a probability")
        store(self, alpha=float(self.alpha))
        self._settle()

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
        reach = self.box and self.box.lengths
        return self.noise.radius(self.prob_lower, norm=norm, dim=self.dim, reach=reach)
