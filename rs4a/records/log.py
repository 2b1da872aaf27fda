"""Certification logs in the field's tab-separated format (Cohen et al. 2019)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rs4a.noises import Noise
from rs4a.radii import conversion_factor, round_down
from rs4a.records.box import as_box
from rs4a.records.guarantee import guarantee_of_log, spread_in_words
from rs4a.records.log_files import parse_labels, read_log, write_log
from rs4a.records.predictions import CertifiedPredictions, check_shape, store
from rs4a.utils.checks import NORMS, check_norm, format_norm
from rs4a.utils.rounding import format_radius
from rs4a.utils.user_warnings import warn_user

_ABSTAIN = "-1"
_ARRAYS = ("index", "y_true", "labels", "radii", "abstained", "seconds")
_WIDTH = 84
#: Digits of a radius after the point.
_DECIMALS = 10


@dataclass(frozen=True, eq=False, repr=False)
class CertificationLog(CertifiedPredictions):
    """Labels and radii as a log states them, without the votes behind them.

    Scores, tables and figures take it as they take a :class:`~rs4a.Certification`.

    Parameters
    ----------
    index : ndarray of shape (n,), int64
        Position of every input in its data set.

    y_true : ndarray of shape (n,)
        True labels.

    labels : ndarray of shape (n,)
        Predicted labels; where the classifier abstained, -1 (or "-1" among strings).

    radii : ndarray of shape (n,), float64
        Certified radii in the norm of the log; 0 where the classifier abstained.

    abstained : ndarray of shape (n,), bool
        Where no certificate was reached.

    seconds : ndarray of shape (n,), float64
        Time spent on every input.

    norm : float
        Norm of the radii: 1, 2 or inf. Logs of other codes do not state their norm.

    dim : int or None
        Number of coordinates of an input, for conversion to larger norms.

    noise : Noise or None
        Noise of the votes, which the format does not state. Tables and figures that
        compare noises need the noise, which needs `dim`. It does not change the radii.

    box : tuple of two floats or rs4a.records.box.Box, default=None
        Smallest and largest value of a coordinate, if the radii hold only for attacks
        that stay between them. The record holds a `Box`.

    radius_texts : ndarray of shape (n,), str, default=None
        Radii as a file writes them, so that `to_tsv` writes the same text. A text of
        another number than the radius is ignored.

    Raises
    ------
    ValueError
        If the noise has no scale, comes without `dim`, or has no radii in the box.
    """

    index: NDArray[np.int64]
    y_true: NDArray
    labels: NDArray
    radii: NDArray[np.float64]
    abstained: NDArray[np.bool_]
    seconds: NDArray[np.float64]
    norm: float = 2.0
    dim: int | None = None
    noise: Noise | None = None
    box: Any = None
    radius_texts: NDArray[np.str_] | None = None

    _PER_INPUT = (*_ARRAYS, "radius_texts")
    _COLUMNS = ("y_true",)

    def __post_init__(self) -> None:
        store(self, **{name: np.asarray(getattr(self, name)) for name in _ARRAYS})
        if self.noise is None:
            store(self, box=as_box(self.box))
            return
        if self.dim is None:
            raise ValueError(
                "dim must be given with noise, got None: sigma may depend on the number of "
                "coordinates of one input."
            )
        self._settle()

    def __str__(self) -> str:
        known = "" if self.noise is None else f" under {self.noise}"
        box = self.box and self.box.interval
        lines = [
            f"{len(self)} inputs{known}, as a log states them",
            *wrap(guarantee_of_log(self.norm, box), _WIDTH),
        ]
        if len(self):
            lines += spread_in_words(self, self.norm)
        return "\n".join(lines)

    def _norms(self) -> list[float]:
        return [norm for norm in NORMS if norm <= self.norm or self.dim is not None]

    def _radius(self, norm: float) -> NDArray[np.float64]:
        if norm <= self.norm:
            return self.radii.copy()
        if self.dim is None:
            raise ValueError(
                f"dim is needed to convert radii from {format_norm(self.norm)} to "
                f"{format_norm(norm)}, got None: read the log with dim=, the number of "
                "coordinates of one input."
            )
        return round_down(self.radii * conversion_factor(self.norm, norm, self.dim))

    def restrict(self, idx: ArrayLike) -> CertificationLog:
        """Log of the images with these numbers, in their order.

        Parameters
        ----------
        idx : array-like of shape (m,), int
            Numbers of images, as `index` has them.

        Returns
        -------
        log : CertificationLog
            The images with these numbers.

        Raises
        ------
        ValueError
            If the log lacks one of them.
        """
        wanted = pd.Index(np.ravel(idx))
        rows = pd.Index(self.index).get_indexer(wanted)
        missing = wanted[rows < 0]
        if len(missing):
            raise ValueError(
                f"idx must be numbers of images of the log, got {len(missing)} other "
                f"numbers, the first is {missing[0]}."
            )
        return self[rows]

    def to_tsv(self, path: str | os.PathLike[str]) -> None:
        """Write the log; radii are rounded down to 10 decimals.

        A log that was read writes the radii as it read them. A column `norm` is added to
        those of the format, and `box` if there is a box.

        Parameters
        ----------
        path : str or path-like
            File to write.

        Raises
        ------
        ValueError
            If an image occurs twice, or a label would be read as another label.
        """
        if len(np.unique(self.index)) < len(self):
            raise ValueError("index must hold every image once, got some twice.")
        columns = {
            "idx": self.index,
            "label": self.y_true.astype(str),
            "predict": np.where(self.abstained, _ABSTAIN, self.labels.astype(str)),
            "radius": self._texts(),
            "correct": ((self.labels == self.y_true) & ~self.abstained).astype(int),
            "time": self.seconds,
            "norm": f"{self.norm:g}",
        }
        if self.box is not None:
            columns["box"] = "{!r} {!r}".format(*self.box.interval)
        _check_readable(columns["label"], columns["predict"])
        write_log(path, columns)

    def _texts(self) -> list[str]:
        """Radii as a file has them: as they were read, or rounded down."""
        read = [""] * len(self) if self.radius_texts is None else self.radius_texts.tolist()
        return [
            text if text and float(text) == radius else format_radius(radius, _DECIMALS)
            for text, radius in zip(read, self.radii.tolist(), strict=True)
        ]

    @classmethod
    def from_tsv(
        cls,
        path: str | os.PathLike[str],
        *,
        norm: float | None = None,
        dim: int | None = None,
        noise: Noise | None = None,
    ) -> CertificationLog:
        """Read a log in the field's format.

        Parameters
        ----------
        path : str or path-like
            Tab-separated file with the columns idx, label, predict, radius, correct and
            time; predict is -1 where the classifier abstained; time is in seconds or
            h:mm:ss. The columns norm and box that `to_tsv` adds are read too.

        norm : {1, 2, inf}, default=None
            Norm of its radii. None: the norm that the file states; if the file states no
            norm, the noise's own, or 2 without a noise, as in Cohen et al.'s logs.

        dim : int, default=None
            Number of coordinates of one input, for conversion to larger norms.

        noise : Noise, default=None
            Noise of the votes, for tables and figures that compare noises; it needs `dim`.
            The noise does not change the radii.

        Returns
        -------
        log : CertificationLog
            Radii as written, but 0 where the classifier abstained. Labels are integers
            if all labels in the file are, else strings. A last line without a line end is
            read if it has all columns.

        Raises
        ------
        ValueError
            If a column is missing, a line is cut off, a field is not of its kind, `correct`
            contradicts the labels, an image occurs twice, the file states another norm,
            or the noise has no scale or comes without `dim`. The error names file, line
            and column.

        Warns
        -----
        CertificationWarning
            If a radius is negative: it certifies nothing, and the image is an abstention.
        """
        file = read_log(path)
        index, texts = file.image_numbers(), file.texts
        y_true, labels = parse_labels(texts["label"], texts["predict"])
        abstained = labels == labels.dtype.type(-1)
        for name in ("label", "predict"):
            file.refuse(texts[name] == "", name, "a label")
        file.check_correct((y_true == labels) & ~abstained)
        (stated,) = file.stated("norm", 1, "1, 2 or inf") or [norm]
        if norm not in (None, stated):
            raise ValueError(
                f"norm must be that of {file.name}, {stated:g}, or None, got {norm!r}: "
                "radius(norm=...) of the log converts."
            )
        usual = 2.0 if noise is None else noise.norms[0]
        radii = file.numbers("radius")
        file.refuse(np.isnan(radii) & ~abstained, "radius", "a number of at least 0")
        below = (radii < 0.0) & ~abstained
        if below.any():
            warn_user(
                f"{file.name} has {int(below.sum())} negative radii, the first in line "
                f"{texts.index[below][0]}: they certify nothing, and their images are "
                "abstentions."
            )
        abstained |= below
        return cls(
            index=index,
            y_true=y_true,
            labels=np.where(abstained, labels.dtype.type(-1), labels),
            radii=np.where(abstained, 0.0, radii),
            abstained=abstained,
            seconds=file.seconds(),
            norm=check_norm(usual if stated is None else stated),
            dim=dim,
            noise=noise,
            box=file.stated("box", 2, "two numbers"),
            radius_texts=texts["radius"].to_numpy(dtype=np.str_),
        )


def common_images(logs: Sequence[CertificationLog]) -> list[CertificationLog]:
    """Restrict logs to the images that all of them hold, so that they can be compared.

    Parameters
    ----------
    logs : sequence of CertificationLog
        Logs over one data set, whose `index` numbers its images.

    Returns
    -------
    logs : list of CertificationLog
        The same logs with the common images, in the order of the first.

    Raises
    ------
    ValueError
        If there is no log or no common image, or the true labels of an image differ: then
        one number means two images.

    Examples
    --------
    >>> import numpy as np
    >>> from rs4a.records import CertificationLog, common_images
    >>> logs = [
    ...     CertificationLog(
    ...         index=np.arange(0, 12, step), y_true=np.zeros(12 // step, dtype=int),
    ...         labels=np.zeros(12 // step, dtype=int), radii=np.ones(12 // step),
    ...         abstained=np.zeros(12 // step, dtype=bool), seconds=np.ones(12 // step),
    ...     )
    ...     for step in (2, 3)
    ... ]
    >>> [log.index.tolist() for log in common_images(logs)]
    [[0, 6], [0, 6]]
    """
    if not logs:
        raise ValueError("logs must hold at least one CertificationLog, got none.")
    common = logs[0].index
    for log in logs[1:]:
        common = common[np.isin(common, log.index)]
    if not len(common):
        raise ValueError("logs must have images in common, got none.")
    restricted = [log.restrict(common) for log in logs]
    first = restricted[0].y_true.astype(str)
    for log in restricted[1:]:
        differs = first != log.y_true.astype(str)
        if differs.any():
            raise ValueError(
                "logs must number the images of one data set, got two true labels for "
                f"idx {common[int(differs.argmax())]}."
            )
    return restricted


def log_of(certification: Any, y_true: ArrayLike, norm: float) -> CertificationLog:
    """Log of a certification; each input gets an equal share of the time."""
    labels, y_true = certification.labels, np.asarray(y_true)
    check_shape("y_true", y_true, len(labels))
    y_true = y_true.astype(labels.dtype) if labels.dtype.kind == "f" else y_true
    if _ABSTAIN in labels.astype(str) or _ABSTAIN in y_true.astype(str):
        raise ValueError(
            "The label -1 means abstention in this format, got it as a class. Encode the "
            "labels otherwise, for example by sklearn.preprocessing.LabelEncoder."
        )
    n, box = len(labels), certification.box and certification.box.interval
    radii, abstained = certification.radius(norm), certification.abstained
    seconds = np.full(n, certification.seconds / max(n, 1))
    return CertificationLog(
        np.arange(n), y_true, labels, radii, abstained, seconds, norm, box=box
    )


def _check_readable(*columns: NDArray[np.str_]) -> None:
    """Refuse labels that a reader of the format would read as other labels."""
    read = parse_labels(*(np.char.strip(column) for column in columns))
    again = [column.astype(str) for column in read]
    for written, meant in zip(np.ravel(columns), np.ravel(again), strict=True):
        if written != meant or not written:
            raise ValueError(
                f"labels must survive a log, got {str(written)!r}, which is read as "
                f"{str(meant)!r}. Encode them by sklearn.preprocessing.LabelEncoder."
            )
