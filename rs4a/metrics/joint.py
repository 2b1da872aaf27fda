"""Statements about many inputs that all hold at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rs4a.metrics.scores import certified_hits, check_certified
from rs4a.utils.checks import check_in_range

__all__ = ["jointly_certified"]


def jointly_certified(
    y_true: ArrayLike,
    certification: Any,
    *,
    radius: float,
    norm: float | None = None,
    alpha: float = 0.05,
) -> NDArray[np.bool_]:
    """Mark inputs that are all certified at a radius, together, by Holm's correction.

    Each certificate may be wrong with probability `certification.alpha`, for each input
    separately. Here all statements together may: with probability at least 1 - `alpha`
    over the noise, the smoothed classifier gives every marked input its label, and
    no change of length below `radius` alters an answer.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels of the statements: the true ones, or ``certification.labels`` where the
        statement is that the answers stay the same, right or wrong.

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
        Inputs that the joint statement is about. All inputs of deterministic records
        whose certificate is large enough, since none of these can be wrong.

    Raises
    ------
    TypeError
        If the record keeps no votes, as a CertificationLog or a BoundRecord.
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

    The statement holds whatever the dependence between inputs. It needs a bound that
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
