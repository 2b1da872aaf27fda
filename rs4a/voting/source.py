"""The votes of all inputs: drawn here or by workers, and kept where that is asked for."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, Self

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray

from rs4a.nets.modules import learned_criteria, own_state
from rs4a.nets.outputs import evaluating
from rs4a.nets.provenance import run_settings
from rs4a.noises.streams import STREAMS
from rs4a.utils.describe import describe
from rs4a.utils.user_warnings import warn_user
from rs4a.voting.blocks import Requests
from rs4a.voting.plans import VoteBudget, Votes, draw_votes
from rs4a.voting.progress import VoteBar
from rs4a.voting.remote import request_in_worker, vote_in_worker
from rs4a.voting.store import VoteStore
from rs4a.voting.voters import Voters
from rs4a.voting.workers import TASKS_PER_JOB, Workers

__all__ = ["VoteSource"]

#: Bytes of a task's inputs, at most: they are sent to workers, and held in memory.
_TASK_BYTES = 2**23


class VoteSource:
    """Inputs that are voted on; a context manager.

    Parameters
    ----------
    voters : Voters
        Net and noise; not opened.

    X : ndarray of shape (n, ...), float32, or LazyInputs
        Inputs.

    keys : ndarray of shape (n, 3), uint64
        From `stream_keys`.

    n_jobs : int or None
        Workers, in joblib's sense.

    store : VoteStore, default=None
        Where votes are kept, an entry an input. None: nowhere.
    """

    def __init__(
        self,
        voters: Voters,
        X: Any,
        keys: NDArray[np.uint64],
        n_jobs: int | None,
        store: VoteStore | None = None,
    ):
        self.voters = voters
        self.X = X
        self.keys = keys
        self.n_jobs = n_jobs
        self.store = store
        #: Votes that were found in the store, of either kind.
        self.n_kept = 0
        #: Rows of which the store has votes.
        self.rows_kept: set[int] = set()
        self._opened: Voters | None = None
        self._identity: str | None = None

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._workers = self._stack.enter_context(Workers(self.voters, self.n_jobs))
        return self

    def __exit__(self, *error: Any) -> None:
        self._opened = None
        self._stack.__exit__(*error)  # voters tell an error from an end

    def _here(self) -> Voters:
        """The voters of this process, opened where they are needed first."""
        if self._opened is None:
            self._opened = self._stack.enter_context(copy.copy(self.voters))
        return self._opened

    # All votes of a plan

    def votes(
        self,
        plan: VoteBudget,
        *,
        so_far: NDArray[np.int64] | None = None,
        bar: VoteBar | None = None,
    ) -> Votes:
        """Votes of every input.

        They are the same however they are drawn: at once, or task by task where there are
        several workers or a store, or where each look would read the inputs again.

        Parameters
        ----------
        plan : VoteBudget
            What votes they get.

        so_far : ndarray of shape (n, n_classes), int64, default=None
            Estimation votes to go on from, where they stop when they suffice.

        bar : VoteBar, default=None
            Shows how far it is.

        Returns
        -------
        votes : Votes
            Votes; after an interruption, inputs whose turn did not come have those so far.
        """
        read_once = plan.rule is None or isinstance(self.X, np.ndarray)
        if read_once and self.store is None and effective_n_jobs(self.n_jobs) == 1:
            here = self._here()
            return draw_votes(here, self.X, self.keys, plan, so_far=so_far, bar=bar)
        work = _Tasks(self, plan, so_far, bar)
        interrupted = False
        try:
            work.take_kept()
            for rows, votes in self._drawn(work):
                work.add(rows, votes)
                if votes.interrupted:
                    raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            if plan.rule is None:
                if kept := self.kept_in_words():
                    error.add_note(kept)
                raise
            interrupted = True
        return Votes(work.selection, work.counts, interrupted)

    def _drawn(self, work: "_Tasks") -> Iterator[tuple[NDArray[np.int64], Votes]]:
        """Votes of tasks, as they come."""
        parts = list(work.parts())
        if effective_n_jobs(self.n_jobs) == 1:
            for rows in parts:
                X, keys, plan, so_far = work.task(rows)
                yield rows, draw_votes(self._here(), X, keys, plan, so_far=so_far)
            return
        tasks = [partial(work.task, rows) for rows in parts]
        for index, votes in self._workers.results(vote_in_worker, tasks):
            yield parts[index], votes

    # Some votes

    def requested(self, requests: Requests) -> NDArray[np.int64]:
        """Some estimation votes of some inputs, for whoever decides who gets the next ones.

        Parameters
        ----------
        requests : Requests
            Which ones.

        Returns
        -------
        counts : ndarray of shape (n_requests, n_classes), int64
            Votes.
        """
        key = self.key("requests", *requests, self.keys[requests.rows])
        kept = self.kept(key, (len(requests.rows), self.voters.n_classes))
        if kept is None:
            kept = self._drawn_requests(requests)
            self.keep(key, kept)
        else:
            self.n_kept += int(kept.sum())
        return kept

    def _drawn_requests(self, requests: Requests) -> NDArray[np.int64]:
        # Less than some batches a worker are not worth handing out.
        total = int((requests.stops - requests.starts).sum())
        jobs = effective_n_jobs(self.n_jobs)
        if jobs == 1 or total < 2 * jobs * self.voters.batch_size:
            return self._here().requested(self.X, self.keys, requests=requests)
        n_bytes = len(requests.rows) * self.X[0].nbytes
        parts = _even_parts(requests, max(jobs, -(-n_bytes // _TASK_BYTES)))
        tasks = [partial(self._inputs_of, part) for part in parts]
        found = dict(self._workers.results(request_in_worker, tasks))
        return np.concatenate([found[index] for index in range(len(tasks))])

    def _inputs_of(self, requests: Requests) -> tuple[Any, ...]:
        """Inputs of some requests, and the requests with the rows that they have there."""
        rows, places = np.unique(requests.rows, return_inverse=True)
        X = np.stack([np.asarray(self.X[row]) for row in rows])
        return X, self.keys[rows], requests._replace(rows=places)

    # What is kept

    def key(self, *parts: Any) -> str | None:
        """Name of votes by all that they depend on; None where nothing is kept."""
        if self.store is None:
            return None
        if self._identity is None:
            self._identity = self._describe()
        return describe(self._identity, *parts) if self._identity else None

    def kept(self, key: str | None, shape: tuple[int, ...]) -> NDArray[np.int64] | None:
        """Votes that are in the store."""
        if key is None or self.store is None:
            return None
        return self.store.load(key, shape)

    def keep(self, key: str | None, votes: NDArray[np.int64]) -> bool:
        """Put votes into the store, if they have a name; say whether they are there."""
        if key is None or self.store is None:
            return False
        return self.store.save(key, votes)

    def kept_in_words(self) -> str:
        """What an interruption leaves in the store; "" where there is none."""
        if self.store is None or not self.rows_kept:
            return ""
        return (
            f"memory keeps the votes of {len(self.rows_kept)} of {len(self.X)} inputs, "
            f"in {self.store.folder}: the same call goes on from there."
        )

    def _describe(self) -> str:
        """All that votes depend on besides inputs, seed and plan; "" if it is unknown."""
        voters, shape = self.voters, self.X.shape[1:]  # keys know but the bytes of inputs
        settings = run_settings(voters.net)
        parts = STREAMS, voters.noise, voters.inference, voters.n_classes, shape, settings
        try:
            with evaluating(voters.net):
                return describe(*_voting_parts(voters.net), *parts)
        except ValueError as error:
            warn_user(
                f"memory keeps no votes of this net and noise: {error} They could not be "
                "told from those of others."
            )
            return ""


class _Tasks:
    """The votes of a plan: those that there are, and the rows that wait for theirs."""

    def __init__(
        self,
        source: VoteSource,
        plan: VoteBudget,
        so_far: NDArray[np.int64] | None,
        bar: VoteBar | None,
    ):
        self.source = source
        self.plan = plan
        self.so_far = so_far
        self.bar = bar
        shape = len(source.X), source.voters.n_classes
        self.selection = np.zeros(shape, dtype=np.int64)
        self.counts = np.zeros(shape, dtype=np.int64) if so_far is None else so_far.copy()
        self.waiting = np.ones(len(source.X), dtype=bool)
        self._names: dict[int, str] = {}

    def take_kept(self) -> None:
        """Take what the store has."""
        for row in range(len(self.waiting)):
            name = self.source.key(*self._named_by(row))
            if name is None:
                return
            self._names[row] = name
            votes = self.source.kept(name, (2, self.counts.shape[1]))
            if votes is not None:
                self.source.rows_kept.add(row)
                self.source.n_kept += self._set(
                    np.array([row]), Votes(votes[:1], votes[1:])
                )

    def _named_by(self, row: int) -> tuple[Any, ...]:
        """What the votes of an input depend on besides the net and the noise."""
        plan, rule = self.plan, self.plan.rule
        known = None if self.so_far is None else self.so_far[row]
        parts = (
            self.source.keys[row],
            plan.n_selection,
            plan.n_estimation,
            plan.n_views,
            known,
        )
        if rule is None:
            return parts
        reach = None if rule.reach is None else rule.reach[min(row, len(rule.reach) - 1)]
        bound = type(rule.bound).__name__, rule.bound.get_params()
        return *parts, bound, rule.norm, rule.dim, rule.alpha, rule.n_classes, reach

    def parts(self) -> Iterator[NDArray[np.int64]]:
        """Rows that wait, some at a time: no worker shall wait long for the others."""
        rows = np.flatnonzero(self.waiting)
        if not len(rows):
            return
        jobs = effective_n_jobs(self.source.n_jobs)
        size = max(_TASK_BYTES // self.source.X[0].nbytes, 1)
        if jobs > 1 or self.source.store is not None:
            size = min(size, self.plan.task_size)
        if jobs > 1:
            size = min(size, -(-len(rows) // (jobs * TASKS_PER_JOB)))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def task(self, rows: NDArray[np.int64]) -> tuple[Any, ...]:
        """Inputs, keys, plan and votes so far of some rows."""
        # Inputs that are read as needed are read here, and only these are sent.
        X = np.stack([np.asarray(self.source.X[row]) for row in rows])
        known = None if self.so_far is None else self.so_far[rows]
        return X, self.source.keys[rows], self.plan.of(rows), known

    def add(self, rows: NDArray[np.int64], votes: Votes) -> None:
        """Take, and keep, the votes of a task."""
        self._set(rows, votes)
        if votes.interrupted:
            return
        both = np.stack([votes.selection, votes.counts], axis=1)
        for row, part in zip(rows.tolist(), both, strict=True):
            if self.source.keep(self._names.get(row), part):
                self.source.rows_kept.add(row)

    def _set(self, rows: NDArray[np.int64], votes: Votes) -> int:
        """Number of votes that came."""
        before = int(self.counts[rows].sum())
        self.selection[rows], self.counts[rows] = votes.selection, votes.counts
        self.waiting[rows] = False
        new = int(votes.counts.sum()) - before
        if self.bar is not None:
            self.bar.advance(len(rows), new)
        return new if self.plan.n_views else new + int(votes.selection.sum())


def _voting_parts(net: Any) -> tuple[Any, ...]:
    """What of a net its votes may depend on: wrapper, what it knows itself, and modules."""
    modules = [(name, getattr(net, f"{name}_")) for name in net._modules]
    return type(net), own_state(net), modules, learned_criteria(net)


def _even_parts(requests: Requests, n_parts: int) -> Iterator[Requests]:
    """Consecutive requests with about equal numbers of votes."""
    votes = np.cumsum(requests.stops - requests.starts)
    edges = np.searchsorted(votes, votes[-1] * np.arange(1, n_parts) / n_parts)
    for part in np.split(np.arange(len(requests.rows)), edges):
        if len(part):
            yield Requests(*(each[part] for each in requests))
