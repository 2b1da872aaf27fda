"""Which votes every input gets, and drawing them for some inputs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rs4a.voting.blocks import Phase, Requests
from rs4a.voting.progress import VoteBar
from rs4a.voting.sequential import sequential_votes
from rs4a.voting.stopping import StoppingRule
from rs4a.voting.voters import Voters

__all__ = ["VoteBudget", "Votes", "draw_votes"]

#: Votes of a task, about: some seconds of work, which a kill may cost.
_TASK_VOTES = 2**17
#: Votes of an input, where they stop when they suffice: few inputs take more.
_SEQUENTIAL_VOTES = 4096


class Votes(NamedTuple):
    """Selection and estimation votes, and whether an interruption ended their drawing."""

    selection: NDArray[np.int64]
    counts: NDArray[np.int64]
    interrupted: bool = False


@dataclass(frozen=True)
class VoteBudget:
    """What votes every input gets.

    Parameters
    ----------
    n_selection : int
        Votes that choose the class.

    n_estimation : int, default=0
        Estimation votes, if their number is fixed.

    rule : StoppingRule, default=None
        Says when estimation votes suffice, if their number is not fixed.

    n_views : int, default=0
        Views that all vote, under deterministic noise; there are no other votes then.
    """

    n_selection: int
    n_estimation: int = 0
    rule: StoppingRule | None = None
    n_views: int = 0

    @property
    def task_size(self) -> int:
        """Number of inputs that are voted on together, so that a task takes seconds."""
        stopping = (
            0
            if self.rule is None
            else min(self.rule.bound.votes_per_input, _SEQUENTIAL_VOTES)
        )
        votes = self.n_views or self.n_selection + self.n_estimation + stopping
        return max(_TASK_VOTES // votes, 1)

    def of(self, rows: slice | NDArray[np.int64]) -> Self:
        """The plan for some of the inputs.

        Parameters
        ----------
        rows : slice or ndarray of int64
            Which ones.

        Returns
        -------
        plan : VoteBudget
            A plan of its own.
        """
        return self if self.rule is None else replace(self, rule=self.rule.of(rows))


def draw_votes(
    voters: Voters,
    X: NDArray[np.float32],
    keys: NDArray[np.uint64],
    plan: VoteBudget,
    *,
    so_far: NDArray[np.int64] | None = None,
    bar: VoteBar | None = None,
) -> Votes:
    """Votes of some inputs, which depend on nothing but the plan, the inputs and the keys.

    Parameters
    ----------
    voters : Voters
        Net and noise, opened.

    X : ndarray of shape (n, ...), float32
        Inputs.

    keys : ndarray of shape (n, 3), uint64
        From `stream_keys`.

    plan : VoteBudget
        What votes they get.

    so_far : ndarray of shape (n, n_classes), int64, default=None
        Estimation votes to go on from, where they stop when they suffice.

    bar : VoteBar, default=None
        Shows how far it is.

    Returns
    -------
    votes : Votes
        Interrupted ones, by KeyboardInterrupt, only where they stop when they suffice.
    """
    add: Callable[[int], object] | None = None if bar is None else bar.add
    if plan.n_views:
        counts = voters.all_views(X, progress=add)
        return Votes(counts, counts)
    selection = voters.fixed(X, keys, n_votes=plan.n_selection, phase=Phase.SELECTION)
    if plan.rule is None:
        if not plan.n_estimation:
            return Votes(selection, np.zeros_like(selection))
        counts = voters.fixed(
            X, keys, n_votes=plan.n_estimation, phase=Phase.ESTIMATION, progress=add
        )
        return Votes(selection, counts)
    outcome = sequential_votes(
        partial(_requested, voters, X, keys),
        plan.rule,
        selection.argmax(axis=1),
        counts=np.zeros_like(selection) if so_far is None else so_far,
        keys=keys,
        batch_size=voters.batch_size,
        progress=None if bar is None else bar.show,
    )
    return Votes(selection, outcome.counts, outcome.interrupted)


def _requested(
    voters: Voters, X: NDArray[np.float32], keys: NDArray[np.uint64], requests: Requests
) -> NDArray[np.int64]:
    return voters.requested(X, keys, requests=requests)
