"""Clopper and Pearson's bound, for a number of votes that is fixed in advance."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv
from sklearn.utils._param_validation import Interval

from rs4a.bounds.base import LOG_ERROR, QUANTILE_ERROR, Bound, check_votes

#: Relative error that the bound allows a tail of the binomial law: per vote, and at least.
_TAIL_ERROR, _LEAST_TAIL_ERROR = 2e-15, 1e-13


class ClopperPearson(Bound):
    """One-sided Clopper-Pearson bound from a number of votes fixed in advance.

    The largest p such that as many votes for the class, or more, have probability at
    most alpha: the alpha quantile of Beta(k, n - k + 1) for k of n votes. The lower side
    gets the whole failure probability; the two-sided interval gives it half.

    Parameters
    ----------
    n : int, default=100_000
        Number of estimation votes per input.

    randomized : bool, default=False
        Votes are whole numbers: so the bound fails less often than alpha. True: a uniform
        number per input, drawn with the votes and kept in the record, lets the bound fail
        exactly with probability alpha [3]_. It is never below the ordinary bound. Other
        seeds give other bounds for equal votes.

    runner_up : bool, default=False
        Whether the other classes are bounded from above as well, with alpha / 2 for each
        side. It helps if several classes share the rest of the votes. For noises with a
        radius of two bounds: Gaussian, Uniform and independent Splitting.

    References
    ----------
    .. [1] Clopper, Pearson, "The Use of Confidence or Fiducial Limits Illustrated in
       the Case of the Binomial", Biometrika 26, 1934.
    .. [2] Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized
       Smoothing", ICML 2019, Algorithm 1, arXiv:1902.02918.
    .. [3] Stevens, "Fiducial Limits of the Parameter of a Discontinuous Distribution",
       Biometrika 37, 1950.

    Examples
    --------
    >>> from rs4a.bounds import ClopperPearson
    >>> ClopperPearson().prob_lower([0, 990, 1000], 1000, alpha=0.001).round(4)
    array([0.    , 0.976 , 0.9931])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n": [Interval(Integral, 1, None, closed="left")],
        "randomized": ["boolean"],
        "runner_up": ["boolean"],
    }

    def __init__(
        self, n: int = 100_000, *, randomized: bool = False, runner_up: bool = False
    ):
        self.n = n
        self.randomized = randomized
        self.runner_up = runner_up

    @property
    def votes_per_input(self) -> int:
        """Number of estimation votes per input: `n`."""
        self._validate_params()
        return int(self.n)

    def prob_lower(
        self,
        successes: ArrayLike,
        n_votes: ArrayLike,
        alpha: float,
        uniforms: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Lower confidence bound on the probability of a class.

        Parameters
        ----------
        successes : array-like of int
            Votes for the class.

        n_votes : array-like of int
            Votes in all; broadcast against `successes`.

        alpha : float
            Probability, in (0, 1), with which the bound may exceed the truth.

        uniforms : array-like of float, default=None
            Numbers in [0, 1], drawn independently of the votes: needed if
            ``randomized=True``, and ignored otherwise. 1 gives the ordinary bound.

        Returns
        -------
        prob_lower : ndarray of float64
            Rounded down; 0 without successes, alpha^(1/n) if all n votes agree.

        Raises
        ------
        ValueError
            If `alpha` is outside (0, 1), `successes` outside [0, `n_votes`], or
            `uniforms` are missing or outside [0, 1].
        """
        k, n, alpha = check_votes(successes, n_votes, alpha)
        if not self.randomized:
            return _clopper_pearson(k, n, alpha)
        return _randomized_clopper_pearson(k, n, alpha, _check_uniforms(uniforms))


def _check_uniforms(uniforms: ArrayLike | None) -> NDArray[np.float64]:
    if uniforms is None:
        raise ValueError(
            "uniforms must be given for randomized=True: a number in [0, 1] per input, "
            "drawn independently of the votes, got None."
        )
    values = np.asarray(uniforms, dtype=np.float64)
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"uniforms must lie in [0, 1], got {values}.")
    return values


def _clopper_pearson(
    k: NDArray[np.float64], n: NDArray[np.float64], alpha: float
) -> NDArray[np.float64]:
    # k = 0 and k = n have closed forms below, and no proper Beta law.
    inner = betaincinv(np.maximum(k, 1.0), np.maximum(n - k, 0.0) + 1.0, alpha)
    unanimous = np.exp(np.log(alpha) / np.maximum(n, 1.0))
    bound = np.where(k == n, unanimous, inner) * (1.0 - QUANTILE_ERROR)
    return np.where(k == 0, 0.0, _lowered(bound, k, n, alpha))


def _lowered(
    bound: NDArray[np.float64],
    k: NDArray[np.float64],
    n: NDArray[np.float64],
    alpha: float,
) -> NDArray[np.float64]:
    """Bounds lowered until k votes of n or more are rare enough.

    The inverse of the incomplete beta function has an error of up to 2^-34.7 for many
    votes; the function itself has a much smaller one.
    """
    enough = alpha * (1.0 - _LEAST_TAIL_ERROR - _TAIL_ERROR * k)
    step = QUANTILE_ERROR
    for _ in range(40):
        tail = betainc(np.maximum(k, 1.0), np.maximum(n - k, 0.0) + 1.0, bound)
        too_high = (tail > enough) & (k > 0) & (k < n)
        if not too_high.any():
            break
        bound = np.where(too_high, bound * (1.0 - step), bound)
        step *= 2.0
    return bound


def _randomized_clopper_pearson(
    k: NDArray[np.float64],
    n: NDArray[np.float64],
    alpha: float,
    uniforms: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Solve P(more than k votes) + U P(k votes) = alpha for p, by bisection.

    The root lies between the ordinary bounds for k and for k + 1 votes.
    """
    k, n, u = np.broadcast_arrays(k, n, uniforms)
    low = ordinary = _clopper_pearson(k, n, alpha)
    # Unanimous votes and a small U would prove p = 1. The bound stays at or below the p at
    # which as many votes, or more, have probability 1/2.
    median = _clopper_pearson(k, n, max(alpha, 0.5))
    one_more = np.where(k < n, _clopper_pearson(np.minimum(k + 1.0, n), n, alpha), 1.0)
    high = np.maximum(np.minimum(one_more, median), low)
    for _ in range(60):
        middle = 0.5 * (low + high)
        more = np.where(k < n, betainc(k + 1.0, np.maximum(n - k, 1.0), middle), 0.0)
        as_many = np.where(k > 0, betainc(np.maximum(k, 1.0), n - k + 1.0, middle), 1.0)
        enough = (1.0 - u) * more + u * as_many <= alpha * (1.0 - LOG_ERROR)
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return np.maximum(low * (1.0 - QUANTILE_ERROR), ordinary)
