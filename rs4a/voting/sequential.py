"""Votes drawn look by look, until every input is decided or a budget is spent."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rs4a.bounds import TopVotes, top_votes
from rs4a.voting.blocks import Requests
from rs4a.voting.stopping import StoppingRule, look_schedule

#: Guess of the votes until a decision, for an input without votes; it plans budgets.
_UNSEEN = 128
#: Larger batches are not filled up, because votes that are drawn ahead may be wasted.
_LARGEST_FILLED = 4096

Drawer = Callable[[Requests], NDArray[np.int64]]


class _Outcome(NamedTuple):
    """Votes, and whether an interruption ended their drawing."""

    counts: NDArray[np.int64]
    interrupted: bool


def sequential_votes(
    draw: Drawer,
    rule: StoppingRule,
    columns: NDArray[np.int64],
    *,
    counts: NDArray[np.int64],
    keys: NDArray[np.uint64],
    batch_size: int,
    max_votes: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> _Outcome:
    """Draw votes for the undecided inputs, look by look.

    The votes of an input depend on the input alone, or with `max_votes` on the votes of all
    inputs, but neither on the batch size nor on the order of the inputs.

    Parameters
    ----------
    draw : callable
        Takes Requests and returns counts, an array of shape (n_requests, n_classes).

    rule : StoppingRule
        Decides which inputs need more votes; its `reach`, if any, has their order.

    columns : ndarray of shape (n,), int64
        Column of the class that the selection votes chose.

    counts : ndarray of shape (n, n_classes), int64
        Votes to continue from; the array stays as it is.

    keys : ndarray of shape (n, 3), uint64
        From `stream_keys`; they break ties between inputs.

    batch_size : int
        If the votes of a round do not fill a forward pass, later votes of the same inputs
        are drawn ahead, and kept until their look.

    max_votes : int, default=None
        Votes to spend. Votes that are drawn ahead count from their look on. None: no
        limit.

    progress : callable, default=None
        Called after every look with the numbers of inputs decided and votes spent.

    Returns
    -------
    outcome : _Outcome
        Valid for bounds that hold at any time, also after KeyboardInterrupt.
    """
    counts = counts.copy()
    at_first = counts.sum()
    ahead = _Ahead(draw, look_schedule(rule.bound.votes_per_input), batch_size)
    undecided = np.arange(len(counts))
    to_go = np.where(counts.any(axis=1), 0, _UNSEEN)  # 0: not yet known
    try:
        while True:
            votes = top_votes(counts[undecided], columns[undecided])
            still = rule.of(undecided).undecided(votes)
            undecided, votes = undecided[still], TopVotes(*(part[still] for part in votes))
            spent = int(counts.sum() - at_first)
            if progress is not None:
                progress(len(counts) - len(undecided), spent)
            requests = ahead.next_looks(undecided, votes.total)
            if max_votes is not None:
                stale = undecided[to_go[undecided] == 0]
                unplanned = top_votes(counts[stale], columns[stale])
                to_go[stale] = rule.of(stale).votes_to_go(unplanned)
                left = max_votes - spent
                cost = to_go[undecided]
                requests = _affordable(requests, rule, cost, keys[undecided], left)
            if not len(requests.rows):
                return _Outcome(counts, interrupted=False)
            drawn = ahead.take(requests)
            counts[requests.rows] += drawn
            to_go[requests.rows] = 0
    except KeyboardInterrupt:
        return _Outcome(counts, interrupted=True)


class _Ahead:
    """Draws requests, with later ones of the same inputs where these fill a batch."""

    def __init__(self, draw: Drawer, looks: NDArray[np.int64], batch_size: int):
        self._draw = draw
        self._looks = looks
        self._batch_size = min(batch_size, _LARGEST_FILLED)
        #: Votes that were drawn ahead, by row, start and stop.
        self._spare: dict[tuple[int, int, int], NDArray[np.int64]] = {}

    def next_looks(self, rows: NDArray[np.int64], totals: NDArray[np.int64]) -> Requests:
        """Requests that take each input from its present votes to its next look."""
        return Requests(rows, totals, self._look_after(totals))

    def take(self, requests: Requests) -> NDArray[np.int64]:
        """Votes of the requests, drawn now or before."""
        keys = list(zip(*(part.tolist() for part in requests), strict=True))
        missing = np.array([key not in self._spare for key in keys])
        spare = [self._spare.pop(key) for key in keys if key in self._spare]
        if not missing.any():
            return np.stack(spare)
        now = Requests(*(part[missing] for part in requests))
        later = self._later(requests, int((now.stops - now.starts).sum()))
        extra = np.array(later, dtype=np.int64).reshape(-1, 3).T
        drawn = self._draw(Requests(*map(np.append, now, extra)))
        self._spare.update(zip(later, drawn[len(now.rows) :].copy(), strict=True))
        counts = np.empty((len(missing), drawn.shape[1]), dtype=np.int64)
        counts[missing] = drawn[: len(now.rows)]
        if spare:
            counts[~missing] = spare
        return counts

    def _later(self, requests: Requests, n_votes: int) -> list[tuple[int, int, int]]:
        """Later looks of the same inputs, which fill the last batch of `n_votes` votes."""
        later: list[tuple[int, int, int]] = []
        room = -n_votes % self._batch_size
        heads = list(zip(requests.rows.tolist(), requests.stops.tolist(), strict=True))
        while heads and room >= self._looks[0]:
            following = []
            for row, start in heads:
                stop = int(self._look_after(np.array([start]))[0])
                if not start < stop <= start + room:
                    continue
                following.append((row, stop))
                if (row, start, stop) not in self._spare:
                    later.append((row, start, stop))
                    room -= stop - start
                if room < self._looks[0]:
                    break
            heads = following
        return later

    def _look_after(self, totals: NDArray[np.int64]) -> NDArray[np.int64]:
        after = np.searchsorted(self._looks, totals, side="right")
        return self._looks[np.minimum(after, len(self._looks) - 1)]


def _affordable(
    requests: Requests,
    rule: StoppingRule,
    to_go: NDArray[np.int64],
    keys: NDArray[np.uint64],
    left: int,
) -> Requests:
    """Requests of the inputs whose decision seems cheapest, within the votes left."""
    steps = requests.stops - requests.starts
    if (rule.bound.votes_per_input - requests.starts).sum() <= left:
        return requests
    cost = np.maximum(to_go, steps)
    order = np.lexsort((keys[:, 2], cost))
    order = order[
        : max(int(np.searchsorted(np.cumsum(cost[order]), left, side="right")), 1)
    ]
    before = np.cumsum(steps[order]) - steps[order]
    granted = np.clip(left - before, 0, steps[order])
    order, granted = order[granted > 0], granted[granted > 0]
    starts = requests.starts[order]
    return Requests(requests.rows[order], starts, starts + granted)
