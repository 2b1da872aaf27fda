"""Scores of a certification against the true labels."""

from __future__ import annotations

from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import column_or_1d
from statsmodels.stats.proportion import proportion_confint

from rs4a.inputs.arrays import as_array
from rs4a.metrics.averages import (
    check_average,
    check_sample_weight,
    mean_over_inputs,
    rows_by_class,
)
from rs4a.utils.checks import check_in_range

__all__ = [
    "CertifiedPredictions",
    "abstention_rate",
    "average_certified_radius",
    "binomial_interval",
    "certified_accuracy_interval",
    "certified_accuracy_score",
    "certified_hits",
    "check_certified",
    "check_confidence",
    "comparable_labels",
]


class CertifiedPredictions(Protocol):
    """What a score needs: a `Certification` or a `CertificationLog`."""

    @property
    def labels(self) -> NDArray:
        """Predicted labels, (n,)."""

    @property
    def abstained(self) -> NDArray[np.bool_]:
        """Where there is no certificate, (n,)."""

    def radius(self, norm: float | None = None) -> NDArray[np.float64]:
        """Certified radii, (n,)."""


@overload
def certified_accuracy_score(
    y_true: ArrayLike,
    certification: CertifiedPredictions,
    *,
    radius: float,
    norm: float | None = None,
    sample_weight: ArrayLike | None = None,
    average: str = "micro",
) -> float: ...


@overload
def certified_accuracy_score(
    y_true: ArrayLike,
    certification: CertifiedPredictions,
    *,
    radius: list[float] | tuple[float, ...] | NDArray,
    norm: float | None = None,
    sample_weight: ArrayLike | None = None,
    average: str = "micro",
) -> NDArray[np.float64]: ...


def certified_accuracy_score(
    y_true: ArrayLike,
    certification: CertifiedPredictions,
    *,
    radius: Any,
    norm: float | None = None,
    sample_weight: ArrayLike | None = None,
    average: str = "micro",
) -> Any:
    """Share of inputs that are classified correctly, provably up to a distance.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.

    certification : Certification or CertificationLog
        Certified predictions for the same inputs.

    radius : float or array-like of shape (n_radii,)
        Distance of the adversary, in units of X. At 0: the share of correct labels
        with a certificate.

    norm : {1, 2, inf}, default=None
        Norm of the adversary. None: the certification's own.

    sample_weight : array-like of shape (n,), default=None
        Weights of the inputs, of at least 0. None: all weigh the same.

    average : {"micro", "macro"}, default="micro"
        "micro" is the mean over inputs. "macro" is the mean over the classes of `y_true`
        of each class's own score: rare classes count as much as frequent ones. A class
        without an input of positive weight is left out.

    Returns
    -------
    score : float or ndarray of shape (n_radii,), float64
        Certified accuracy at every radius; an abstention counts as an error.

    Raises
    ------
    ValueError
        If the lengths differ, a radius is negative or NaN, or `sample_weight` or `average`
        is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> from rs4a import Certification
    >>> from rs4a.metrics import certified_accuracy_score
    >>> from rs4a.noises import Uniform
    >>> votes = np.array([[1000, 0], [900, 100], [520, 480], [100, 900]])
    >>> certification = Certification(
    ...     np.array([0, 1]), votes // 10, votes, Uniform(lambd=1.0), dim=64
    ... )
    >>> certified_accuracy_score([0, 0, 0, 0], certification, radius=[0.5, 0.9])
    array([0.5 , 0.25])
    >>> certified_accuracy_score([0, 0, 0, 1], certification, radius=0.5, average="macro")
    0.8333333333333333
    """
    check_average(average)
    y, hits = certified_hits(y_true, certification, radius, norm)
    weights = check_sample_weight(sample_weight, len(y))
    scores = mean_over_inputs(hits, y, weights, average)
    return float(scores) if hits.ndim == 1 else scores


def certified_accuracy_interval(
    y_true: ArrayLike,
    certification: CertifiedPredictions,
    *,
    radius: Any,
    norm: float | None = None,
    confidence: float = 0.95,
    sample_weight: ArrayLike | None = None,
    average: str = "micro",
) -> tuple[Any, Any]:
    """Confidence interval of certified accuracy, as the inputs are a sample of many.

    The exact binomial one of Clopper and Pearson, at every radius by itself. It is about
    the choice of the inputs; that certificates fail with probability `alpha` is another
    matter.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.

    certification : Certification or CertificationLog
        Certified predictions for the same inputs, drawn at random from those that the
        accuracy is to be known of.

    radius : float or array-like of shape (n_radii,)
        Distance of the adversary, in units of X.

    norm : {1, 2, inf}, default=None
        Norm of the adversary. None: the certification's own.

    confidence : float, default=0.95
        Probability with which the interval holds the accuracy, at each radius.

    sample_weight : None, default=None
        Refused: of weighted inputs no such interval is known. It is here to say so.

    average : {"micro", "macro"}, default="micro"
        "macro": interval of the mean over classes, from an interval for each class at
        ``1 - (1 - confidence) / n_classes``, so that all hold at once.

    Returns
    -------
    low, high : float or ndarray of shape (n_radii,), float64
        Ends of the interval.

    Raises
    ------
    ValueError
        If the lengths differ, a radius is negative or NaN, `confidence` is outside
        (0, 1), `average` is not as described, or there are weights.

    References
    ----------
    .. [1] Clopper, Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the
       Case of the Binomial", Biometrika 26 (1934).

    Examples
    --------
    >>> import numpy as np
    >>> from rs4a import Certification
    >>> from rs4a.metrics import certified_accuracy_interval
    >>> from rs4a.noises import Uniform
    >>> certification = Certification.from_counts(
    ...     [[1000, 0]] * 90 + [[0, 1000]] * 10, labels=[0] * 90 + [1] * 10,
    ...     noise=Uniform(lambd=1.0), dim=64,
    ... )
    >>> low, high = certified_accuracy_interval([0] * 100, certification, radius=0.5)
    >>> print(f"0.90 (from {low:.2f} to {high:.2f})")
    0.90 (from 0.82 to 0.95)
    """
    check_average(average)
    check_confidence(confidence)
    if sample_weight is not None:
        raise ValueError(
            "sample_weight must be None: weighted inputs are no binomial sample, and the "
            "interval of Clopper and Pearson does not hold for their accuracy. "
            "certified_accuracy_score takes weights."
        )
    y, hits = certified_hits(y_true, certification, radius, norm)
    rows = [slice(None)] if average == "micro" else list(rows_by_class(y).values())
    each = 1.0 - (1.0 - confidence) / len(rows)
    intervals = [_interval(hits[..., some], each) for some in rows]
    low, high = np.mean(intervals, axis=0)
    return (low, high) if hits.ndim > 1 else (float(low), float(high))


def _interval(hits: NDArray[np.bool_], confidence: float) -> NDArray[np.float64]:
    """Both ends of the intervals of the shares of hits, stacked."""
    ends = binomial_interval(hits.mean(axis=-1), hits.shape[-1], confidence)
    return np.stack(ends)


def binomial_interval(
    shares: ArrayLike, n: int, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact confidence intervals of probabilities, from shares of n trials."""
    check_confidence(confidence)
    hits = np.rint(np.asarray(shares) * n)
    low, high = proportion_confint(hits, n, alpha=1.0 - confidence, method="beta")
    return low, high


def check_confidence(confidence: float | None) -> None:
    """Refuse what is no probability; None stands for no interval at all."""
    if confidence is not None:
        check_in_range("confidence", confidence, 0.0, 1.0, why="a probability")


def average_certified_radius(
    y_true: ArrayLike,
    certification: CertifiedPredictions,
    *,
    norm: float | None = None,
    sample_weight: ArrayLike | None = None,
    average: str = "micro",
) -> float:
    """Mean certified radius, where wrong and abstained inputs count as 0.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.

    certification : Certification or CertificationLog
        Certified predictions for the same inputs.

    norm : {1, 2, inf}, default=None
        Norm of the adversary. None: the certification's own.

    sample_weight : array-like of shape (n,), default=None
        Weights of the inputs, of at least 0. None: all weigh the same.

    average : {"micro", "macro"}, default="micro"
        Mean over inputs, or over classes, as in :func:`certified_accuracy_score`.

    Returns
    -------
    radius : float
        In units of X. Equal to the area under the curve of certified accuracy against
        radius (Zhai et al., "MACER", ICLR 2020).

    Raises
    ------
    ValueError
        If the lengths differ, or `sample_weight` or `average` is not as described.

    Notes
    -----
    Inputs that are easy anyway dominate it [1]_: report the distribution of the
    probability as well, which :class:`PredictionDisplay` draws.

    References
    ----------
    .. [1] Sun et al., "Average Certified Radius is a Poor Metric for Randomized
       Smoothing", 2024, arXiv:2410.06895.
    """
    check_average(average)
    y, correct = _certified_and_correct(y_true, certification)
    weights = check_sample_weight(sample_weight, len(y))
    radii = np.where(correct, certification.radius(norm), 0.0)
    return float(mean_over_inputs(radii, y, weights, average))


def abstention_rate(
    y_true: ArrayLike,
    certification: CertifiedPredictions,
    *,
    sample_weight: ArrayLike | None = None,
    average: str = "micro",
) -> float:
    """Share of inputs without a certificate, whatever their label.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels; they matter to "macro" only. A score has them, so that scorers can
        use it.

    certification : Certification or CertificationLog
        Certified predictions for the same inputs.

    sample_weight : array-like of shape (n,), default=None
        Weights of the inputs, of at least 0. None: all weigh the same.

    average : {"micro", "macro"}, default="micro"
        Mean over inputs, or over classes, as in :func:`certified_accuracy_score`.

    Returns
    -------
    rate : float
        In [0, 1].

    Raises
    ------
    ValueError
        If `sample_weight` or `average` is not as described, or under "macro" the lengths
        differ.
    """
    check_certified(certification)
    check_average(average)
    abstained = certification.abstained
    weights = check_sample_weight(sample_weight, len(abstained))
    y = certification.labels if average == "micro" else _labels(y_true, certification)
    return float(mean_over_inputs(abstained, y, weights, average))


def check_certified(certification: Any) -> None:
    """Refuse labels in the place of a record, and records without inputs."""
    if not (hasattr(certification, "radius") and hasattr(certification, "abstained")):
        raise TypeError(
            "certification must be a Certification, a BoundRecord or a CertificationLog, "
            f"got {type(certification).__name__}. Scores take (y_true, certification)."
        )
    if not len(certification.labels):
        raise ValueError("certification must hold at least one input, got none.")


def _labels(y_true: ArrayLike, certification: CertifiedPredictions) -> NDArray:
    check_certified(certification)
    labels = certification.labels
    return comparable_labels("y_true", y_true, labels, len(labels))


def _certified_and_correct(
    y_true: ArrayLike, certification: CertifiedPredictions
) -> tuple[NDArray, NDArray[np.bool_]]:
    """True labels, and where there is a certificate for them."""
    y = _labels(y_true, certification)
    return y, (y == certification.labels) & ~certification.abstained


def certified_hits(
    y_true: ArrayLike, certification: CertifiedPredictions, radius: Any, norm: float | None
) -> tuple[NDArray, NDArray[np.bool_]]:
    """True labels, and where they are certified at every radius, (..., n)."""
    radii = np.asarray(radius, dtype=np.float64)
    if not (radii >= 0.0).all():
        raise ValueError(f"radius must be at least 0, got {radius!r}.")
    y, correct = _certified_and_correct(y_true, certification)
    return y, correct & (certification.radius(norm) >= radii[..., np.newaxis])


def comparable_labels(name: str, y: ArrayLike, known: NDArray, n: int) -> NDArray:
    """Return true labels that can be compared with known ones, one for each of n inputs."""
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
