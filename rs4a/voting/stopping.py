"""When the votes on an input suffice."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm as normal

from rs4a.bounds import Bound, TopVotes
from rs4a.noises import Noise

__all__ = ["StoppingRule", "look_schedule"]

#: Votes before the first look, and looks an octave: the votes that an input gets beyond
#: what it needs are about 1 / 32 of them.
_FIRST_LOOK = 32
_LOOKS_PER_OCTAVE = 16
#: Standard deviations beyond which nothing is hoped for: finite, so that 0 of them is 0.
_CERTAIN = 1e12


def look_schedule(max_n: int) -> NDArray[np.int64]:
    """Numbers of votes at which an input may stop, the last of them `max_n`.

    Steps are powers of two of at least 32 and at most a 16th of the votes so far, so
    that blocks of noise, whose sizes are powers of two as well, end where they do.

    Parameters
    ----------
    max_n : int
        Largest number of votes.

    Returns
    -------
    looks : ndarray of int64
        Ascending. Schedules of other `max_n` differ from it in the last entry only.

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
        Bound with `anytime`, which says what is to be decided.

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
        How far an attack that must stay in a box can move the coordinates of each of the
        inputs, or of any input; see `Noise.radius`. None: no box.
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
            Votes so far, of all inputs that `reach` is about; in no relation to each
            other.

        Returns
        -------
        undecided : ndarray of shape (n,), bool
            Never where an input has `max_n` votes.
        """
        proved = self._certified_radius(votes)
        may_go_on = votes.total < self.bound.votes_per_input
        if self.bound.radii is None:
            largest = self._largest_radius(votes)
            return may_go_on & (proved < (1.0 - self.bound.rtol) * largest)
        targets = np.atleast_1d(np.asarray(self.bound.radii, dtype=np.float64))
        possible = self._certified_radius(self._hoped_for(votes))[:, np.newaxis]
        missing = (proved[:, np.newaxis] < targets) & (targets <= possible)
        return may_go_on & missing.any(axis=1)

    def votes_to_go(self, votes: TopVotes) -> NDArray[np.int64]:
        """Rough number of votes until a decision, if the shares stay as they are.

        Parameters
        ----------
        votes : TopVotes
            Votes so far.

        Returns
        -------
        votes_to_go : ndarray of shape (n,), int64
            0 where decided; at most what is missing to `max_n`.
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

    def _hoped_for(self, votes: TopVotes) -> TopVotes:
        """Votes at `max_n` that exceed what comes with all but a chance of `futility`."""
        max_n = self.bound.votes_per_input
        # Before the first look nothing is known: there is no giving up.
        z = np.where(
            votes.total > 0, min(normal.isf(self.bound.futility), _CERTAIN), _CERTAIN
        )
        most = np.ceil(_foreseen(votes.top, votes.total, max_n, z))
        least = np.floor(_foreseen(votes.runner_up, votes.total, max_n, -z))
        total = np.maximum(votes.total, max_n)
        return TopVotes(most.astype(np.int64), least.astype(np.int64), total)


def _foreseen(
    part: NDArray[np.int64],
    total: NDArray[np.int64],
    max_n: int,
    z: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Quantile of a class's votes at `max_n`, given its part of the votes so far.

    Mean and variance of the beta-binomial law with a Beta(1/2, 1/2) prior.
    """
    remaining = np.maximum(max_n - total, 0)
    share = (part + 0.5) / (total + 1.0)
    variance = remaining * share * (1.0 - share) * (max_n + 1.0) / (total + 2.0)
    more = np.clip(remaining * share + z * np.sqrt(variance), 0.0, remaining)
    return np.asarray(part + more, dtype=np.float64)
