"""The interface of all bounds on the probability of a class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

#: Relative error that bounds allow a quantile, twice the usual error; tests/test_bounds.py
#: compares with 50-digit arithmetic.
QUANTILE_ERROR = 2.0**-44
#: Relative error that bounds allow a logarithm, many times the measured one.
LOG_ERROR = 1e-12


class TopVotes(NamedTuple):
    """Votes that a bound takes: arrays with one entry per input.

    Parameters
    ----------
    top : ndarray of shape (n,), int64
        Votes for the class that the selection votes chose.

    runner_up : ndarray of shape (n,), int64
        Votes for the strongest of the other classes.

    total : ndarray of shape (n,), int64
        All votes.
    """

    top: NDArray[np.int64]
    runner_up: NDArray[np.int64]
    total: NDArray[np.int64]


def top_votes(counts: NDArray[np.int64], columns: NDArray[np.int64]) -> TopVotes:
    """Votes for the chosen class, for the strongest other class, and in all.

    Parameters
    ----------
    counts : ndarray of shape (n, n_classes), int64
        Votes.

    columns : ndarray of shape (n,), int64
        Column of the class that the selection votes chose.

    Returns
    -------
    votes : TopVotes
        If there is one class only, the runner-up has 0 votes.

    Examples
    --------
    >>> import numpy as np
    >>> from rs4a.bounds import top_votes
    >>> votes = top_votes(np.array([[90, 7, 3], [20, 50, 30]]), np.array([0, 1]))
    >>> votes.top, votes.runner_up
    (array([90, 50]), array([ 7, 30]))
    """
    rows = np.arange(len(counts))
    others = counts.copy()
    others[rows, columns] = 0
    return TopVotes(counts[rows, columns], others.max(axis=1), counts.sum(axis=1))


class Bound(BaseEstimator, ABC):
    """Base class of confidence bounds: a parameter object, as a noise is.

    Attributes
    ----------
    anytime : bool
        Whether the bound also holds if the votes themselves, a budget or an interruption
        decide when sampling stops.

    runner_up : bool
        Whether the bound is about the top class and all other classes together, with
        half of the failure probability each.

    randomized : bool
        Whether the bound takes a uniform number per input besides the votes.

    radii, rtol, futility : object
        Aim of the votes if `anytime` lets the votes stop, as for
        :class:`ConfidenceSequence`. Unless a subclass has its own: a radius within `rtol`
        of the largest possible one.
    """

    # Bounds of users need not declare constraints.
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    anytime: ClassVar[bool] = False
    runner_up: bool = False
    randomized: bool = False
    radii: ArrayLike | None = None
    rtol: float = 0.01
    futility: float = 0.01

    @property
    @abstractmethod
    def votes_per_input(self) -> int:
        """Largest number of estimation votes per input."""

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

    def prob_upper(
        self, successes: ArrayLike, n_votes: ArrayLike, alpha: float, **kwargs: Any
    ) -> NDArray[np.float64]:
        """Upper confidence bound, from the votes against the class.

        Parameters
        ----------
        successes : array-like of int
            Votes for the class.

        n_votes : array-like of int
            Votes in all; broadcast against `successes`.

        alpha : float
            Probability, in (0, 1), with which the bound may fall short of the truth.

        **kwargs : dict
            Passed on to `prob_lower`.

        Returns
        -------
        prob_upper : ndarray of float64
            Rounded up; at most 1.
        """
        against = np.asarray(n_votes) - np.asarray(successes)
        upper = 1.0 - self.prob_lower(against, n_votes, alpha, **kwargs)
        return np.minimum(np.nextafter(upper, 2.0), 1.0)

    def top_two(
        self,
        votes: TopVotes,
        *,
        n_others: int,
        alpha: float,
        uniforms: ArrayLike | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bound the top class from below and every other class from above, together.

        Parameters
        ----------
        votes : TopVotes
            Votes for the chosen class, for the strongest other class, and in all.

        n_others : int
            Number of the other classes. If it is 0, there is no runner-up.

        alpha : float
            Probability, in (0, 1), with which any of these bounds may fail.

        uniforms : array-like of float, default=None
            One number per input, uniform on (0, 1), if `randomized` is set.

        Returns
        -------
        prob_lower : ndarray of float64
            Lower bound on the probability of the top class, rounded down.

        prob_runner_up : ndarray of float64
            Upper bound on the probability of each other class, rounded up. Without
            `runner_up`, 1 - `prob_lower`.
        """
        kwargs = {"uniforms": uniforms} if self.randomized else {}
        if not self.runner_up or n_others == 0:
            lower = self.prob_lower(votes.top, votes.total, alpha, **kwargs)
            return lower, 1.0 - lower
        lower = self.prob_lower(votes.top, votes.total, alpha / 2, **kwargs)
        # The most probable other class is one class, which no vote chose: its bound needs
        # no share for the rest. The bound of the class with most votes is as large.
        upper = self.prob_upper(votes.runner_up, votes.total, alpha / 2, **kwargs)
        return lower, np.minimum(upper, 1.0 - lower)

    def can_certify(self, alpha: float) -> bool:
        """Whether a unanimous vote suffices for a radius above 0.

        Parameters
        ----------
        alpha : float
            Failure probability, in (0, 1).

        Returns
        -------
        possible : bool
            False if every input will be abstained on.
        """
        n = np.array([self.votes_per_input])
        unanimous = TopVotes(n, np.zeros_like(n), n)
        lower, rest = self.top_two(unanimous, n_others=1, alpha=alpha, uniforms=0.0)
        return bool(lower > rest)


def check_votes(
    successes: ArrayLike, n_votes: ArrayLike, alpha: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return votes and alpha as float64; refuse numbers that are no votes."""
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must be a float in the range (0, 1), got {alpha!r}.")
    k, n = np.broadcast_arrays(np.asarray(successes, float), np.asarray(n_votes, float))
    if not np.all((k >= 0) & (k <= n)):
        raise ValueError(f"successes must lie in [0, n_votes], got {k} of {n} votes.")
    return k, n, float(alpha)  # a float32 would reduce the precision of logarithms
