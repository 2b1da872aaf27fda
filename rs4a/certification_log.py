"""Certification logs in the field's tab-separated format (Cohen et al. 2019)."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from rs4a.box import Box, as_box
from rs4a.noises import Noise
from rs4a.radii import conversion_factor, round_down
from rs4a.utils.checks import check_norm, format_norm
from rs4a.utils.rounding import format_radius

__all__ = ["CertificationLog"]

_COLUMNS = ["idx", "label", "predict", "radius", "correct", "time"]
#: Columns that this library adds, without which radii would be taken for others.
_NORM, _BOX = "norm", "box"
_ABSTAIN = "-1"
#: Digits of a radius after the point.
_DECIMALS = 10


@dataclass(frozen=True, eq=False)
class CertificationLog:
    """Labels and radii as a log states them: the votes behind them are not known.

    It answers `labels`, `abstained` and `radius(norm)` as a
    :class:`~rs4a.certification.Certification` does, so that the metrics and displays
    take either.

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

    box : tuple of two floats or rs4a.box.Box, default=None
        Smallest and largest value of a coordinate, where the radii hold for attacks that
        stay between them. Kept as a `Box`.

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

        A column `norm` is added to those of the format, and `box` where there is one.

        Parameters
        ----------
        path : str or path-like
            File to write.
        """
        correct = (self.labels == self.y_true) & ~self.abstained
        predict = np.where(self.abstained, _ABSTAIN, self.labels.astype(str))
        radii = [format_radius(radius, _DECIMALS) for radius in self.radii.tolist()]
        columns = [
            self.index, self.y_true, predict, radii, correct.astype(int), self.seconds
        ]  # fmt: skip
        frame = pd.DataFrame(dict(zip(_COLUMNS, columns, strict=True)))
        frame[_NORM] = f"{self.norm:g}"
        if self.box is not None:
            frame[_BOX] = "{!r} {!r}".format(*self.box.interval)
        frame.to_csv(path, sep="\t", index=False)

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
            Radii as written, but 0 where the classifier abstained.

        Raises
        ------
        ValueError
            If a column is missing, a radius is negative or not a number, the file states
            another norm, or there is a noise without its scale, or without `dim`.
        """
        frame = pd.read_csv(path, sep="\t", dtype=str, na_filter=False)
        missing = [name for name in _COLUMNS if name not in frame]
        if missing:
            raise ValueError(
                f"{Path(path).name} must have the columns {_COLUMNS}, tab-separated; "
                f"{missing} are missing."
            )
        y_true, labels = _labels(frame)
        abstained = (frame["predict"] == _ABSTAIN).to_numpy(dtype=bool)
        return cls(
            index=frame["idx"].to_numpy(dtype=np.int64),
            y_true=y_true,
            labels=labels,
            radii=np.where(abstained, 0.0, _radii(frame["radius"], path)),
            abstained=abstained,
            seconds=_seconds(frame["time"]),
            norm=_norm(frame, norm, noise, path),
            dim=dim,
            noise=noise,
            box=_box(frame, path),
        )


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


def _labels(frame: pd.DataFrame) -> tuple[NDArray, NDArray]:
    """True and predicted labels: integers if all of both are, else strings."""
    columns = frame["label"], frame["predict"]
    try:
        y_true, labels = (column.to_numpy(dtype=np.int64) for column in columns)
    except ValueError:
        y_true, labels = (column.to_numpy(dtype=np.str_) for column in columns)
    return y_true, labels


def _radii(column: pd.Series, path: str | os.PathLike[str]) -> NDArray[np.float64]:
    radii = column.to_numpy(dtype=np.float64)
    if not (radii >= 0.0).all():
        raise ValueError(
            f"radius in {Path(path).name} must be a number of at least 0, got "
            f"{radii[~(radii >= 0.0)][0]}."
        )
    return radii


def _norm(
    frame: pd.DataFrame,
    given: float | None,
    noise: Noise | None,
    path: str | os.PathLike[str],
) -> float:
    text = _stated(frame, _NORM, path)
    if text is None:
        usual = 2 if noise is None else noise.norms[0]
        return check_norm(usual if given is None else given)
    stated = check_norm(_numbers(text, _NORM, "1, 2 or inf", 1, path)[0])
    if given is not None and check_norm(given) != stated:
        raise ValueError(
            f"norm must be that of {Path(path).name}, {stated:g}, or None, got {given!r}: "
            "radius(norm=...) of the log converts."
        )
    return stated


def _box(frame: pd.DataFrame, path: str | os.PathLike[str]) -> tuple[float, ...] | None:
    text = _stated(frame, _BOX, path)
    return None if text is None else _numbers(text, _BOX, "two numbers", 2, path)


def _numbers(
    text: str, name: str, wanted: str, n: int, path: str | os.PathLike[str]
) -> tuple[float, ...]:
    try:
        numbers = tuple(map(float, text.split()))
    except ValueError:
        numbers = ()
    if len(numbers) != n:
        raise ValueError(
            f"The column {name} of {Path(path).name} must be {wanted}, got {text!r}."
        )
    return numbers


def _stated(frame: pd.DataFrame, name: str, path: str | os.PathLike[str]) -> str | None:
    """What a column says of all rows; None if there is none."""
    values = frame[name].unique().tolist() if name in frame else []
    if len(values) > 1:
        raise ValueError(
            f"{Path(path).name} must state one {name}, got {values}: split it."
        )
    return values[0] if values else None


def _seconds(column: pd.Series) -> NDArray[np.float64]:
    """Times in seconds, or as h:mm:ss as Python prints a timedelta."""
    if column.str.contains(":").any():
        column = pd.to_timedelta(column).dt.total_seconds()
    return column.to_numpy(dtype=np.float64)
