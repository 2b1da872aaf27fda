"""Scores of a certification against the true labels."""

from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import column_or_1d

from rs4a.bounds import ClopperPearson
from rs4a.utils.checks import check_in_range
from rs4a.utils.validation import as_array

__all__ = [
    "CertifiedPredictions",
    "abstention_rate",
    "average_certified_radius",
    "binomial_interval",
    "certified_accuracy_interval",
    "certified_accuracy_score",
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
) -> float: ...


@overload
def certified_accuracy_score(
    y_true: ArrayLike,
    certification: CertifiedPredictions,
    *,
    radius: list[float] | tuple[float, ...] | NDArray,
    norm: float | None = None,
) -> NDArray[np.float64]: ...


def certified_accuracy_score(
    y_true: ArrayLike,
    certification: CertifiedPredictions,
    *,
    radius: Any,
    norm: float | None = None,
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

    Returns
    -------
    score : float or ndarray of shape (n_radii,), float64
        Certified accuracy at every radius; an abstention counts as an error.

    Raises
    ------
    ValueError
        If the lengths differ, or a radius is negative or NaN.

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
    """
    radii = np.asarray(radius, dtype=np.float64)
    if not (radii >= 0.0).all():
        raise ValueError(f"radius must be at least 0, got {radius!r}.")
    correct = _certified_and_correct(y_true, certification)
    certified = certification.radius(norm)
    scores = np.mean(correct & (certified >= radii[..., np.newaxis]), axis=-1)
    return float(scores) if radii.ndim == 0 else scores


def certified_accuracy_interval(
    y_true: ArrayLike,
    certification: CertifiedPredictions,
    *,
    radius: Any,
    norm: float | None = None,
    confidence: float = 0.95,
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

    Returns
    -------
    low, high : float or ndarray of shape (n_radii,), float64
        Ends of the interval.

    Raises
    ------
    ValueError
        If the lengths differ, a radius is negative or NaN, or `confidence` is outside
        (0, 1).

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
    scores = certified_accuracy_score(y_true, certification, radius=radius, norm=norm)
    low, high = binomial_interval(scores, len(certification.labels), confidence)
    return (low, high) if np.ndim(scores) else (float(low), float(high))


def binomial_interval(
    shares: ArrayLike, n: int, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact confidence intervals of probabilities, from shares of n trials."""
    check_confidence(confidence)
    hits, tail = np.rint(np.asarray(shares) * n), (1.0 - confidence) / 2.0
    one_sided = ClopperPearson()
    return one_sided.prob_lower(hits, n, tail), one_sided.prob_upper(hits, n, tail)


def check_confidence(confidence: float | None) -> None:
    """Refuse what is no probability; None stands for no interval at all."""
    if confidence is not None:
        check_in_range("confidence", confidence, 0.0, 1.0, why="a probability")


def average_certified_radius(
    y_true: ArrayLike, certification: CertifiedPredictions, *, norm: float | None = None
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

    Returns
    -------
    radius : float
        In units of X. Equal to the area under the curve of certified accuracy against
        radius (Zhai et al., "MACER", ICLR 2020).

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    correct = _certified_and_correct(y_true, certification)
    return float(np.mean(np.where(correct, certification.radius(norm), 0.0)))


def abstention_rate(y_true: ArrayLike, certification: CertifiedPredictions) -> float:
    """Share of inputs without a certificate, whatever their label.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels; they do not matter. A score has them, so that scorers can use it.

    certification : Certification or CertificationLog
        Certified predictions for the same inputs.

    Returns
    -------
    rate : float
        In [0, 1].
    """
    check_certified(certification)
    return float(np.mean(certification.abstained))


def check_certified(certification: Any) -> None:
    """Refuse labels in the place of a record, and records without inputs."""
    if not (hasattr(certification, "radius") and hasattr(certification, "abstained")):
        raise TypeError(
            "certification must be a Certification, a BoundRecord or a CertificationLog, "
            f"got {type(certification).__name__}. Scores take (y_true, certification)."
        )
    if not len(certification.labels):
        raise ValueError("certification must hold at least one input, got none.")


def _certified_and_correct(
    y_true: ArrayLike, certification: CertifiedPredictions
) -> NDArray[np.bool_]:
    check_certified(certification)
    labels = certification.labels
    y = comparable_labels("y_true", y_true, labels, len(labels))
    return (y == labels) & ~certification.abstained


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
