"""Certification logs in the field's tab-separated format (Cohen et al. 2019)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rs4a.noises import Noise
from rs4a.radii import conversion_factor, round_down
from rs4a.records.box import as_box
from rs4a.records.guarantee import guarantee_of_log
from rs4a.records.log_files import LogFile, is_abstention, parse_labels, read_log, write_log
from rs4a.records.predictions import CertifiedPredictions, check_noise, store
from rs4a.utils.checks import NORMS, check_norm, format_norm
from rs4a.utils.rounding import format_radius
from rs4a.utils.user_warnings import warn_user

__all__ = ["CertificationLog", "common_images"]

_COLUMNS = ["idx", "label", "predict", "radius", "correct", "time"]
#: Columns that this library adds: radii without them would be misread.
_NORM, _BOX = "norm", "box"
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
        Norm of the radii: 1, 2 or inf. Logs of other codes do not state it.

    dim : int or None
        Number of coordinates of an input, for conversion to larger norms.

    noise : Noise or None
        Noise of the votes, which the format does not state. Tables and figures that
        compare noises need it, and it needs `dim`. The radii are those of the log.

    box : tuple of two floats or rs4a.records.box.Box, default=None
        Smallest and largest value of a coordinate, if the radii hold only for attacks
        that stay between them. Kept as a `Box`.

    radius_texts : ndarray of shape (n,), str, default=None
        Radii as a file writes them, so that `to_tsv` writes the same text. A text that
        does not mean the radius is ignored.

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
        store(self, box=as_box(self.box))
        store(self, **{name: np.asarray(getattr(self, name)) for name in _ARRAYS})
        if self.noise is None:
            return
        if self.dim is None:
            raise ValueError(
                "dim must be given with noise, got None: sigma may depend on the number of "
                "coordinates of one input."
            )
        store(self, noise=check_noise(self.noise, self.dim))
        self._check_box()

    def __repr__(self) -> str:
        return (
            f"CertificationLog(n={len(self)}, noise={self.noise}, "
            f"norm={format_norm(self.norm)}{self._within}, "
            f"abstained={int(self.abstained.sum())})"
        )

    def __str__(self) -> str:
        known = "" if self.noise is None else f" under {self.noise}"
        box = None if self.box is None else self.box.interval
        lines = [
            f"{len(self)} inputs{known}, as a log states them",
            *wrap(guarantee_of_log(self.norm, box), _WIDTH),
        ]
        if len(self):
            median, largest = np.median(self.radii), self.radii.max()
            lines += [
                f"abstained: {int(self.abstained.sum())} of {len(self)}",
                f"{format_norm(self.norm)} radius: median {format_radius(median, 3)}, "
                f"largest {format_radius(largest, 3)}",
            ]
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
        rows = {number: row for row, number in enumerate(self.index.tolist())}
        wanted = np.ravel(np.asarray(idx)).tolist()
        missing = [number for number in wanted if number not in rows]
        if missing:
            raise ValueError(
                f"idx must be numbers of images of the log, got {len(missing)} others, "
                f"{missing[0]} to begin with."
            )
        return self[np.array([rows[number] for number in wanted], dtype=np.int64)]

    def to_tsv(self, path: str | os.PathLike[str]) -> None:
        """Write the log; radii are rounded down to 10 decimals.

        A log that was read writes the radii as it read them. A column `norm` is added to
        those of the format, and `box` where there is one.

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
        correct = (self.labels == self.y_true) & ~self.abstained
        y_true = self.y_true.astype(str).tolist()
        predict = np.where(self.abstained, _ABSTAIN, self.labels.astype(str)).tolist()
        _check_readable(y_true, predict)
        columns = [
            self.index.tolist(), y_true, predict, self._texts(),
            correct.astype(int).tolist(), self.seconds.tolist(),
            [f"{self.norm:g}"] * len(self),
        ]  # fmt: skip
        header = [*_COLUMNS, _NORM]
        if self.box is not None:
            header.append(_BOX)
            columns.append(["{!r} {!r}".format(*self.box.interval)] * len(self))
        write_log(path, header, zip(*columns, strict=True))

    def _texts(self) -> list[str]:
        """Radii as a file has them: as they were read, or rounded down."""
        radii = self.radii.tolist()
        read = [""] * len(self) if self.radius_texts is None else self.radius_texts.tolist()
        return [
            text if text and float(text) == radius else format_radius(radius, _DECIMALS)
            for text, radius in zip(read, radii, strict=True)
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
            Norm of its radii. None: the one that the file states or, where it states none,
            the noise's own; without a noise 2, as in Cohen et al.'s logs.

        dim : int, default=None
            Number of coordinates of one input, for conversion to larger norms.

        noise : Noise, default=None
            Noise of the votes, for tables and figures that compare noises; it needs `dim`.
            The radii stay those of the file.

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
            If a radius is negative: it certifies nothing, and the image counts as an
            abstention.
        """
        file = read_log(path, _COLUMNS)
        index = file.image_numbers()
        y_true, labels = parse_labels(file.columns["label"], file.columns["predict"])
        abstained = np.array(
            [is_abstention(p) for p in file.columns["predict"]], dtype=bool
        )
        _check_names(file)
        file.check_correct((y_true == labels) & ~abstained)
        radii, below = _radii(file, abstained)
        return cls(
            index=index,
            y_true=y_true,
            labels=np.where(below, np.array(-1).astype(labels.dtype), labels),
            radii=radii,
            abstained=abstained | below,
            seconds=file.seconds(),
            norm=_norm(file, norm, noise),
            dim=dim,
            noise=noise,
            box=_box(file),
            radius_texts=np.array(file.columns["radius"], dtype=np.str_),
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
    held = [set(log.index.tolist()) for log in logs]
    common = [number for number in logs[0].index.tolist() if all(number in h for h in held)]
    if not common:
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
    """Log of a certification, whose time is shared evenly among its inputs."""
    labels, y_true = certification.labels, np.asarray(y_true)
    if y_true.shape != labels.shape:
        raise ValueError(
            f"y_true must have shape {labels.shape}, one label for every certified "
            f"input, got {y_true.shape}."
        )
    y_true = y_true.astype(labels.dtype) if labels.dtype.kind == "f" else y_true
    if _ABSTAIN in labels.astype(str) or _ABSTAIN in y_true.astype(str):
        raise ValueError(
            "The label -1 means abstention in this format, got it as a class. Encode the "
            "labels otherwise, for example by sklearn.preprocessing.LabelEncoder."
        )
    n, box = len(labels), certification.box
    return CertificationLog(
        index=np.arange(n),
        y_true=y_true,
        labels=labels,
        radii=certification.radius(norm),
        abstained=certification.abstained,
        seconds=np.full(n, certification.seconds / max(n, 1)),
        norm=norm,
        box=None if box is None else box.interval,
    )


def _check_readable(y_true: list[str], predict: list[str]) -> None:
    """Refuse labels that a reader of the format would read as other labels."""
    label, labels = parse_labels([t.strip() for t in y_true], [t.strip() for t in predict])
    read = [*label.astype(str).tolist(), *labels.astype(str).tolist()]
    for written, again in zip([*y_true, *predict], read, strict=True):
        if written != again or not written:
            raise ValueError(
                f"labels must stay what they are in a log, got {written!r}, which is read "
                f"as {again!r}. Encode them by sklearn.preprocessing.LabelEncoder."
            )


def _check_names(file: LogFile) -> None:
    for name in ("label", "predict"):
        if "" in file.columns[name]:
            raise file.error(file.columns[name].index(""), name, "a label")


def _radii(
    file: LogFile, abstained: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Radii, 0 where there is no certificate, and where a label has a negative radius."""
    radii = file.numbers("radius")
    unknown = np.isnan(radii) & ~abstained
    if unknown.any():
        raise file.error(int(unknown.argmax()), "radius", "a number of at least 0")
    below = (radii < 0.0) & ~abstained
    if below.any():
        warn_user(
            f"{file.name} has {int(below.sum())} negative radii, in line "
            f"{file.lines[int(below.argmax())]} to begin with: nothing is certified there, "
            "and these images count as abstentions."
        )
    return np.where(abstained | below, 0.0, radii), below


def _norm(file: LogFile, given: float | None, noise: Noise | None) -> float:
    text = file.stated(_NORM)
    if text is None:
        usual = 2 if noise is None else noise.norms[0]
        return check_norm(usual if given is None else given)
    stated = check_norm(_numbers(file, _NORM, "1, 2 or inf", 1)[0])
    if given is not None and check_norm(given) != stated:
        raise ValueError(
            f"norm must be that of {file.name}, {stated:g}, or None, got {given!r}: "
            "radius(norm=...) of the log converts."
        )
    return stated


def _box(file: LogFile) -> tuple[float, ...] | None:
    text = file.stated(_BOX)
    return None if text is None else _numbers(file, _BOX, "two numbers", 2)


def _numbers(file: LogFile, name: str, wanted: str, n: int) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, file.columns[name][0].split()))
    except ValueError:
        numbers = ()
    if len(numbers) != n:
        raise file.error(0, name, wanted)
    return numbers
