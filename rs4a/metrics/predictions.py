"""Certified predictions as scores take them: their interface, checks, names and means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import config_context
from sklearn.base import clone
from sklearn.utils.validation import column_or_1d

from rs4a.inputs.arrays import as_array, check_weights
from rs4a.noises import Noise
from rs4a.utils.checks import check_norm


class CertifiedPredictions(Protocol):
    """Interface of a `Certification`, a `BoundRecord` or a `CertificationLog`."""

    @property
    def labels(self) -> NDArray:
        """Predicted labels, (n,)."""

    @property
    def abstained(self) -> NDArray[np.bool_]:
        """Where there is no certificate, (n,)."""

    @property
    def noise(self) -> Any:
        """Smoothing noise; None in a log that was read without a noise."""

    @property
    def dim(self) -> Any:
        """Number of coordinates of one input; None in a log that was read without it."""

    @property
    def norm(self) -> Any:
        """Norm of the adversary where `radius` is given none."""

    @property
    def box(self) -> Any:
        """Box that inputs and attacks lie in, or None."""

    def radius(self, norm: float | None = None) -> NDArray[np.float64]:
        """Certified radii, (n,)."""


#: A certification and the true labels of its inputs.
Result = tuple[CertifiedPredictions, ArrayLike]

_NOT_SHAPE = {"sigma", "lambd", "seed"}


# One certification


def check_certified(certification: Any) -> None:
    """Refuse labels in the place of a record, and records without inputs."""
    if not (hasattr(certification, "radius") and hasattr(certification, "abstained")):
        raise TypeError(
            "certification must be a Certification, a BoundRecord or a CertificationLog, "
            f"got {type(certification).__name__}. Scores take (y_true, certification)."
        )
    if not len(certification.labels):
        raise ValueError("certification must hold at least one input, got none.")


def true_labels(y_true: ArrayLike, certification: CertifiedPredictions) -> NDArray:
    """Return the true labels of the inputs of a record."""
    check_certified(certification)
    labels = certification.labels
    return comparable_labels("y_true", y_true, labels, len(labels))


def comparable_labels(name: str, y: ArrayLike, known: NDArray, n: int) -> NDArray:
    """Return true labels of n inputs that can be compared with known labels."""
    labels = column_or_1d(as_array(y), warn=True)
    if labels.dtype == object:
        labels = np.asarray(labels.tolist())
    if len(labels) and (labels.dtype.kind in "US") != (known.dtype.kind in "US"):
        raise ValueError(
            f"{name} must have labels as the certification has them, such as "
            f"{known[0]!r}, got {labels[0]!r}."
        )
    if len(labels) != n:
        raise ValueError(
            f"{name} must have {n} entries, one for every certified input, got "
            f"{len(labels)}."
        )
    return labels


def certified_hits(
    y_true: ArrayLike,
    certification: CertifiedPredictions,
    radius: Any = 0.0,
    norm: float | None = None,
) -> tuple[NDArray, NDArray[np.bool_]]:
    """True labels, and where they are certified at every radius, (..., n)."""
    radii = np.asarray(radius, dtype=np.float64)
    if not (radii >= 0.0).all():
        raise ValueError(f"radius must be at least 0, got {radius!r}.")
    y = true_labels(y_true, certification)
    correct = (y == certification.labels) & ~certification.abstained
    return y, correct & (certification.radius(norm) >= radii[..., np.newaxis])


# Means over inputs and classes


def check_average(average: Any) -> None:
    """Refuse a value other than "micro" and "macro"."""
    if not (isinstance(average, str) and average in ("micro", "macro")):
        raise ValueError(f"average must be 'micro' or 'macro', got {average!r}.")


def input_weights(sample_weight: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return the weights of n inputs; None means that all weigh the same."""
    weights = np.ones(n) if sample_weight is None else check_weights(sample_weight, n)
    return np.asarray(weights)


def rows_by_class(y_true: NDArray) -> dict[Any, NDArray[np.intp]]:
    """Rows of every label that occurs, sorted by label."""
    return {label: np.flatnonzero(y_true == label) for label in np.unique(y_true).tolist()}


def mean_over_inputs(
    values: NDArray,
    y_true: NDArray,
    sample_weight: ArrayLike | None = None,
    average: str = "micro",
) -> NDArray[np.float64]:
    """Mean of values over their last axis, or the mean over classes of their means.

    Parameters
    ----------
    values : ndarray of shape (..., n)
        Values of the inputs.

    y_true : ndarray of shape (n,)
        True labels; "micro" ignores them.

    sample_weight : array-like of shape (n,), default=None
        Weights of the inputs. None: all have the same weight.

    average : {"micro", "macro"}, default="micro"
        Mean over inputs, or over classes.

    Returns
    -------
    mean : ndarray of shape (...), float64
        "macro" leaves out a class without a positive weight.
    """
    check_average(average)
    n = values.shape[-1]
    weights = input_weights(sample_weight, n)
    weights = weights / weights.max()  # sums stay finite
    groups = [np.arange(n)] if average == "micro" else rows_by_class(y_true).values()
    # An infinite radius without weight would make NaN.
    weighted = [rows[weights[rows] > 0.0] for rows in groups]
    means = [
        (values.take(rows, axis=-1) * weights[rows]).sum(axis=-1) / weights[rows].sum()
        for rows in weighted
        if len(rows)
    ]
    return np.mean(means, axis=0)


# Several certifications


class NamedResult(NamedTuple):
    """A certification, the true labels of its inputs, and the name of its line."""

    name: str
    record: CertifiedPredictions
    y_true: NDArray
    sigma: float


def noise_name(record: CertifiedPredictions | Noise) -> str:
    """Name of a kind of noise: its class and shape, without its scale and seed.

    Parameters
    ----------
    record : Noise, Certification, BoundRecord or CertificationLog
        The noise, or a record that knows its noise.

    Returns
    -------
    name : str
        Name in tables and figures.

    Raises
    ------
    TypeError
        If the record does not know its noise, as a log that was read without it.

    Examples
    --------
    >>> from rs4a.metrics import noise_name
    >>> from rs4a.noises import ExpInf, Uniform
    >>> noise_name(Uniform(sigma=0.5)), noise_name(ExpInf(k=10, lambd=2.0))
    ('Uniform', 'ExpInf(k=10)')
    """
    noise = record if isinstance(record, Noise) else _known_noise(record)
    dropped = _NOT_SHAPE & set(noise.get_params())
    shape = clone(noise).set_params(**dict.fromkeys(dropped))
    box = getattr(record, "box", None)
    with config_context(print_changed_only=True):
        name = repr(shape).removesuffix("()")
    return name if box is None else f"{name} in {list(box.interval)}"


def check_results(
    results: Iterable[Result], names: Sequence[str] | None = None
) -> list[NamedResult]:
    """Return results with their names; refuse results that cannot be compared.

    Parameters
    ----------
    results : iterable of tuple (certification, y_true)
        Certifications, each with the true labels of its inputs.

    names : sequence of str of length n_results, default=None
        Names of their lines. None: the kinds of their noise.

    Returns
    -------
    named : list of NamedResult
        In the same order.

    Raises
    ------
    TypeError
        If a certification does not know its noise.
    ValueError
        If there is none, the inputs are not the same, or there is not a name for each.
    """
    pairs = list(results)
    if not pairs:
        raise ValueError("results must hold at least one certification, got none.")
    if names is None:
        names = [noise_name(record) for record, _ in pairs]
    elif isinstance(names, str) or len(names) != len(pairs):
        raise ValueError(
            f"names must be a list with one for each of the {len(pairs)} results, got "
            f"{names!r}."
        )
    first, *others = named = [
        NamedResult(name, record, true_labels(y, record), _sigma(record))
        for name, (record, y) in zip(names, pairs, strict=True)
    ]
    for other in others:
        if not np.array_equal(first.y_true, other.y_true):
            raise ValueError(
                "results must be of the same inputs, in the same order, to be compared: "
                f"the {len(other.y_true)} true labels of {other.name} at sigma="
                f"{other.sigma:g} are not the {len(first.y_true)} of {first.name} at "
                f"sigma={first.sigma:g}."
            )
    return named


def common_norm(records: Iterable[CertifiedPredictions], norm: float | None) -> float:
    """Return the norm that was given, or else the norm that all records have."""
    records = list(records)
    for each in records:
        check_certified(each)
    if norm is not None:
        return check_norm(norm)
    norms = {each.norm for each in records}
    if len(norms) > 1:
        raise ValueError(
            f"norm must be given: the certifications' own norms differ, {sorted(norms)}."
        )
    return norms.pop()


def _known_noise(record: CertifiedPredictions) -> Noise:
    noise: Noise | None = getattr(record, "noise", None)
    if noise is None:
        raise TypeError(
            "results must be pairs (certification, y_true) whose certification knows its "
            f"noise, got {type(record).__name__} without it. Read a log with noise= and "
            "dim=: Certification.from_tsv(path, noise=Gaussian(sigma=0.25), dim=3072)."
        )
    return noise


def _sigma(record: CertifiedPredictions) -> float:
    """Sigma of the noise, rounded, so that a noise with the same lambd has the same."""
    return float(f"{_known_noise(record).std(record.dim):.10g}")
