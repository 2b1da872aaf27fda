"""Certified accuracy of many certifications: the tables of papers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from rs4a.metrics.predictions import NamedResult, Result, check_results, common_norm
from rs4a.metrics.scores import certified_accuracy_score
from rs4a.utils.checks import format_norm


def certified_accuracy_frame(
    results: Iterable[Result],
    *,
    radii: ArrayLike,
    norm: float | None = None,
    names: Sequence[str] | None = None,
    sample_weight: ArrayLike | None = None,
    average: str = "micro",
) -> pd.DataFrame:
    """Certified accuracy of many certifications, one row per certification and radius.

    Parameters
    ----------
    results : iterable of tuple (certification, y_true)
        Certifications (or BoundRecords, or logs that were read with their noise), each
        with the true labels of the same inputs.

    radii : array-like of shape (n_radii,)
        Distances of the adversary, in units of X.

    norm : {1, 2, inf}, default=None
        Norm of the adversary. None: the certifications' own.

    names : sequence of str of length n_results, default=None
        Names of the results, such as objectives or seeds; several results may share one.
        None: the kinds of the noise.

    sample_weight : array-like of shape (n,), default=None
        Weights of the inputs. None: all have the same weight.

    average : {"micro", "macro"}, default="micro"
        Mean over inputs, or over classes, as in :func:`certified_accuracy_score`.

    Returns
    -------
    frame : pandas.DataFrame of shape (n_results * n_radii, 4)
        Columns noise (its kind, without its scale) or, with `names`, name; sigma (float),
        radius (float) and accuracy (float in [0, 1]).

    Raises
    ------
    TypeError
        If a certification does not know its noise, as a log that was read without it.
    ValueError
        If there is no certification, they are not of the same inputs, there is not a name
        for each, their own norms differ and `norm` is not given, or a radius is negative.

    Examples
    --------
    >>> from rs4a import Certification
    >>> from rs4a.metrics import certified_accuracy_frame
    >>> from rs4a.noises import Uniform
    >>> certification = Certification.from_counts(
    ...     [[990, 10], [700, 300]], labels=[0, 0], noise=Uniform(sigma=0.5), dim=784
    ... )
    >>> certified_accuracy_frame([(certification, [0, 0])], radii=[0.25, 0.75])
         noise  sigma  radius  accuracy
    0  Uniform    0.5    0.25       1.0
    1  Uniform    0.5    0.75       0.5
    """
    named = check_results(results, names)
    norm = common_norm((each.record for each in named), norm)
    grid = np.atleast_1d(np.asarray(radii, dtype=np.float64))
    options: dict[str, Any] = {"sample_weight": sample_weight, "average": average}
    frames = []
    for name, record, y, sigma in named:
        scores = certified_accuracy_score(y, record, radius=grid, norm=norm, **options)
        columns = {_key(names): name, "sigma": sigma, "radius": grid, "accuracy": scores}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _check_guarantees(named: Sequence[NamedResult]) -> None:
    """Refuse results of one name whose certificates differ in alpha or box."""
    first: dict[tuple[str, str], Any] = {}
    for name, record, _, _ in named:
        stated = {"box": record.box and record.box.interval}
        # A log has no alpha, and the alpha of deterministic noise is 0.
        if alpha := getattr(record, "alpha", None):
            stated["alpha"] = float(f"{alpha:.6g}")  # 1 - 0.95 is 0.05
        for field, value in stated.items():
            known = first.setdefault((name, field), value)
            if known != value:
                raise ValueError(
                    f"results of one name must state the same, got {field}={known} and "
                    f"{value} of {name}. Give names= that tell them apart, or "
                    f"recompute({field}=...) of records that hold votes."
                )


def _key(names: Sequence[str] | None) -> str:
    """Title of the column of names."""
    return "noise" if names is None else "name"


def certified_accuracy_table(
    results: Iterable[Result],
    *,
    radii: ArrayLike,
    norm: float | None = None,
    with_sigma: bool = False,
    names: Sequence[str] | None = None,
    sample_weight: ArrayLike | None = None,
    average: str = "micro",
) -> pd.DataFrame:
    """Best certified accuracy of every kind of noise at every radius, over all sigmas.

    Papers compare noises by such a table, as in Table 1 of [1]_. Each number is the
    certified accuracy of one classifier on these inputs. The table is no certificate for
    the rule "take the best sigma": certify a sigma that you choose by it on other inputs.

    Parameters
    ----------
    results : iterable of tuple (certification, y_true)
        Certifications (or BoundRecords, or logs that were read with their noise), each
        with the true labels of the same inputs; usually one for each noise and sigma.

    radii : array-like of shape (n_radii,)
        Distances of the adversary, in units of X.

    norm : {1, 2, inf}, default=None
        Norm of the adversary. None: the certifications' own.

    with_sigma : bool, default=False
        Whether to state the best sigma, the smallest of several equally good sigmas.

    names : sequence of str of length n_results, default=None
        Names of the rows, such as objectives or seeds; several results may share one.
        None: the kinds of the noise.

    sample_weight : array-like of shape (n,), default=None
        Weights of the inputs. None: all have the same weight.

    average : {"micro", "macro"}, default="micro"
        Mean over inputs, or over classes, as in :func:`certified_accuracy_score`.

    Returns
    -------
    table : pandas.DataFrame of shape (n_rows, n_radii) or (n_rows, 2 * n_radii)
        Accuracies in [0, 1]: one row per kind of noise, or per name, in the order of
        `results`, and one column per radius. With `with_sigma`, each radius has the columns
        accuracy and sigma.

    Raises
    ------
    TypeError
        If a certification does not know its noise, as a log that was read without it.
    ValueError
        If there is no certification, they are not of the same inputs, there is not a name
        for each, results of one name differ in alpha or box, their own norms differ and
        `norm` is not given, or a radius is negative.

    References
    ----------
    .. [1] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> from rs4a import Certification
    >>> from rs4a.metrics import certified_accuracy_table
    >>> from rs4a.noises import Uniform
    >>> counts = {0.5: [[990, 10], [900, 100]], 1.0: [[950, 50], [600, 400]]}
    >>> results = [
    ...     (
    ...         Certification.from_counts(
    ...             votes, labels=[0, 0], noise=Uniform(sigma=sigma), dim=784
    ...         ),
    ...         [0, 0],
    ...     )
    ...     for sigma, votes in counts.items()
    ... ]
    >>> certified_accuracy_table(results, radii=[0.5, 1.0, 2.0])
    l1 radius  0.5  1.0  2.0
    noise
    Uniform    1.0  0.5  0.0
    """
    pairs = list(results)
    _check_guarantees(check_results(pairs, names))
    norm = common_norm((record for record, _ in pairs), norm)
    options: dict[str, Any] = {"sample_weight": sample_weight, "average": average}
    frame = certified_accuracy_frame(pairs, radii=radii, norm=norm, names=names, **options)
    key = _key(names)
    # Among equal accuracies the smallest sigma comes first.
    ranked = frame.sort_values(["accuracy", "sigma"], ascending=[False, True])
    best = ranked.drop_duplicates([key, "radius"])
    table = best.pivot(index=key, columns="radius", values=["accuracy", "sigma"])
    columns = pd.MultiIndex.from_product(
        [frame["radius"].unique(), ["accuracy", "sigma"]],
        names=[f"{format_norm(norm)} radius", "value"],
    )
    table = table.swaplevel(axis=1).reindex(index=frame[key].unique(), columns=columns)
    table = table.rename_axis(index=key)
    if not with_sigma:
        table = pd.DataFrame(table.xs("accuracy", axis=1, level="value"))
    return table


def best_accuracies(
    results: Sequence[NamedResult], radii: NDArray[np.float64], norm: float
) -> dict[str, NDArray[np.float64]]:
    """Best certified accuracy of every name at every radius, over all sigmas.

    Parameters
    ----------
    results : sequence of NamedResult
        Certifications with their names.

    radii : ndarray of shape (n_radii,), float64
        Distances of the adversary, in units of X.

    norm : {1, 2, inf}
        Norm of the adversary.

    Returns
    -------
    accuracies : dict of str to ndarray of shape (n_radii,), float64
        The rows of :func:`certified_accuracy_table`.
    """
    pairs = [(each.record, each.y_true) for each in results]
    names = [each.name for each in results]
    table = certified_accuracy_table(pairs, radii=radii, norm=norm, names=names)
    return {str(name): row.to_numpy() for name, row in table.iterrows()}


def format_accuracy_table(table: pd.DataFrame) -> pd.DataFrame:
    r"""Turn a table of certified accuracies into text, for a paper.

    Parameters
    ----------
    table : pandas.DataFrame
        Table from :func:`certified_accuracy_table`.

    Returns
    -------
    text : pandas.DataFrame of shape (n_rows, n_radii)
        Accuracies in percent, rounded down, "70.5", or with the best sigma, "70.5
        (0.75)"; "-" where nothing is certified. Its `to_markdown` and `to_latex` make the
        table of a paper; they need ``pip install 'rs4a[tables]'``.

    Examples
    --------
    >>> from rs4a import Certification
    >>> from rs4a.metrics import certified_accuracy_table, format_accuracy_table
    >>> from rs4a.noises import Uniform
    >>> certification = Certification.from_counts(
    ...     [[990, 10], [700, 300]], labels=[0, 0], noise=Uniform(sigma=0.5), dim=784
    ... )
    >>> table = certified_accuracy_table(
    ...     [(certification, [0, 0])], radii=[0.25, 0.75, 1.5], with_sigma=True
    ... )
    >>> text = format_accuracy_table(table)
    >>> text
    l1 radius         0.25        0.75 1.5
    noise
    Uniform    100.0 (0.5)  50.0 (0.5)   -
    >>> print(text.to_latex(column_format="lrrr"))
    \begin{tabular}{lrrr}
    \toprule
    l1 radius & 0.25 & 0.75 & 1.5 \\
    noise &  &  &  \\
    \midrule
    Uniform & 100.0 (0.5) & 50.0 (0.5) & - \\
    \bottomrule
    \end{tabular}
    <BLANKLINE>
    """
    if table.columns.nlevels == 1:
        text = table.map(_percent)
    else:
        accuracy = pd.DataFrame(table.xs("accuracy", axis=1, level=1))
        sigma = pd.DataFrame(table.xs("sigma", axis=1, level=1)).map(" ({:g})".format)
        text = accuracy.map(_percent) + sigma.where(accuracy > 0.0, "")
    # LaTeX would print numbers with six digits.
    radii = [f"{radius:g}" for radius in text.columns]
    return text.set_axis(pd.Index(radii, name=text.columns.name), axis=1)


def _percent(accuracy: Any) -> str:
    # The error of the division is not rounded down.
    tenths = math.floor(round(1000.0 * accuracy, 6))
    return f"{tenths / 10.0:.1f}" if accuracy > 0.0 else "-"
