"""Tab-separated logs as text: their lines, and errors that name the wrong field."""

import bz2
import csv
import gzip
import io
import lzma
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rs4a.utils.files import whole_file

#: Columns that a log must have, each once.
_COLUMNS = ["idx", "label", "predict", "radius", "correct", "time"]
_MODULES: dict[str, Any] = {".gz": gzip, ".bz2": bz2, ".xz": lzma}
#: Whole numbers as Python writes them, short enough for int64.
_WHOLE = r"(?:0|-?[1-9][0-9]{0,17})"
#: The same as pandas writes them in a column with a missing number.
_WHOLE_AS_FLOAT = rf"{_WHOLE}(?:\.0*)?"
_NUMBER = r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf|infinity|nan))"
_CORRECT = {"1": True, "true": True, "0": False, "false": False}
#: Characters of a wrong line that an error shows.
_SHOWN = 60


class _LogFile(NamedTuple):
    """Fields of a log, as text without blanks around it.

    Parameters
    ----------
    name : str
        Name of the file.

    texts : pandas.DataFrame of str
        One row per image; the index holds the line numbers.
    """

    name: str
    texts: pd.DataFrame

    def refuse(self, is_bad: ArrayLike, column: str, wanted: str) -> None:
        """Raise an error for the first bad field: its place, its text and a right text."""
        for line, text in self.texts.loc[np.asarray(is_bad, dtype=bool), column].items():
            place = f"{self.name}, line {line}, column {column}"
            raise ValueError(f"{place}: must be {wanted}, got {text!r}.")

    def stated(self, column: str, n: int, wanted: str) -> tuple[float, ...] | None:
        """The n numbers that a column states in all rows; None without the column."""
        if column not in self.texts or self.texts.empty:
            return None
        texts = self.texts[column]
        self.refuse(texts != texts.iloc[0], column, f"{texts.iloc[0]!r} in all lines")
        self.refuse(~texts.str.fullmatch(" +".join([_NUMBER] * n)), column, wanted)
        return tuple(map(float, texts.iloc[0].split()))

    def image_numbers(self) -> NDArray[np.int64]:
        """Column idx: whole numbers, each once."""
        texts = self.texts["idx"]
        whole = "a whole number (delete summaries and second headers)"
        self.refuse(~texts.str.fullmatch(_WHOLE_AS_FLOAT), "idx", whole)
        numbers = _to_int(texts)
        self.refuse(numbers.duplicated(), "idx", "a number that no line above has")
        return numbers.to_numpy()

    def numbers(self, column: str) -> NDArray[np.float64]:
        """A column of numbers."""
        texts = self.texts[column]
        self.refuse(~texts.str.fullmatch(_NUMBER), column, "a number")
        return np.array(texts.tolist(), dtype=object).astype(np.float64)

    def seconds(self) -> NDArray[np.float64]:
        """Column time: seconds, or h:mm:ss as Python prints a timedelta."""
        texts = self.texts["time"]
        if not texts.str.contains(":").any():
            return self.numbers("time")
        times = pd.to_timedelta(texts, errors="coerce")
        self.refuse(times.isna(), "time", "h:mm:ss, as in other lines")
        return np.asarray(times.dt.total_seconds(), dtype=np.float64)

    def check_correct(self, is_correct: NDArray[np.bool_]) -> None:
        """Refuse a column correct that contradicts the labels."""
        texts = self.texts["correct"].str.lower().str.removesuffix(".0")
        stated = texts.map(_CORRECT)
        self.refuse(stated.isna(), "correct", "1 or 0")
        self.refuse(stated != is_correct, "correct", "1 if predict is label, else 0")


def _to_int(texts: pd.Series) -> pd.Series:
    return texts.str.replace(r"\.0*$", "", regex=True).astype(np.int64)


def read_log(path: str | os.PathLike[str]) -> _LogFile:
    """Read the lines of a log; refuse lines that are cut off or too long.

    Parameters
    ----------
    path : str or path-like
        Text in UTF-8, compressed where the name ends in .gz, .bz2 or .xz.

    Returns
    -------
    log : _LogFile
        Content of the file, without blank lines.

    Raises
    ------
    ValueError
        If the file is not tab-separated UTF-8, lacks a column, or a line is not whole.
    """
    path = Path(path).expanduser()
    try:
        content = path.read_bytes()
        if path.suffix in _MODULES:
            content = _MODULES[path.suffix].decompress(content)
        text = content.decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
        rows = {}
        for row in reader:
            rows[reader.line_num] = [field.strip() for field in row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{path.name} must be tab-separated UTF-8 text: {error}."
        ) from None
    rows = {line: row for line, row in rows.items() if row not in ([], [""])}
    header = rows.pop(next(iter(rows), 0), [])
    missing = [name for name in _COLUMNS if header.count(name) != 1]
    if missing:
        raise ValueError(
            f"{path.name} must have the columns {_COLUMNS}, tab-separated and each once; "
            f"{missing} are missing or twice."
        )
    for line, row in rows.items():
        if len(row) != len(header):
            column = header[min(len(row), len(header) - 1)]
            shown = "\t".join(row)[:_SHOWN]
            raise ValueError(
                f"{path.name}, line {line}, column {column}: a line must have "
                f"{len(header)} fields, got {len(row)}, {shown!r}. Delete the line if it "
                "was cut off or is no result."
            )
    texts = pd.DataFrame(list(rows.values()), index=list(rows), columns=header, dtype=str)
    log = _LogFile(path.name, texts.loc[:, ~texts.columns.duplicated()])
    if not text.endswith(("\n", "\r")) and header[-1] in {*_COLUMNS[:-1], "norm", "box"}:
        # The last field may be cut off.
        is_last = np.arange(len(texts)) == len(texts) - 1
        log.refuse(is_last, header[-1], "followed by the end of its line")
    return log


def write_log(path: str | os.PathLike[str], columns: dict[str, Any]) -> None:
    """Write a log. The file appears whole or not at all.

    Parameters
    ----------
    path : str or path-like
        File to write, compressed where the name ends in .gz, .bz2 or .xz.

    columns : dict of str to array-like
        Columns by name.
    """
    path = Path(path).expanduser()
    frame = pd.DataFrame(columns)
    text = frame.to_csv(sep="\t", index=False, na_rep="nan", lineterminator="\n")
    content = text.encode()
    if path.suffix in _MODULES:
        content = _MODULES[path.suffix].compress(content)
    with whole_file(path) as partial:
        partial.write_bytes(content)


def parse_labels(label: Iterable[str], predict: Iterable[str]) -> tuple[NDArray, NDArray]:
    """True and predicted labels: integers if all texts are, else the texts.

    Names such as "01" stay strings. If one column holds integers, "3.0" in the other
    means 3: pandas turns a column with missing entries into floats.

    Parameters
    ----------
    label, predict : iterable of str
        The columns.

    Returns
    -------
    y_true, labels : ndarray of shape (n,)
        Both int64 or both strings; abstentions are -1 or "-1".
    """
    y_true, labels = pd.Series(label, dtype=str), pd.Series(predict, dtype=str)
    labels = labels.str.replace(r"^-1(\.0*)?$", "-1", regex=True)
    answers = labels[labels != "-1"]
    as_float = [each.str.fullmatch(_WHOLE_AS_FLOAT).all() for each in (y_true, labels)]
    if all(as_float):
        whole = [each.str.fullmatch(_WHOLE).all() for each in (y_true, answers)]
        if whole[0] or (whole[1] and len(answers)):
            return _to_int(y_true).to_numpy(), _to_int(labels).to_numpy()
    return y_true.to_numpy(dtype=np.str_), labels.to_numpy(dtype=np.str_)
