"""Comparison of two classifiers by their certified answers to the same inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from rs4a.metrics.predictions import (
    CertifiedPredictions,
    certified_hits,
    common_norm,
)
from rs4a.utils.checks import check_in_range, format_norm

#: Columns of a table, and their names where it is printed.
_SHOWN = {
    "accuracy_a": "a", "accuracy_b": "b", "difference": "a - b", "low": "low",
    "high": "high", "only_a": "only a", "only_b": "only b", "statistic": "statistic",
    "p_value": "p", "p_adjusted": "adjusted p",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class CertifiedComparison:
    """Certified accuracies of two classifiers on the same inputs, and McNemar's test.

    :func:`compare_certified` makes it. Each field but `norm`, `n_inputs` and
    `confidence` is a number if one radius was given, else an array with an entry for
    each radius.

    Parameters
    ----------
    radius : float or ndarray of shape (n_radii,), float64
        Distance of the adversary, in units of X.

    norm : {1, 2, inf}
        Norm of the adversary.

    n_inputs : int
        Number of inputs.

    accuracy_a, accuracy_b : float or ndarray of shape (n_radii,), float64
        Certified accuracies.

    difference : float or ndarray of shape (n_radii,), float64
        `accuracy_a` less `accuracy_b`.

    low, high : float or ndarray of shape (n_radii,), float64
        Ends of the confidence interval of the difference.

    only_a, only_b : int or ndarray of shape (n_radii,), int64
        Numbers of discordant inputs: only the first record certifies the true label, or
        only the second one.

    statistic : float or ndarray of shape (n_radii,), float64
        Statistic of McNemar's exact test: the smaller one of `only_a` and `only_b`.

    p_value : float or ndarray of shape (n_radii,), float64
        Two-sided p-value of McNemar's exact test, at each radius by itself.

    p_adjusted : float or ndarray of shape (n_radii,), float64
        The same after Holm's correction for the number of radii.

    confidence : float
        Confidence of the interval, at each radius by itself.

    Examples
    --------
    >>> from rs4a import Certification
    >>> from rs4a.metrics import compare_certified
    >>> from rs4a.noises import Uniform
    >>> a, b = (
    ...     Certification.from_counts(
    ...         [[1000, 0]] * n + [[600, 400]] * (100 - n), labels=[0] * 100,
    ...         noise=Uniform(lambd=1.0), dim=64,
    ...     )
    ...     for n in (80, 60)
    ... )
    >>> comparison = compare_certified([0] * 100, a, b, radius=[0.0, 0.5])
    >>> comparison.only_a
    array([ 0, 20])
    >>> print(comparison)
    Certified accuracies of a and b on 100 inputs; 95% interval of a - b at each radius;
    p-values of McNemar's exact test, adjusted by Holm's correction for 2 radii.
     l1 radius     a     b a - b    low  high only a only b       p adjusted p
           0.0 1.000 1.000 0.000 -0.027 0.027      0      0       1          1
           0.5 0.800 0.600 0.200  0.114 0.278     20      0 1.9e-06    3.8e-06
    """

    radius: float | NDArray[np.float64]
    norm: float
    n_inputs: int
    accuracy_a: float | NDArray[np.float64]
    accuracy_b: float | NDArray[np.float64]
    difference: float | NDArray[np.float64]
    low: float | NDArray[np.float64]
    high: float | NDArray[np.float64]
    only_a: int | NDArray[np.int64]
    only_b: int | NDArray[np.int64]
    statistic: float | NDArray[np.float64]
    p_value: float | NDArray[np.float64]
    p_adjusted: float | NDArray[np.float64]
    confidence: float

    def to_frame(self) -> pd.DataFrame:
        """Table with one row per radius.

        Returns
        -------
        frame : pandas.DataFrame of shape (n_radii, 10)
            Columns accuracy_a, accuracy_b, difference, low, high, only_a, only_b,
            statistic, p_value and p_adjusted; the index is the radius.
        """
        columns = {name: np.atleast_1d(getattr(self, name)) for name in _SHOWN}
        index = pd.Index(
            np.atleast_1d(self.radius), name=f"{format_norm(self.norm)} radius"
        )
        return pd.DataFrame(columns, index=index)

    def __str__(self) -> str:
        table = self.to_frame().drop(columns="statistic").rename(columns=_SHOWN)
        digits = dict.fromkeys(["a", "b", "a - b", "low", "high"], "{:.3f}".format)
        digits |= dict.fromkeys(["p", "adjusted p"], "{:.2g}".format)
        radii = f"{len(table)} radii" if len(table) > 1 else "1 radius"
        return (
            f"Certified accuracies of a and b on {self.n_inputs} inputs; "
            f"{100 * self.confidence:g}% interval of a - b at each radius;\n"
            "p-values of McNemar's exact test, adjusted by Holm's correction for "
            f"{radii}.\n{table.reset_index().to_string(index=False, formatters=digits)}"
        )


def compare_certified(
    y_true: ArrayLike,
    a: CertifiedPredictions,
    b: CertifiedPredictions,
    *,
    radius: Any = 0.0,
    norm: float | None = None,
    confidence: float = 0.95,
) -> CertifiedComparison:
    """Test whether two classifiers differ in certified accuracy, on the same inputs.

    McNemar's exact test [1]_ uses the discordant inputs: only one of the two records
    certifies their true label. If both classifiers have the same certified accuracy over
    all inputs of the kind, each record is equally likely to be the one that certifies.
    The test needs fewer inputs than a comparison of two separate intervals.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        True labels.

    a, b : Certification, BoundRecord or CertificationLog
        Certified predictions of the two classifiers for the same inputs in the same
        order. The inputs are a random sample of the inputs that the statement is about.

    radius : float or array-like of shape (n_radii,), default=0.0
        Distance of the adversary, in units of X. Several are tested together.

    norm : {1, 2, inf}, default=None
        Norm of the adversary. None: the records' own, which must be the same.

    confidence : float, default=0.95
        Confidence of the interval of the difference, at each radius by itself.

    Returns
    -------
    comparison : CertifiedComparison
        Accuracies, their difference, numbers of discordant inputs and p-values. `print`
        shows a table.

    Raises
    ------
    ValueError
        If the records are of different inputs, as far as they know them, or of
        different norms and `norm` is None; the length of `y_true` differs; there is no
        radius, or a radius is negative or NaN; `confidence` is outside (0, 1).

    Notes
    -----
    `p_adjusted` has Holm's correction [2]_: the probability that any of the radii with
    ``p_adjusted <= 0.05`` is there by chance is at most 0.05. The test is exact for any
    number of discordant inputs. The interval of the difference, by Bonett and Price
    [3]_, is an approximation: its coverage is near `confidence`, not above it by proof.
    Test and interval allow for the choice of the inputs. The failure probability `alpha`
    of the certificates comes on top.

    References
    ----------
    .. [1] McNemar, "Note on the Sampling Error of the Difference between Correlated
       Proportions or Percentages", Psychometrika 12, 1947.
    .. [2] Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian
       Journal of Statistics 6, 1979.
    .. [3] Bonett, Price, "Adjusted Wald Confidence Interval for a Difference of Binomial
       Proportions Based on Paired Data", Journal of Educational and Behavioral
       Statistics 37, 2012.

    Examples
    --------
    >>> from rs4a import Certification
    >>> from rs4a.metrics import compare_certified
    >>> from rs4a.noises import Uniform
    >>> a, b = (
    ...     Certification.from_counts(
    ...         [[1000, 0]] * n + [[600, 400]] * (100 - n), labels=[0] * 100,
    ...         noise=Uniform(lambd=1.0), dim=64,
    ...     )
    ...     for n in (80, 60)
    ... )
    >>> comparison = compare_certified([0] * 100, a, b, radius=0.5)
    >>> round(comparison.difference, 3), comparison.only_a, comparison.only_b
    (0.2, 20, 0)
    >>> comparison.p_value < 0.001
    True
    """
    from statsmodels.stats.contingency_tables import mcnemar  # takes long to import
    from statsmodels.stats.multitest import multipletests

    check_in_range("confidence", confidence, 0.0, 1.0, why="a probability")
    norm = common_norm([a, b], norm)
    _refuse_other_inputs(a, b)
    radii = np.ravel(np.asarray(radius, dtype=np.float64))
    if not len(radii):
        raise ValueError(f"radius must hold at least one radius, got {radius!r}.")
    hits_a, hits_b = (certified_hits(y_true, each, radii, norm)[1] for each in (a, b))
    n = hits_a.shape[1]
    only_a, only_b = (hits_a & ~hits_b).sum(axis=1), (hits_b & ~hits_a).sum(axis=1)
    tests = [mcnemar([[0, i], [j, 0]]) for i, j in zip(only_a, only_b, strict=True)]
    p_value = np.array([test.pvalue for test in tests])
    low, high = _paired_interval(only_a, only_b, n, confidence)
    fields: dict[str, Any] = {
        "radius": radii,
        "accuracy_a": hits_a.mean(axis=1),
        "accuracy_b": hits_b.mean(axis=1),
        "difference": (only_a - only_b) / n,
        "low": low,
        "high": high,
        "only_a": only_a,
        "only_b": only_b,
        "statistic": np.array([test.statistic for test in tests]),
        "p_value": p_value,
        "p_adjusted": multipletests(p_value, method="holm")[1],
    }
    if np.ndim(radius) == 0:
        fields = {name: column.item() for name, column in fields.items()}
    return CertifiedComparison(**fields, norm=norm, n_inputs=n, confidence=confidence)


def _paired_interval(
    only_a: NDArray[np.int64], only_b: NDArray[np.int64], n: int, confidence: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intervals of Bonett and Price for differences of two shares of the same n inputs."""
    share_a, share_b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    centre = share_a - share_b
    error = np.sqrt((share_a + share_b - centre**2) / (n + 2))
    half = ndtri(0.5 + confidence / 2) * error
    return np.maximum(centre - half, -1.0), np.minimum(centre + half, 1.0)


def _refuse_other_inputs(a: CertifiedPredictions, b: CertifiedPredictions) -> None:
    """Refuse records of which a field says that their inputs differ."""
    got = _difference_of_inputs(a, b)
    if got:
        raise ValueError(
            f"a and b must be of the same inputs, in the same order, got {got}. "
            "common_images restricts logs to the images that both hold."
        )


def _difference_of_inputs(a: CertifiedPredictions, b: CertifiedPredictions) -> str:
    """Name the first difference in number, names or labels of the inputs, or nothing."""
    if len(a.labels) != len(b.labels):
        return f"{len(a.labels)} and {len(b.labels)} inputs"
    if type(a) is not type(b):
        return ""  # a log numbers images, a Certification has the index of a DataFrame
    for name in ("index", "y_true"):
        one, other = (getattr(each, name, None) for each in (a, b))
        if one is None or other is None:
            continue
        for row, pair in enumerate(zip(map(str, one), map(str, other), strict=True)):
            if len(set(pair)) > 1:
                return f"{name} {pair[0]} and {pair[1]} in row {row}"
    return ""
