"""Certification logs in the field's tab-separated format (Cohen et al. 2019)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from rs4a.noises import Noise
from rs4a.radii import conversion_factor, round_down
from rs4a.records.box import Box, as_box
from rs4a.records.guarantee import guarantee_of_log
from rs4a.records.log_files import LogFile, is_abstention, parse_labels, read_log, write_log
from rs4a.utils.arrays import check_rows
from rs4a.utils.checks import check_norm, format_norm
from rs4a.utils.rounding import format_radius
from rs4a.utils.user_warnings import warn_user

__all__ = ["CertificationLog", "common_images"]

_COLUMNS = ["idx", "label", "predict", "radius", "correct", "time"]
#: Columns that this library adds, without which radii would be taken for others.
_NORM, _BOX = "norm", "box"
_ABSTAIN = "-1"
_ARRAYS = ("index", "y_true", "labels", "radii", "abstained", "seconds")
_WIDTH = 84
#: Digits of a radius after the point.
_DECIMALS = 10


@dataclass(frozen=True, eq=False, repr=False)
class CertificationLog:
    """Labels and radii as a log states them: the votes behind them are not known.

    It answers `labels`, `abstained` and `radius(norm)` as a
    :class:`~rs4a.Certification` does, so that the metrics and displays take either.

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
        Noise of the votes. The format does not state it; tables and figures that
        compare noises need it, and `dim` with it. The radii do not come from it.

    box : tuple of two floats or rs4a.records.box.Box, default=None
        Smallest and largest value of a coordinate, where the radii hold for attacks that
        stay between them. Kept as a `Box`.

    radius_texts : ndarray of shape (n,), str, default=None
        Radii as a file writes them, for `to_tsv` to write the same. A text that does not
        mean the radius is not used.

    Raises
    ------
    ValueError
        If there is a noise without its scale, without `dim`, or without radii in a box
        where there is one.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", as_box(self.box))  # frozen for everybody else
        if self.noise is None:
            return
        if self.dim is None:
            raise ValueError(
                "dim must be given with noise, got None: sigma may depend on the number of "
                "coordinates of one input."
            )
        self.noise.scale(self.dim)  # refuses a noise without a scale
        if self.box is not None:
            self.noise.check_box_radius()
        object.__setattr__(self, "noise", clone(self.noise))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        box = "" if self.box is None else f", box={self.box}"
        return (
            f"CertificationLog(n={len(self)}, noise={self.noise}, "
            f"norm={format_norm(self.norm)}{box}, abstained={int(self.abstained.sum())})"
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

    def __getitem__(self, rows: Any) -> "CertificationLog":
        """Log of some of the images: a slice, a mask, positions, or a single one."""
        at = check_rows(rows, len(self))
        arrays: dict[str, Any] = {
            name: np.asarray(getattr(self, name))[at] for name in _ARRAYS
        }
        texts = None if self.radius_texts is None else self.radius_texts[at]
        box = self.box and self.box.of(at)
        return replace(self, **arrays, radius_texts=texts, box=box)

    def restrict(self, idx: ArrayLike) -> "CertificationLog":
        """Log of the images with these numbers, in their order.

        Parameters
        ----------
        idx : array-like of shape (m,), int
            Numbers of images, as `index` has them.

        Returns
        -------
        log : CertificationLog
            The images that were asked for.

        Raises
        ------
        ValueError
            If the log does not have one of them.
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

    def radius(self, norm: float | None = None) -> NDArray[np.float64]:
        """Certified radius of every input.

        Parameters
        ----------
        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: the norm of the log.

        Returns
        -------
        radius : ndarray of shape (n,), float64
            As stated in the log, or soundly converted from it.

        Raises
        ------
        ValueError
            If the conversion needs `dim` and the log was read without it.
        """
        norm = self.norm if norm is None else check_norm(norm)
        if norm <= self.norm:
            return self.radii.copy()
        if self.dim is None:
            raise ValueError(
                f"dim is needed to convert radii from {format_norm(self.norm)} to "
                f"{format_norm(norm)}, got None: read the log with dim=, the number of "
                "coordinates of one input."
            )
        return round_down(self.radii * conversion_factor(self.norm, norm, self.dim))

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
            If an image is there twice, or a label would be read as another one.
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
    ) -> "CertificationLog":
        """Read a log in the field's format.

        Parameters
        ----------
        path : str or path-like
            Tab-separated file with the columns idx, label, predict, radius, correct and
            time; predict is -1 where the classifier abstained; time is in seconds or as
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
            where all are, else the names that the file has. A last line without its end is
            taken if all its columns are there.

        Raises
        ------
        ValueError
            If a column is missing, a line is cut off, a field is not of its kind, `correct`
            contradicts the labels, an image is there twice, the file states another norm,
            or there is a noise without its scale, or without `dim`. File, line and column
            are named.

        Warns
        -----
        CertificationWarning
            If a radius is negative: nothing is certified there, and the image counts as an
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
        If there is no log, no common image, or their true labels differ: then one number
        means two images.

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


def make_log(
    y_true: ArrayLike,
    labels: NDArray,
    radii: NDArray[np.float64],
    abstained: NDArray[np.bool_],
    seconds: float,
    norm: float,
    box: Box | None,
) -> CertificationLog:
    """Log of a whole run, whose time is shared evenly among its inputs."""
    y_true = np.asarray(y_true)
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
    each = np.full(len(labels), seconds / max(len(labels), 1))
    index = np.arange(len(labels))
    interval = None if box is None else box.interval
    return CertificationLog(
        index, y_true, labels, radii, abstained, each, norm, box=interval
    )


def _check_readable(y_true: list[str], predict: list[str]) -> None:
    """Refuse names that a reader of the format would take for others."""
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
    """Radii, and where a label has a negative one; no radius where there is a doubt."""
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
