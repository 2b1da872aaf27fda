"""A certification in a few lines of text."""

from __future__ import annotations

import math
from collections.abc import Callable
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rs4a.inputs.arrays import as_array
from rs4a.metrics.predictions import (
    certified_hits,
    input_weights,
    mean_over_inputs,
    rows_by_class,
)
from rs4a.metrics.scorers import warn_of_one_answer
from rs4a.metrics.scores import certified_accuracy_interval
from rs4a.records.guarantee import guarantee_in_words, spread_in_words
from rs4a.utils.checks import check_norm, format_norm

_WIDTH = 84
#: Radii at which accuracy is stated if the caller gives none.
_N_RADII = 5
#: Classes that have a row of their own.
_N_CLASSES = 20


def summarize(
    certification: Any,
    y_true: ArrayLike | None,
    radii: ArrayLike | None,
    norm: float | None,
    sample_weight: ArrayLike | None,
    average: str,
) -> str:
    """Words of a record, as :meth:`rs4a.Certification.summary` describes them.

    Parameters
    ----------
    certification : Certification
        The record.

    y_true, radii, norm, sample_weight, average : object
        As in the method.

    Returns
    -------
    summary : str
        Some lines.
    """
    for name, value in (("radii", radii), ("sample_weight", sample_weight)):
        if y_true is None and value is not None:
            raise ValueError(f"{name} must be None without y_true, got {value!r}.")
    norm = certification.norm if norm is None else check_norm(norm)
    assert norm is not None
    box = certification.box and certification.box.interval
    guarantee = guarantee_in_words(
        certification.noise, alpha=certification.alpha, norm=norm, box=box
    )
    lines = [
        f"{len(certification)} inputs under {certification.noise}",
        *wrap(guarantee, _WIDTH),
        *map("No certificate holds: {}.".format, certification.report.get("warned", [])),
    ]
    if len(certification):
        lines += [
            f"estimation votes: {_votes(certification)}",
            *spread_in_words(certification, norm),
        ]
    if y_true is not None:
        lines += _accuracies(certification, y_true, radii, norm, sample_weight, average)
        warn_of_one_answer(certification, as_array(y_true))
    return "\n".join(lines)


def _percent(share: float, to_whole: Callable[[float], int] = math.floor) -> str:
    """A share in tenths of a percent; an accuracy is rounded down."""
    return f"{to_whole(round(1000.0 * share, 6)) / 10.0:.1f}%"


def _votes(certification: Any) -> str:
    """Number of votes, and their time if it is known."""
    n_votes = certification.n_votes
    low, high = int(n_votes.min()), int(n_votes.max())
    each = f"{low}" if low == high else f"{low} to {high}"
    seconds = f", in {certification.seconds:.3g} s" if certification.seconds else ""
    return f"{int(n_votes.sum())}, {each} per input{seconds}"


def _accuracies(
    certification: Any,
    y_true: ArrayLike,
    radii: ArrayLike | None,
    norm: float,
    sample_weight: ArrayLike | None,
    average: str,
) -> list[str]:
    """Certified accuracy at every radius, then a table of the classes."""
    where = np.ravel(_round_radii(certification.radius(norm)) if radii is None else radii)
    y, hits = certified_hits(y_true, certification, where, norm)
    texts = list(map(_percent, mean_over_inputs(hits, y, sample_weight, average)))
    title = "weighted, without an interval"
    if sample_weight is None:
        title = "with its 95% interval over inputs"
        ends = certified_accuracy_interval(
            y_true, certification, radius=where, norm=norm, average=average
        )
        texts = [
            f"{text} ({_percent(low)} to {_percent(high, math.ceil)})"
            for text, low, high in zip(texts, *ends, strict=True)
        ]
    over_classes = "mean over classes, " if average == "macro" else ""
    names = [str(radius).removesuffix(".0") for radius in where.tolist()]
    label = f"{format_norm(norm)} radius"
    return [
        f"certified accuracy, {over_classes}{title}:",
        *(f"  {label} {name}: {text}" for name, text in zip(names, texts, strict=True)),
        *_classes(y, hits, input_weights(sample_weight, len(y)), label, names),
    ]


def _classes(
    y: NDArray, hits: NDArray, weights: NDArray, label: str, names: list[str]
) -> list[str]:
    """One row per class, or for the lowest accuracies; none for a single class."""
    groups = {name: rows for name, rows in rows_by_class(y).items() if weights[rows].any()}
    if len(groups) < 2:
        return []
    scores = np.stack(
        [mean_over_inputs(hits[:, at], y[at], weights[at]) for at in groups.values()]
    )
    lowest = np.sort(np.argsort(scores.mean(axis=1), kind="stable")[:_N_CLASSES])
    table = pd.DataFrame(scores, columns=names).map(_percent)
    table.insert(0, "inputs", list(map(len, groups.values())))
    table.insert(0, "class", list(groups))
    some = "each class"
    if len(groups) > _N_CLASSES:
        some = f"{_N_CLASSES} of {len(groups)} classes, the lowest"
    rows = table.iloc[lowest].to_string(index=False).splitlines()
    return [f"certified accuracy of {some}, by {label}:", *map("  {}".format, rows)]


def _round_radii(radius: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round numbers from 0 to near the largest finite radius."""
    largest = float(radius[np.isfinite(radius)].max(initial=0.0))
    if largest == 0.0:
        return np.zeros(1)
    step = largest / (_N_RADII - 1)
    unit = 10.0 ** np.floor(np.log10(step))
    step = np.floor(step / unit) * unit
    return np.round(step * np.arange(_N_RADII), 12)
