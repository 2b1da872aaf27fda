"""The interface that the three records of certified predictions share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from rs4a.noises import Noise
from rs4a.records.box import as_box
from rs4a.utils.arrays import check_rows, plain_labels, read_only
from rs4a.utils.checks import NORMS, check_norm, format_norm

__all__ = ["CertifiedPredictions", "check_classes", "check_noise", "store"]


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
        Norm of the adversary where a method is given none.

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

    def _settle(self, norm: float | None, box: Any) -> None:
        """Set the norm, where None is the noise's own, and the box."""
        norm = check_norm(self.noise.norms[0] if norm is None else norm)
        store(self, norm=norm, box=as_box(box))
        self._check_box()

    def _check_box(self) -> None:
        """Refuse a box that no radius makes use of, or that knows of other inputs."""
        if self.box is None:
            return
        self.noise.check_box_radius()
        reach = self.box.reach
        if reach is not None and reach.shape[:-1] != (len(self),):
            raise ValueError(
                f"reach of the box must have shape ({len(self)}, k), one row per input, "
                f"got {reach.shape}."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Any) -> Self:
        """Record of some of the inputs: a slice, a mask, positions, or a single one."""
        at = check_rows(rows, len(self))
        return replace(self, box=self.box and self.box.of(at), **self._rows(at))

    def _rows(self, at: NDArray[np.int64]) -> dict[str, Any]:
        """Fields of the record of the inputs at these positions, but its box."""
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
            In units of X, never above what is proven, or in a log claimed; 0 where the
            classifier abstained. With a `box`, it holds for attacks that stay in the box.

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
            n_votes of a Certification; radius_l1, radius_l2 and radius_linf, without those
            to which a log cannot convert its radii. The index of a Certification is that
            of the certified DataFrame, the index of a log holds the numbers of the images.
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


def check_classes(classes: ArrayLike) -> NDArray:
    """Return classes as a plain array; refuse anything but a list of different labels."""
    labels = plain_labels("classes", classes)
    if len(np.unique(labels)) < len(labels):
        raise ValueError(f"classes must differ, got {labels.tolist()}.")
    return read_only(labels)


def check_noise(noise: Noise, dim: int) -> Noise:
    """Return a copy of the noise; refuse a noise without a scale."""
    noise.scale(dim)
    return clone(noise)
