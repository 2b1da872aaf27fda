"""Tab-separated logs as text: their lines, and errors that name the wrong field."""

import bz2
import csv
import gzip
import io
import lzma
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs4a.utils.files import whole_file

__all__ = ["LogFile", "is_abstention", "parse_labels", "read_log", "write_log"]

_OPENERS: dict[str, Callable[..., IO[str]]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
#: Whole numbers as Python writes them, short enough for int64.
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
#: The same as pandas writes them where a number is missing.
_WHOLE_AS_FLOAT = re.compile(rf"({_WHOLE.pattern})(\.0*)?")
_ABSTENTION = re.compile(r"-1(\.0*)?")
_CORRECT = {"1": True, "true": True, "0": False, "false": False}
#: Characters of a wrong line that an error shows.
_SHOWN = 60


class LogFile(NamedTuple):
    """Columns of a log, as text without blanks around it, and the place of every row.

    Parameters
    ----------
    name : str
        Name of the file.

    lines : list of int
        Line number of every row.

    columns : dict of str to list of str
        Fields of every column.
    """

    name: str
    lines: list[int]
    columns: dict[str, list[str]]

    def error(self, row: int, column: str, wanted: str) -> ValueError:
        """Error that names the place of a field, its text and a right one."""
        return ValueError(
            f"{self.name}, line {self.lines[row]}, column {column}: must be {wanted}, got "
            f"{self.columns[column][row]!r}."
        )

    def stated(self, column: str) -> str | None:
        """The one text of a column that states the same in all rows; None without one."""
        values = self.columns.get(column, [])
        for row, value in enumerate(values):
            if value != values[0]:
                raise ValueError(
                    f"{self.name}, line {self.lines[row]}, column {column}: a log must "
                    f"state one {column}, got {[values[0], value]}. Split the file."
                )
        return values[0] if values else None

    def image_numbers(self) -> NDArray[np.int64]:
        """Column idx: whole numbers, each once."""
        numbers, first_rows = [], dict[int, int]()
        for row, text in enumerate(self.columns["idx"]):
            match = _WHOLE_AS_FLOAT.fullmatch(text)
            if match is None:
                raise self.error(
                    row, "idx", "a whole number (delete summaries and second headers)"
                )
            numbers.append(int(match[1]))
            first = first_rows.setdefault(numbers[-1], row)
            if first != row:
                other = f"another image than that of line {self.lines[first]}"
                raise self.error(row, "idx", other)
        return np.array(numbers, dtype=np.int64)

    def numbers(self, column: str) -> NDArray[np.float64]:
        """A column of numbers."""
        numbers = []
        for row, text in enumerate(self.columns[column]):
            try:
                numbers.append(float(text))
            except ValueError:
                raise self.error(row, column, "a number") from None
        return np.array(numbers, dtype=np.float64)

    def seconds(self) -> NDArray[np.float64]:
        """Column time: seconds, or h:mm:ss as Python prints a timedelta."""
        if not any(":" in text for text in self.columns["time"]):
            return self.numbers("time")
        times = pd.to_timedelta(pd.Series(self.columns["time"]), errors="coerce")
        if times.isna().any():
            raise self.error(int(times.isna().argmax()), "time", "h:mm:ss, as others are")
        return np.asarray(times.dt.total_seconds(), dtype=np.float64)

    def check_correct(self, is_correct: NDArray[np.bool_]) -> None:
        """Refuse a column correct that contradicts the labels."""
        for row, text in enumerate(self.columns["correct"]):
            stated = _CORRECT.get(text.lower().removesuffix(".0"))
            if stated is None:
                raise self.error(row, "correct", "1 or 0")
            if stated != is_correct[row]:
                label, predict = (self.columns[name][row] for name in ("label", "predict"))
                raise self.error(
                    row,
                    "correct",
                    f"{int(is_correct[row])} where label is {label} and predict {predict}",
                )


def read_log(path: str | os.PathLike[str], needed: Sequence[str]) -> LogFile:
    """Read the lines of a log; refuse those that are cut off or too long.

    Parameters
    ----------
    path : str or path-like
        Text in UTF-8, compressed where the name ends in .gz, .bz2 or .xz.

    needed : sequence of str
        Columns that the file must have, each once. A file may end without a line end
        only after the last of them: any other last field may have been cut off.

    Returns
    -------
    log : LogFile
        Content of the file, without blank lines.

    Raises
    ------
    ValueError
        If the file is not tab-separated UTF-8, lacks a column, or a line is not whole.
    """
    path = Path(path).expanduser()
    try:
        with _open(path, "rt") as file:
            text = file.read()
        reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
        rows = [(reader.line_num, [field.strip() for field in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{path.name} must be tab-separated UTF-8 text: {error}."
        ) from None
    rows = [(line, row) for line, row in rows if row not in ([], [""])]
    header = rows[0][1] if rows else []
    missing = [name for name in needed if header.count(name) != 1]
    if missing:
        raise ValueError(
            f"{path.name} must have the columns {list(needed)}, tab-separated and each "
            f"once; {missing} are missing or twice."
        )
    for line, row in rows[1:]:
        _check_length(f"{path.name}, line {line}", row, header)
    columns = {name: [row[header.index(name)] for _, row in rows[1:]] for name in header}
    log = LogFile(path.name, [line for line, _ in rows[1:]], columns)
    if log.lines and not text.endswith(("\n", "\r")):
        _check_end(log, header[-1], needed)
    return log


def write_log(
    path: str | os.PathLike[str], header: list[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Write a log. The file appears whole or not at all.

    Parameters
    ----------
    path : str or path-like
        File to write, compressed where the name ends in .gz, .bz2 or .xz.

    header : list of str
        Names of the columns.

    rows : iterable of sequence
        Fields of every row.
    """
    path = Path(path).expanduser()
    with whole_file(path) as partial, _open(path, "wt", partial) as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def is_abstention(text: str) -> bool:
    """Whether a predicted label means that the classifier abstained.

    Parameters
    ----------
    text : str
        Field of the column predict.

    Returns
    -------
    abstained : bool
        Whether it is -1, as a whole number or a float.
    """
    return _ABSTENTION.fullmatch(text.strip()) is not None


def parse_labels(label: Sequence[str], predict: Sequence[str]) -> tuple[NDArray, NDArray]:
    """True and predicted labels: integers if all texts are, else the texts.

    Names such as "01" stay strings. If one column holds integers, "3.0" in the other
    means 3: pandas turns a column with missing entries into floats.

    Parameters
    ----------
    label, predict : sequence of str
        The columns.

    Returns
    -------
    y_true, labels : ndarray of shape (n,)
        Both int64 or both strings; abstentions are -1 or "-1".
    """
    predict = ["-1" if is_abstention(text) else text for text in predict]
    answers = [text for text in predict if text != "-1"]
    if _are_whole(label) or (answers and _are_whole(answers)):
        matches = [
            [_WHOLE_AS_FLOAT.fullmatch(text) for text in column]
            for column in (label, predict)
        ]
        if all(None not in column for column in matches):
            y_true, labels = (
                np.array([int(match[1]) for match in column if match], dtype=np.int64)
                for column in matches
            )
            return y_true, labels
    return np.array(label, dtype=np.str_), np.array(predict, dtype=np.str_)


def _are_whole(texts: Iterable[str]) -> bool:
    return all(map(_WHOLE.fullmatch, texts))


def _open(path: Path, mode: str, place: Path | None = None) -> IO[str]:
    """Open text, compressed as the name of `path` says; `place` is the file itself."""
    opener = _OPENERS.get(path.suffix, open)
    encoding = "utf-8-sig" if mode == "rt" else "utf-8"
    return opener(place or path, mode, encoding=encoding, newline="")


def _check_length(where: str, row: list[str], header: list[str]) -> None:
    if len(row) == len(header):
        return
    text = "\t".join(row)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    if len(row) < len(header):
        raise ValueError(
            f"{where}, column {header[len(row)]}: missing, got {shown!r}. Delete the line "
            "if it was cut off or is no result."
        )
    raise ValueError(
        f"{where}, after column {header[-1]}: must end there, got {len(row)} fields for "
        f"{len(header)} columns, {shown!r}."
    )


def _check_end(log: LogFile, last: str, needed: Sequence[str]) -> None:
    """Refuse a last field that may be cut off, but in columns that are not read."""
    if last in {*needed[:-1], "norm", "box"}:
        raise log.error(len(log.lines) - 1, last, "followed by the end of its line")
