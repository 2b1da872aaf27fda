"""Scores of a certification against the true labels, and joint statements about inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rs4a.metrics.predictions import (
    CertifiedPredictions,
    certified_hits,
    check_average,
    check_certified,
    mean_over_inputs,
    rows_by_class,
    true_labels,
)
from rs4a.utils.checks import check_in_range


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
        Weights of the inputs, of at least 0. None: all have the same weight.

    average : {"micro", "macro"}, default="micro"
        "micro" is the mean over inputs. "macro" is the mean over the classes of `y_true`
        of the score of each class: all classes have the same weight. A class without an
        input of positive weight is left out.

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
    y, hits = certified_hits(y_true, certification, radius, norm)
    scores = mean_over_inputs(hits, y, sample_weight, average)
    return float(scores) if hits.ndim == 1 else scores


def certified_accuracy_interval(
    y_true: ArrayLike,
    certification: CertifiedPredictions,
    *,
    radius: Any,
    norm: float | None = None,
    confidence: float = 0.95,
    average: str = "micro",
) -> tuple[Any, Any]:
    """Confidence interval of certified accuracy, for inputs that are a random sample.

    It is the exact binomial interval of Clopper and Pearson [1]_, at every radius by
    itself. It allows for the choice of the inputs. The probability `alpha` with which
    certificates fail comes on top.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.

    certification : Certification or CertificationLog
        Certified predictions for the same inputs, which are drawn at random from all
        inputs that the statement is about.

    radius : float or array-like of shape (n_radii,)
        Distance of the adversary, in units of X.

    norm : {1, 2, inf}, default=None
        Norm of the adversary. None: the certification's own.

    confidence : float, default=0.95
        Probability with which the interval holds the accuracy, at each radius.

    average : {"micro", "macro"}, default="micro"
        "macro" is the interval of the mean over classes. It is made of an interval for
        each class at ``1 - (1 - confidence) / n_classes``, so that all hold at once.

    Returns
    -------
    low, high : float or ndarray of shape (n_radii,), float64
        Ends of the interval.

    Raises
    ------
    ValueError
        If the lengths differ, a radius is negative or NaN, `confidence` is outside
        (0, 1), or `average` is not as described.

    Notes
    -----
    There is no `sample_weight`: weighted inputs are no binomial sample.

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
    y, hits = certified_hits(y_true, certification, radius, norm)
    rows = [slice(None)] if average == "micro" else list(rows_by_class(y).values())
    each = 1.0 - (1.0 - confidence) / len(rows)
    groups = [hits[..., some] for some in rows]
    ends = [binomial_interval(g.mean(axis=-1), g.shape[-1], each) for g in groups]
    low, high = np.mean(ends, axis=0)
    return (low, high) if hits.ndim > 1 else (float(low), float(high))


def binomial_interval(
    shares: ArrayLike, n: int, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact confidence intervals of probabilities, from shares of n trials."""
    from statsmodels.stats.proportion import proportion_confint  # takes long to import

    check_confidence(confidence)
    hits = np.rint(np.asarray(shares) * n)
    low, high = proportion_confint(hits, n, alpha=1.0 - confidence, method="beta")
    return low, high


def check_confidence(confidence: float | None) -> None:
    """Refuse a number that is no probability; None means that there is no interval."""
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
        Weights of the inputs, of at least 0. None: all have the same weight.

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
    Easy inputs dominate this mean [1]_. Report the distribution of the probability as
    well, which :class:`PredictionDisplay` draws.

    References
    ----------
    .. [1] Sun et al., "Average Certified Radius is a Poor Metric for Randomized
       Smoothing", 2024, arXiv:2410.06895.
    """
    y, correct = certified_hits(y_true, certification)
    radii = np.where(correct, certification.radius(norm), 0.0)
    return float(mean_over_inputs(radii, y, sample_weight, average))


def abstention_rate(
    y_true: ArrayLike,
    certification: CertifiedPredictions,
    *,
    sample_weight: ArrayLike | None = None,
    average: str = "micro",
) -> float:
    """Share of inputs without a certificate, rightly classified or not.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels. Only "macro" uses them; all scores take them, so that scorers can
        use any score.

    certification : Certification or CertificationLog
        Certified predictions for the same inputs.

    sample_weight : array-like of shape (n,), default=None
        Weights of the inputs, of at least 0. None: all have the same weight.

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
    y = certification.labels if average != "macro" else true_labels(y_true, certification)
    return float(mean_over_inputs(certification.abstained, y, sample_weight, average))


def jointly_certified(
    y_true: ArrayLike,
    certification: Any,
    *,
    radius: float,
    norm: float | None = None,
    alpha: float = 0.05,
) -> NDArray[np.bool_]:
    """Mark inputs whose certificates at a radius hold together, by Holm's correction.

    Each certificate may be wrong with probability `certification.alpha`, for each input
    separately. Here all statements together may: with probability at least 1 - `alpha`
    over the noise, the smoothed classifier gives every marked input its label, and
    no change of length below `radius` alters an answer.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels of the statements: the true labels, or ``certification.labels`` for the
        statement that the answers stay the same, right or wrong.

    certification : Certification
        Record of the votes on these inputs.

    radius : float
        Distance of the adversary, in units of X. Choose it, and `norm`, before you see
        the votes.

    norm : {1, 2, inf}, default=None
        Norm of the adversary. None: the certification's own.

    alpha : float, default=0.05
        Probability with which any statement about a marked input may be wrong. The
        certification's own `alpha` is ignored.

    Returns
    -------
    marked : ndarray of shape (n,), bool
        Inputs that the joint statement is about. Of a deterministic record, all inputs
        with a large enough certificate, since its certificates cannot be wrong.

    Raises
    ------
    TypeError
        If the record holds no votes, as a CertificationLog or a BoundRecord.
    ValueError
        If the length of `y_true` differs, `radius` is no single number of at least 0, or
        `alpha` is outside (0, 1).

    Notes
    -----
    The p-value of an input is the smallest alpha at which its votes certify the label at
    the radius. Holm's method [1]_ compares the i-th smallest of n p-values with
    ``alpha / (n - i + 1)``, so the votes are read again at alpha / n, and then, while
    new inputs are marked, at alpha divided by the number of inputs that are left. No
    p-value is approximated: a mark is a certificate at its level.

    The statement holds for all dependences between inputs. It needs a bound that
    falls where alpha falls, as all bounds of rs4a do. It marks at least the inputs that
    are certified at alpha / n, which is Bonferroni's correction. The latter holds for
    all radii at once: use ``certification.recompute(alpha=alpha / n)`` for a curve.

    References
    ----------
    .. [1] Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian
       Journal of Statistics 6, 1979.

    Examples
    --------
    >>> from rs4a import Certification
    >>> from rs4a.metrics import jointly_certified
    >>> from rs4a.noises import Uniform
    >>> certification = Certification.from_counts(
    ...     [[1000, 0], [790, 210], [780, 220], [760, 240]], labels=[0] * 4,
    ...     noise=Uniform(lambd=1.0), dim=64,
    ... )
    >>> jointly_certified([0] * 4, certification, radius=0.5, alpha=0.05)
    array([ True,  True,  True, False])
    """
    check_in_range("alpha", alpha, 0.0, 1.0, why="a probability")
    if np.ndim(radius) != 0:
        raise ValueError(f"radius must be a single number, got {radius!r}.")
    check_certified(certification)
    if not hasattr(certification, "recompute"):
        raise TypeError(
            "certification must be a Certification, whose votes can be read at another "
            f"alpha, got {type(certification).__name__}."
        )
    n = len(certification.labels)
    marked = np.zeros(n, dtype=bool)
    while True:
        n_left = max(n - int(marked.sum()), 1)
        at_level = certification.recompute(alpha=alpha / n_left)
        certified = certified_hits(y_true, at_level, radius, norm)[1]
        if not (certified & ~marked).any():
            return marked
        marked |= certified
