"""The votes of all inputs: drawn here or by workers, and kept in a store."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
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
from rs4a.voting.store import VoteStore
from rs4a.voting.voters import Voters
from rs4a.voting.workers import TASKS_PER_JOB, Workers, n_workers

#: Bytes of the inputs of a task, at most: workers get them, and memory holds them.
_TASK_BYTES = 2**23


@dataclass(eq=False)
class VoteSource(ExitStack):
    """Votes on some inputs; a context manager.

    Parameters
    ----------
    voters : Voters
        Net and noise; not opened.

    X : ndarray of shape (n, ...), float32, or LazyInputs
        Inputs.

    keys : ndarray of shape (n, 3), uint64
        From `stream_keys`.

    n_jobs : int or None
        Number of workers, in joblib's sense.

    store : VoteStore
        Keeps the votes, with one entry per input.
    """

    voters: Voters
    X: Any
    keys: NDArray[np.uint64]
    n_jobs: int | None
    store: VoteStore

    def __post_init__(self) -> None:
        super().__init__()
        #: Number of votes that were in the store, of either kind.
        self.n_found = 0
        #: Rows whose votes are in the store.
        self.rows_kept: set[int] = set()

    @cached_property
    def _here(self) -> Voters:
        """The voters of this process."""
        return self.enter_context(copy.copy(self.voters))

    @cached_property
    def _workers(self) -> Workers:
        return self.enter_context(Workers(self.voters, self.n_jobs))

    # All votes of a budget

    def votes(
        self,
        budget: VoteBudget,
        *,
        so_far: NDArray[np.int64] | None = None,
        bar: VoteBar | None = None,
    ) -> Votes:
        """Votes of every input.

        The votes are the same whether they are drawn at once or task by task. Tasks are
        for workers, for a store, and for inputs that each look would read again.

        Parameters
        ----------
        budget : VoteBudget
            Votes that every input gets.

        so_far : ndarray of shape (n, n_classes), int64, default=None
            Estimation votes to continue from, under a stopping rule.

        bar : VoteBar, default=None
            Shows the progress.

        Returns
        -------
        votes : Votes
            After an interruption, inputs without new votes have the votes `so_far`.
        """
        read_once = budget.rule is None or isinstance(self.X, np.ndarray)
        if read_once and self.store.folder is None and n_workers(self.n_jobs) == 1:
            return draw_votes(self._here, self.X, self.keys, budget, so_far, bar)
        votes = np.zeros((len(self.X), 2, self.voters.n_classes), dtype=np.int64)
        if so_far is not None:
            votes[:, 1] = so_far
        interrupted = False
        try:
            for rows, new in self._found_or_drawn(budget, so_far):
                n_new = int(new[:, 1].sum() - votes[rows, 1].sum())
                votes[rows] = new
                if bar is not None:
                    bar.advance(len(rows), n_new)
        except KeyboardInterrupt as error:
            if budget.rule is None:
                if kept := self.kept_in_words():
                    error.add_note(kept)
                raise
            interrupted = True
        return Votes(votes[:, 0], votes[:, 1], interrupted)

    def _found_or_drawn(
        self, budget: VoteBudget, so_far: NDArray[np.int64] | None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Yield rows, and their selection and estimation votes in the middle axis."""
        names = list(self._names(budget, so_far))
        shape = 2, self.voters.n_classes
        loaded = ((row, self.store.load(name, shape)) for row, name in enumerate(names))
        found = {row: votes for row, votes in loaded if votes is not None}
        self.rows_kept.update(found)
        if found:
            rows, new = np.array(list(found)), np.stack(list(found.values()))
            n_before = 0 if so_far is None else int(so_far[rows].sum())
            # Views are selection and estimation votes at once.
            self.n_found += (int(new.sum()) - n_before) // (2 if budget.n_views else 1)
            yield rows, new
        waiting = np.setdiff1d(np.arange(len(names)), list(found))
        for rows, votes in self._drawn(budget, so_far, waiting):
            new = np.stack([votes.selection, votes.counts], axis=1)
            yield rows, new
            if votes.interrupted:
                raise KeyboardInterrupt
            for row, part in zip(rows.tolist(), new, strict=True):
                if self.store.save(names[row], part):
                    self.rows_kept.add(row)

    def _drawn(
        self,
        budget: VoteBudget,
        so_far: NDArray[np.int64] | None,
        waiting: NDArray[np.int64],
    ) -> Iterator[tuple[NDArray[np.int64], Votes]]:
        """Votes of tasks, as soon as they arrive."""
        if not len(waiting):
            return
        jobs = n_workers(self.n_jobs)
        size = max(_TASK_BYTES // self.X[0].nbytes, 1)
        if jobs > 1 or self.store.folder is not None:
            size = min(size, budget.task_size)
        if jobs > 1:  # so that no worker waits long for another
            size = min(size, -(-len(waiting) // (jobs * TASKS_PER_JOB)))
        parts = [waiting[start : start + size] for start in range(0, len(waiting), size)]
        tasks = [partial(self._task, budget, so_far, rows) for rows in parts]
        results = (
            self._workers.results(draw_votes, tasks)
            if jobs > 1
            else enumerate(draw_votes(self._here, *task()) for task in tasks)
        )
        for index, votes in results:
            yield parts[index], votes

    def _task(
        self,
        budget: VoteBudget,
        so_far: NDArray[np.int64] | None,
        rows: NDArray[np.int64],
    ) -> tuple[Any, ...]:
        """Arguments of `draw_votes` for some rows, whose inputs are read here."""
        known = None if so_far is None else so_far[rows]
        return self._read(rows), self.keys[rows], budget.of(rows), known

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.stack([np.asarray(self.X[row]) for row in rows])

    # Some votes

    def requested(self, requests: Requests) -> NDArray[np.int64]:
        """Some estimation votes of some inputs.

        Parameters
        ----------
        requests : Requests
            Numbers of the votes.

        Returns
        -------
        counts : ndarray of shape (n_requests, n_classes), int64
            Votes.
        """
        name = self._name("requests", *requests, self.keys[requests.rows])
        counts = self.store.load(name, (len(requests.rows), self.voters.n_classes))
        if counts is None:
            counts = self._drawn_requests(requests)
            self.store.save(name, counts)
        else:
            self.n_found += int(counts.sum())
        return counts

    def _drawn_requests(self, requests: Requests) -> NDArray[np.int64]:
        # Workers pay off from two batches per worker on.
        total = int((requests.stops - requests.starts).sum())
        jobs = n_workers(self.n_jobs)
        if jobs == 1 or total < 2 * jobs * self.voters.batch_size:
            return self._here.requested(self.X, self.keys, requests)
        n = len(requests.rows)
        n_parts = min(n, max(jobs, -(-n * self.X[0].nbytes // _TASK_BYTES)))
        parts = [Requests(*(each[i::n_parts] for each in requests)) for i in range(n_parts)]
        tasks = [partial(self._requests_task, part) for part in parts]
        counts = np.empty((n, self.voters.n_classes), dtype=np.int64)
        for i, drawn in self._workers.results(Voters.requested, tasks):
            counts[i::n_parts] = drawn
        return counts

    def _requests_task(self, requests: Requests) -> tuple[Any, ...]:
        """Arguments of `Voters.requested`, with the inputs of these requests alone."""
        rows, places = np.unique(requests.rows, return_inverse=True)
        return self._read(rows), self.keys[rows], requests._replace(rows=places)

    # The store

    def _names(self, budget: VoteBudget, so_far: NDArray[np.int64] | None) -> Iterator[str]:
        """Name of the votes of each input."""
        rule = budget.rule
        common: list[Any] = [budget.n_selection, budget.n_estimation, budget.n_views]
        reaches = None
        if rule is not None:
            common += [type(rule.bound).__name__, rule.bound.get_params()]
            common += [rule.norm, rule.dim, rule.alpha, rule.n_classes]
            reaches = rule.reach
        for row, key in enumerate(self.keys):
            known = None if so_far is None else so_far[row]
            reach = None if reaches is None else reaches[min(row, len(reaches) - 1)]
            yield self._name(key, *common, known, reach)

    def _name(self, *parts: Any) -> str:
        """Digest of all that votes depend on; "" where nothing is kept."""
        return describe(self._identity, *parts) if self._identity else ""

    @cached_property
    def _identity(self) -> str:
        """Digest of all but inputs, seed and budget; "" if it is unknown or not needed."""
        if self.store.folder is None:
            return ""
        voters, shape = self.voters, self.X.shape[1:]  # keys hash the bytes, not the shape
        settings = run_settings(voters.net)
        parts = STREAMS, voters.noise, voters.inference, voters.n_classes, shape, settings
        try:
            with evaluating(voters.net):
                return describe(*_voting_parts(voters.net), *parts)
        except ValueError as error:
            warn_user(
                f"memory keeps no votes of this net and noise: {error} Their votes cannot "
                "be told from votes of other nets."
            )
            return ""

    def kept_in_words(self) -> str:
        """What an interruption leaves in the store, in words; "" if nothing."""
        if not self.rows_kept:
            return ""
        return (
            f"memory keeps the votes of {len(self.rows_kept)} of {len(self.X)} inputs, in "
            f"{self.store.folder}: repeat the same call to continue."
        )


def _voting_parts(net: Any) -> tuple[Any, ...]:
    """Parts of a net on which its votes may depend: its class, own state, and modules."""
    modules = [(name, getattr(net, f"{name}_")) for name in net._modules]
    return type(net), own_state(net), modules, learned_criteria(net)
