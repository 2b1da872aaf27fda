"""From votes to a lower bound on the probability of the top class."""

from abc import ABC, abstractmethod
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval

__all__ = ["Bound", "ClopperPearson"]

#: Relative error allowed to scipy's inverse incomplete beta function: 16 units in the
#: last place; tests/test_bounds.py compares with 50-digit arithmetic.
_QUANTILE_ERROR = 2.0**-48


class Bound(BaseEstimator, ABC):
    """Base class of confidence bounds: a parameter object, as a noise is."""

    @property
    @abstractmethod
    def votes_per_input(self) -> int:
        """Number of estimation votes that the bound asks for."""

    @abstractmethod
    def prob_lower(
        self, successes: ArrayLike, n_votes: ArrayLike, alpha: float
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

        Returns
        -------
        prob_lower : ndarray of float64
            Rounded down.
        """

    def can_certify(self, alpha: float) -> bool:
        """Whether a unanimous vote would suffice for a radius above 0.

        Parameters
        ----------
        alpha : float
            Failure probability, in (0, 1).

        Returns
        -------
        possible : bool
            False where every input will be abstained on.
        """
        n = self.votes_per_input
        return bool(self.prob_lower(n, n, alpha) > 0.5)


class ClopperPearson(Bound):
    """One-sided Clopper-Pearson bound from a number of votes fixed beforehand.

    The largest p such that as many votes for the class, or more, have probability at
    most alpha: the alpha quantile of Beta(k, n - k + 1) for k of n votes. All of the
    failure probability goes into the lower side; the two-sided interval would spend
    only half of it.

    Parameters
    ----------
    n : int, default=100_000
        Number of estimation votes an input.

    References
    ----------
    .. [1] Clopper, Pearson, "The Use of Confidence or Fiducial Limits Illustrated in
       the Case of the Binomial", Biometrika 26, 1934.
    .. [2] Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized
       Smoothing", ICML 2019, Algorithm 1, arXiv:1902.02918.

    Examples
    --------
    >>> from rs4a.bounds import ClopperPearson
    >>> ClopperPearson().prob_lower([0, 990, 1000], 1000, alpha=0.001).round(4)
    array([0.    , 0.976 , 0.9931])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n": [Interval(Integral, 1, None, closed="left")]
    }

    def __init__(self, n: int = 100_000):
        self.n = n

    @property
    def votes_per_input(self) -> int:
        """Number of estimation votes an input: `n`."""
        self._validate_params()
        return int(self.n)

    def prob_lower(
        self, successes: ArrayLike, n_votes: ArrayLike, alpha: float
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

        Returns
        -------
        prob_lower : ndarray of float64
            Rounded down; 0 without successes, alpha^(1/n) if all n votes agree.

        Raises
        ------
        ValueError
            If `alpha` is outside (0, 1) or `successes` outside [0, `n_votes`].
        """
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha must be a float in the range (0, 1), got {alpha!r}.")
        k, n = np.broadcast_arrays(
            np.asarray(successes, dtype=np.float64),
            np.asarray(n_votes, dtype=np.float64),
        )
        if not np.all((k >= 0) & (k <= n)):
            raise ValueError(f"successes must lie in [0, n_votes], got {k} of {n} votes.")
        # The corners are set below: they have closed forms and no proper Beta law.
        inner = betaincinv(np.maximum(k, 1.0), np.maximum(n - k, 0.0) + 1.0, alpha)
        unanimous = np.exp(np.log(alpha) / np.maximum(n, 1.0))
        bound = np.where(k == n, unanimous, inner) * (1.0 - _QUANTILE_ERROR)
        return np.where(k == 0, 0.0, bound)
