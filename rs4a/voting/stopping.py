"""The rule by which the votes on an input suffice."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm as normal

from rs4a.bounds import Bound, TopVotes
from rs4a.noises import Noise

__all__ = ["StoppingRule", "look_schedule"]

#: First look after 32 votes, then 16 looks per doubling: an input overshoots by about 3 %
#: of its votes.
_FIRST_LOOK = 32
_LOOKS_PER_OCTAVE = 16
#: Largest number of standard deviations in a forecast: finite, so that times 0 it is 0.
_CERTAIN = 1e12


def look_schedule(max_n: int) -> NDArray[np.int64]:
    """Numbers of votes at which an input may stop, the last of them `max_n`.

    Steps are powers of two, at least 32 and at most a 16th of the votes so far. Blocks of
    noise, whose sizes are powers of two as well, end where the steps end.

    Parameters
    ----------
    max_n : int
        Largest number of votes.

    Returns
    -------
    looks : ndarray of int64
        Ascending. Schedules of different `max_n` agree, but for their last entries.

    Examples
    --------
    >>> from rs4a.voting.stopping import look_schedule
    >>> look_schedule(100)
    array([ 32,  64,  96, 100])
    """
    looks = [min(_FIRST_LOOK, max_n)]
    while looks[-1] < max_n:
        share = max(looks[-1] // _LOOKS_PER_OCTAVE, 1)
        step = max(_FIRST_LOOK, 1 << (share.bit_length() - 1))
        looks.append(min(looks[-1] + step, max_n))
    return np.array(looks, dtype=np.int64)


@dataclass(frozen=True)
class StoppingRule:
    """Whether inputs need more votes, under a bound that may stop.

    Parameters
    ----------
    bound : Bound
        Bound with `anytime`, and the aim of the votes.

    noise : Noise
        Smoothing noise.

    norm : float
        Norm of the adversary.

    dim : int
        Number of coordinates of one input.

    alpha : float
        Failure probability of each certificate.

    n_classes : int
        Number of classes.

    reach : ndarray of shape (n, k) or (1, k), float64, default=None
        Largest distances by which an attack that must stay in a box can move the
        coordinates of each input, or of any input; see `Noise.radius`. None: no box.
    """

    bound: Bound
    noise: Noise
    norm: float
    dim: int
    alpha: float
    n_classes: int
    reach: NDArray[np.float64] | None = None

    def of(self, rows: slice | NDArray[np.int64]) -> "StoppingRule":
        """Rule for some of the inputs.

        Parameters
        ----------
        rows : ndarray of int64
            Their numbers.

        Returns
        -------
        rule : StoppingRule
            Takes votes of these inputs, in this order.
        """
        if self.reach is None or len(self.reach) == 1:
            return self
        return replace(self, reach=self.reach[rows])

    def undecided(self, votes: TopVotes) -> NDArray[np.bool_]:
        """Where more votes are worth drawing.

        Parameters
        ----------
        votes : TopVotes
            Votes so far, of all inputs of `reach`.

        Returns
        -------
        undecided : ndarray of shape (n,), bool
            False for inputs with `max_n` votes.
        """
        proved = self._certified_radius(votes)
        may_continue = votes.total < self.bound.votes_per_input
        if self.bound.radii is None:
            largest = self._largest_radius(votes)
            return may_continue & (proved < (1.0 - self.bound.rtol) * largest)
        targets = np.atleast_1d(np.asarray(self.bound.radii, dtype=np.float64))
        possible = self._certified_radius(self._forecast(votes))[:, np.newaxis]
        missing = (proved[:, np.newaxis] < targets) & (targets <= possible)
        return may_continue & missing.any(axis=1)

    def votes_to_go(self, votes: TopVotes) -> NDArray[np.int64]:
        """Rough number of votes until a decision, if the shares of the votes stay.

        Parameters
        ----------
        votes : TopVotes
            Votes so far.

        Returns
        -------
        votes_to_go : ndarray of shape (n,), int64
            0 if an input is decided; with the votes so far, at most `max_n`.
        """
        remaining = self.bound.votes_per_input - votes.total
        to_go = np.where(self.undecided(votes), remaining, 0)
        waiting = np.flatnonzero(to_go)
        factor = 1.0
        while len(waiting):
            factor *= 1.5
            here = TopVotes(*(part[waiting] for part in votes))
            total = np.minimum(np.ceil(factor * here.total), self.bound.votes_per_input)
            scale = total / np.maximum(here.total, 1)
            ahead = TopVotes(*(np.floor(scale * part).astype(np.int64) for part in here))
            rule = self.of(waiting)
            decided = ~rule.undecided(ahead._replace(total=total.astype(np.int64)))
            to_go[waiting[decided]] = (total - here.total)[decided]
            waiting = waiting[~decided & (here.total > 0)]
        return to_go

    def _certified_radius(self, votes: TopVotes) -> NDArray[np.float64]:
        lower, other = self.bound.top_two(
            votes, n_others=self.n_classes - 1, alpha=self.alpha
        )
        return self._radius(lower, other)

    def _largest_radius(self, votes: TopVotes) -> NDArray[np.float64]:
        """Radius at the other end of the sequence."""
        share = self.alpha / 2 if self.bound.runner_up else self.alpha
        upper = self.bound.prob_upper(votes.top, votes.total, share)
        other = self.bound.prob_lower(votes.runner_up, votes.total, share)
        return self._radius(upper, np.minimum(other, upper))

    def _radius(
        self, top: NDArray[np.float64], runner_up: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        others = runner_up if self.bound.runner_up else None
        return self.noise.radius(
            top, self.norm, self.dim, prob_runner_up=others, reach=self.reach
        )

    def _forecast(self, votes: TopVotes) -> TopVotes:
        """Votes at `max_n` that real votes exceed with the chance `futility` only."""
        max_n = self.bound.votes_per_input
        # Without votes nothing is given up.
        certain = min(normal.isf(self.bound.futility), _CERTAIN)
        z = np.where(votes.total > 0, certain, _CERTAIN)
        most = np.ceil(_quantile(votes.top, votes.total, max_n, z))
        least = np.floor(_quantile(votes.runner_up, votes.total, max_n, -z))
        total = np.maximum(votes.total, max_n)
        return TopVotes(most.astype(np.int64), least.astype(np.int64), total)


def _quantile(
    part: NDArray[np.int64],
    total: NDArray[np.int64],
    max_n: int,
    z: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Quantile of the votes of a class at `max_n`, given its part of the votes so far.

    Mean and variance of the beta-binomial law with a Beta(1/2, 1/2) prior.
    """
    remaining = np.maximum(max_n - total, 0)
    share = (part + 0.5) / (total + 1.0)
    variance = remaining * share * (1.0 - share) * (max_n + 1.0) / (total + 2.0)
    more = np.clip(remaining * share + z * np.sqrt(variance), 0.0, remaining)
    return np.asarray(part + more, dtype=np.float64)
