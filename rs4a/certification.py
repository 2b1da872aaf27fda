"""The record of votes, and the labels, radii and abstentions derived from it."""

import json
import os
from dataclasses import dataclass, fields, replace
from functools import cached_property
from inspect import isabstract
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from rs4a import bounds, noises
from rs4a.bounds import Bound
from rs4a.certification_log import CertificationLog, make_log
from rs4a.noises import Noise
from rs4a.utils.checks import NORMS, check_dim, check_norm, format_norm
from rs4a.utils.params import from_json, to_json

__all__ = ["Certification"]

_FORMAT_VERSION = 1
_ARRAYS = {"classes", "selection_counts", "counts"}
_KNOWN_NOISES, _KNOWN_BOUNDS = (
    {n: getattr(module, n) for n in module.__all__ if not isabstract(getattr(module, n))}
    for module in (noises, bounds)
)


@dataclass(frozen=True, eq=False, repr=False)
class Certification:
    """Votes on a batch of inputs, and what they prove.

    The record keeps the votes; labels, probabilities, radii and abstentions are derived
    from them, so that another norm or alpha costs no sampling.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Labels of the columns of the counts.

    selection_counts : ndarray of shape (n, n_classes), int64
        Votes that chose the class of every input.

    counts : ndarray of shape (n, n_classes), int64
        Estimation votes, independent of the selection votes, that bound its
        probability.

    noise : Noise
        Noise under which the votes were drawn.

    dim : int
        Number of coordinates of one input.

    bound : Bound, default=None
        How votes become a probability. None: ``ClopperPearson()``.

    alpha : float, default=0.001
        Probability with which each single certificate may be wrong.

    norm : {1, 2, inf}, default=None
        Norm of the adversary where a method is given none. None: the noise's own.

    seconds : float, default=0.0
        Time that the votes took.

    Attributes
    ----------
    labels : ndarray of shape (n,)
        Entries of `classes`, also where the classifier abstained.

    n_votes : ndarray of shape (n,), int64
        Number of estimation votes.

    prob_lower : ndarray of shape (n,), float64
        Lower confidence bound on the probability, under the noise, of the label.

    abstained : ndarray of shape (n,), bool
        Where `prob_lower` is at most 1/2: the label has no certificate.

    Raises
    ------
    ValueError
        If the counts are negative or do not fit each other and the classes, or another
        argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from rs4a.certification import Certification
    >>> from rs4a.noises import Uniform
    >>> votes = np.array([[990, 10], [520, 480]])
    >>> certification = Certification(
    ...     np.array(["cat", "dog"]), votes // 10, votes, Uniform(lambd=1.0), dim=784
    ... )
    >>> certification.labels
    array(['cat', 'cat'], dtype='<U3')
    >>> certification.abstained
    array([False,  True])
    >>> certification.radius(norm=1).round(3)
    array([0.952, 0.   ])
    """

    classes: NDArray
    selection_counts: NDArray[np.int64]
    counts: NDArray[np.int64]
    noise: Noise
    dim: int
    bound: Bound | None = None
    alpha: float = 0.001
    norm: float | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        store = object.__setattr__  # the fields are frozen for everybody else
        store(self, "classes", _read_only(_plain_labels(self.classes)))
        for name in ("selection_counts", "counts"):
            store(self, name, _read_only(_check_counts(name, getattr(self, name))))
        if self.counts.shape != self.selection_counts.shape:
            raise ValueError(
                "counts and selection_counts must have one shape, (n, n_classes), got "
                f"{self.counts.shape} and {self.selection_counts.shape}."
            )
        if self.counts.shape[1] != len(self.classes):
            raise ValueError(
                f"counts must have a column for each of the {len(self.classes)} classes, "
                f"got shape {self.counts.shape}."
            )
        if len(np.unique(self.classes)) < len(self.classes):
            raise ValueError(f"classes must differ, got {self.classes.tolist()}.")
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(
                f"alpha must be a float in the range (0, 1), got {self.alpha!r}."
            )
        store(self, "dim", check_dim(self.dim))
        self.noise.scale(self.dim)  # refuses a noise without a scale
        store(self, "noise", clone(self.noise))
        store(self, "bound", clone(self.bound or bounds.ClopperPearson()))
        norm = self.noise.norms[0] if self.norm is None else self.norm
        store(self, "norm", check_norm(norm))

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies are built anew, so that their arrays are read-only too.
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    def __len__(self) -> int:
        return len(self.counts)

    def __repr__(self) -> str:
        return (
            f"Certification(n={len(self)}, noise={self.noise}, bound={self.bound}, "
            f"alpha={self.alpha}, norm={format_norm(self._norm)}, "
            f"abstained={int(self.abstained.sum())}, votes={int(self.n_votes.sum())})"
        )

    @property
    def _norm(self) -> float:
        assert self.norm is not None
        return self.norm

    @cached_property
    def _columns(self) -> NDArray[np.int64]:
        """Column of the selected class; ties go to the first."""
        return self.selection_counts.argmax(axis=1)

    @property
    def labels(self) -> NDArray:
        """Selected class of every input."""
        return self.classes[self._columns]

    @property
    def n_votes(self) -> NDArray[np.int64]:
        """Number of estimation votes of every input."""
        return self.counts.sum(axis=1)

    @cached_property
    def prob_lower(self) -> NDArray[np.float64]:
        """Lower confidence bound on the probability of every label."""
        assert self.bound is not None
        successes = self.counts[np.arange(len(self)), self._columns]
        return _read_only(self.bound.prob_lower(successes, self.n_votes, self.alpha))

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
            In units of X, never above the true radius; 0 where the classifier
            abstained.

        Raises
        ------
        UnsupportedNormError
            If `norm` is none of 1, 2 and inf.
        """
        norm = self._norm if norm is None else norm
        return self.noise.radius(self.prob_lower, norm=norm, dim=self.dim)

    def recompute(
        self,
        *,
        alpha: float | None = None,
        norm: float | None = None,
        bound: Bound | None = None,
    ) -> "Certification":
        """Draw other conclusions from the same votes.

        Each record is valid at its own `alpha`. To choose among several after seeing
        them, the best bound say, voids the stated failure probability.

        Parameters
        ----------
        alpha : float, default=None
            Failure probability of each certificate. None: as it was.

        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: as it was.

        bound : Bound, default=None
            How votes become a probability. None: as it was.

        Returns
        -------
        certification : Certification
            A new record; this one stays as it is.

        Raises
        ------
        ValueError
            If `alpha` is outside (0, 1).
        """
        return replace(
            self,
            alpha=self.alpha if alpha is None else alpha,
            norm=self.norm if norm is None else norm,
            bound=self.bound if bound is None else bound,
        )

    def to_frame(self) -> pd.DataFrame:
        """Table with a row for every input.

        Returns
        -------
        frame : pandas.DataFrame of shape (n, 7)
            Columns label, abstained, prob_lower, n_votes, radius_l1, radius_l2 and
            radius_linf.
        """
        columns: dict[str, Any] = {
            "label": self.labels,
            "abstained": self.abstained,
            "prob_lower": self.prob_lower,
            "n_votes": self.n_votes,
        }
        for norm in NORMS:
            columns[f"radius_{format_norm(norm)}"] = self.radius(norm)
        return pd.DataFrame(columns)

    def to_tsv(
        self, path: str | os.PathLike[str], y_true: ArrayLike, norm: float | None = None
    ) -> None:
        """Write a log in the format of Cohen et al. 2019.

        Parameters
        ----------
        path : str or path-like
            File to write: tab-separated idx, label, predict (-1 for an abstention),
            radius, correct and time (seconds an input).

        y_true : array-like of shape (n,)
            True labels.

        norm : {1, 2, inf}, default=None
            Norm of the radii. None: the record's own. The format does not state it.

        Raises
        ------
        ValueError
            If `y_true` has another length or -1 is a label.
        """
        norm = self._norm if norm is None else check_norm(norm)
        radii, abstained = self.radius(norm), self.abstained
        log = make_log(y_true, self.labels, radii, abstained, self.seconds, norm)
        log.to_tsv(path)

    @staticmethod
    def from_tsv(
        path: str | os.PathLike[str], *, norm: float = 2, dim: int | None = None
    ) -> CertificationLog:
        """Read a log; see :meth:`rs4a.certification_log.CertificationLog.from_tsv`.

        Parameters
        ----------
        path : str or path-like
            File in the format that :meth:`to_tsv` writes.

        norm : {1, 2, inf}, default=2
            Norm of its radii.

        dim : int, default=None
            Number of coordinates of one input, for conversion to larger norms.

        Returns
        -------
        log : CertificationLog
            What a log knows: labels, radii and abstentions, but no votes.
        """
        return CertificationLog.from_tsv(path, norm=norm, dim=dim)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the record: an npz archive of arrays and JSON, without pickle.

        The file appears whole or not at all.

        Parameters
        ----------
        path : str or path-like
            File to write, under exactly this name.
        """
        assert self.bound is not None
        metadata = {
            "format": _FORMAT_VERSION,
            "noise": to_json(self.noise),
            "bound": to_json(self.bound),
            "dim": self.dim,
            "alpha": float(self.alpha),
            "norm": str(self._norm),
            "seconds": float(self.seconds),
        }
        path = Path(path)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                np.savez_compressed(
                    file,
                    allow_pickle=False,
                    metadata=np.array(json.dumps(metadata)),
                    classes=self.classes,
                    selection_counts=self.selection_counts,
                    counts=self.counts,
                )
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        noise: Noise | None = None,
        bound: Bound | None = None,
    ) -> "Certification":
        """Read a record that :meth:`save` wrote. No code from the file is run.

        Parameters
        ----------
        path : str or path-like
            File to read.

        noise : Noise, default=None
            The noise of the record, needed where its class is not one of rs4a's.

        bound : Bound, default=None
            Likewise, the bound.

        Returns
        -------
        certification : Certification
            Equal to the saved one.

        Raises
        ------
        ValueError
            If the file is not a whole record.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            metadata = json.loads(str(arrays.pop("metadata")))
            version = metadata["format"]
            if set(arrays) != _ARRAYS:
                raise KeyError(f"arrays {sorted(arrays)}")
        except FileNotFoundError:
            raise
        except Exception as error:  # a damaged file fails in many ways
            raise ValueError(
                f"{Path(path).name} is not a whole Certification, as save writes it: "
                f"{type(error).__name__} in reading it."
            ) from error
        if version != _FORMAT_VERSION:
            raise ValueError(
                f"{Path(path).name} has format {version}, this version of rs4a reads "
                f"format {_FORMAT_VERSION}."
            )
        return cls(
            **arrays,
            noise=noise or from_json(metadata["noise"], _KNOWN_NOISES),
            bound=bound or from_json(metadata["bound"], _KNOWN_BOUNDS),
            dim=metadata["dim"],
            alpha=metadata["alpha"],
            norm=float(metadata["norm"]),
            seconds=metadata["seconds"],
        )


def _read_only(array: NDArray) -> NDArray:
    array = np.array(array)
    array.setflags(write=False)
    return array


def _plain_labels(classes: ArrayLike) -> NDArray:
    """Labels as a numpy array that can be stored without pickle."""
    labels = np.asarray(classes)
    if labels.dtype == object:
        labels = np.asarray(labels.tolist())
    if labels.ndim != 1 or labels.dtype.kind not in "biufUS":
        raise ValueError(
            "classes must be a list of numbers or strings, got an array of shape "
            f"{labels.shape} and dtype {labels.dtype}."
        )
    return labels


def _check_counts(name: str, counts: ArrayLike) -> NDArray[np.int64]:
    values = np.asarray(counts)
    if values.ndim != 2 or values.dtype.kind not in "iu" or (values < 0).any():
        raise ValueError(
            f"{name} must be an array of whole numbers of at least 0, of shape "
            f"(n, n_classes), got dtype {values.dtype} and shape {values.shape}."
        )
    return values.astype(np.int64)
