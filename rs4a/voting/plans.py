"""The votes that every input gets, and drawing them for some inputs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rs4a.voting.blocks import Phase
from rs4a.voting.progress import VoteBar
from rs4a.voting.sequential import sequential_votes
from rs4a.voting.stopping import StoppingRule
from rs4a.voting.voters import Voters

#: Votes of a task, about: some seconds of work, which a kill may cost.
_TASK_VOTES = 2**17
#: Votes of an input under a stopping rule, as tasks are planned: few inputs take more.
_SEQUENTIAL_VOTES = 4096


class Votes(NamedTuple):
    """Selection and estimation votes, and whether an interruption ended their drawing."""

    selection: NDArray[np.int64]
    counts: NDArray[np.int64]
    interrupted: bool = False


@dataclass(frozen=True)
class VoteBudget:
    """The votes that every input gets.

    Parameters
    ----------
    n_selection : int
        Votes that choose the class.

    n_estimation : int, default=0
        Estimation votes, if their number is fixed.

    rule : StoppingRule, default=None
        Decides when estimation votes suffice, if their number is not fixed.

    n_views : int, default=0
        Views of deterministic noise, which all vote; there are no other votes then.
    """

    n_selection: int
    n_estimation: int = 0
    rule: StoppingRule | None = None
    n_views: int = 0

    @property
    def task_size(self) -> int:
        """Number of inputs in a task, so that a task takes seconds."""
        votes = self.n_views or self.n_selection + self.n_estimation
        if self.rule is not None:
            votes += min(self.rule.bound.votes_per_input, _SEQUENTIAL_VOTES)
        return max(_TASK_VOTES // votes, 1)

    def of(self, rows: NDArray[np.int64]) -> Self:
        """Budget of some of the inputs.

        Parameters
        ----------
        rows : ndarray of int64
            Positions of the inputs.

        Returns
        -------
        budget : VoteBudget
            Budget whose rule is about these inputs.
        """
        return self if self.rule is None else replace(self, rule=self.rule.of(rows))


def draw_votes(
    voters: Voters,
    X: NDArray[np.float32],
    keys: NDArray[np.uint64],
    budget: VoteBudget,
    so_far: NDArray[np.int64] | None = None,
    bar: VoteBar | None = None,
) -> Votes:
    """Votes of some inputs, which depend on the budget, the inputs and the keys alone.

    Parameters
    ----------
    voters : Voters
        Net and noise, opened.

    X : ndarray of shape (n, ...), float32
        Inputs.

    keys : ndarray of shape (n, 3), uint64
        From `stream_keys`.

    budget : VoteBudget
        Votes that every input gets.

    so_far : ndarray of shape (n, n_classes), int64, default=None
        Estimation votes to continue from, under a stopping rule.

    bar : VoteBar, default=None
        Shows the progress.

    Returns
    -------
    votes : Votes
        Under a stopping rule a KeyboardInterrupt returns the votes until then.
    """
    add: Callable[[int], object] | None = None if bar is None else bar.add
    if budget.n_views:
        n_votes, phase = budget.n_views, Phase.ESTIMATION
        counts = voters.fixed(X, None, n_votes=n_votes, phase=phase, progress=add)
        return Votes(counts, counts)
    selection = voters.fixed(X, keys, n_votes=budget.n_selection, phase=Phase.SELECTION)
    if budget.rule is None:
        if not budget.n_estimation:
            return Votes(selection, np.zeros_like(selection))
        n_votes, phase = budget.n_estimation, Phase.ESTIMATION
        counts = voters.fixed(X, keys, n_votes=n_votes, phase=phase, progress=add)
        return Votes(selection, counts)
    outcome = sequential_votes(
        partial(voters.requested, X, keys),
        budget.rule,
        selection.argmax(axis=1),
        counts=np.zeros_like(selection) if so_far is None else so_far,
        keys=keys,
        batch_size=voters.batch_size,
        progress=None if bar is None else bar.show,
    )
    return Votes(selection, outcome.counts, outcome.interrupted)
