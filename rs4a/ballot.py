"""The votes of all inputs: drawn here or by workers, and kept where that is asked for."""

import copy
import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple, Self

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray

from rs4a.nets import fingerprint, net_device, roots
from rs4a.progress import VoteBar
from rs4a.sampling import Requests, Voters
from rs4a.utils.params import to_json
from rs4a.utils.source import class_code
from rs4a.vote_plans import VotePlan, Votes, draw_votes
from rs4a.vote_store import VoteStore
from rs4a.workers import TASKS_PER_JOB, Workers, request_in_worker, vote_in_worker

__all__ = ["Ballot"]

#: Bytes of a shard's inputs, at most: they are sent to workers, and held in memory.
_SHARD_BYTES = 2**23


class _Shard(NamedTuple):
    """Consecutive inputs that are voted on together, and the key of their votes."""

    rows: slice
    key: str


class Ballot:
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
        Where votes of finished shards are kept. None: nowhere.
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
        #: Votes that were found in the store.
        self.n_kept = 0
        self._opened: Voters | None = None
        self._identity: str | None = None

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._workers = self._stack.enter_context(Workers(self.voters, self.n_jobs))
        return self

    def __exit__(self, *error: object) -> None:
        self._opened = None
        self._stack.close()

    def _here(self) -> Voters:
        """The voters of this process, opened where they are needed first."""
        if self._opened is None:
            self._opened = self._stack.enter_context(copy.copy(self.voters))
        return self._opened

    # All votes of a plan

    def votes(
        self,
        plan: VotePlan,
        *,
        so_far: NDArray[np.int64] | None = None,
        bar: VoteBar | None = None,
    ) -> Votes:
        """Votes of every input.

        They are the same however they are drawn: at once, or shard by shard where there
        are several workers or a store.

        Parameters
        ----------
        plan : VotePlan
            What votes they get.

        so_far : ndarray of shape (n, n_classes), int64, default=None
            Estimation votes to go on from, where they stop when they suffice.

        bar : VoteBar, default=None
            Shows how far it is.

        Returns
        -------
        votes : Votes
            Votes; after an interruption, inputs whose turn did not come have none.
        """
        if self.store is None and effective_n_jobs(self.n_jobs) == 1:
            plan, X = plan.of(slice(None)), self.X
            return draw_votes(self._here(), X, self.keys, plan, so_far=so_far, bar=bar)
        shape = len(self.X), self.voters.n_classes
        gathered = Votes(np.zeros(shape, np.int64), np.zeros(shape, np.int64))
        waiting = self._without_kept(plan, so_far, gathered, bar)
        interrupted = False
        try:
            for shard, votes in self._drawn(waiting, plan, so_far):
                self._add(gathered, shard, votes, bar)
                if votes.interrupted:
                    raise KeyboardInterrupt
                if self.store is not None:
                    self.store.save(
                        shard.key, {"selection": votes.selection, "counts": votes.counts}
                    )
        except KeyboardInterrupt:
            if plan.rule is None:
                raise
            interrupted = True
        return gathered._replace(interrupted=interrupted)

    def _without_kept(
        self,
        plan: VotePlan,
        so_far: NDArray[np.int64] | None,
        gathered: Votes,
        bar: VoteBar | None,
    ) -> list[_Shard]:
        """Shards that are not in the store; the votes of the others are gathered."""
        waiting = []
        for shard in self._shards(plan, so_far):
            kept = self.store.load(shard.key) if self.store is not None else None
            if kept is None:
                waiting.append(shard)
            else:
                self._add(gathered, shard, Votes(kept["selection"], kept["counts"]), bar)
                self.n_kept += int(kept["counts"].sum())
        return waiting

    def _add(
        self, gathered: Votes, shard: _Shard, votes: Votes, bar: VoteBar | None
    ) -> None:
        gathered.selection[shard.rows] = votes.selection
        gathered.counts[shard.rows] = votes.counts
        if bar is not None:
            bar.advance(len(votes.counts), int(votes.counts.sum()))

    def _shards(self, plan: VotePlan, so_far: NDArray[np.int64] | None) -> Iterator[_Shard]:
        size = min(plan.shard_size, max(_SHARD_BYTES // self.X[0].nbytes, 1))
        if self.store is None:  # nothing to be found again: no worker shall wait for others
            n_tasks = effective_n_jobs(self.n_jobs) * TASKS_PER_JOB
            size = min(size, -(-len(self.X) // n_tasks))
        for start in range(0, len(self.X), size):
            rows = slice(start, min(start + size, len(self.X)))
            parts = [self.keys[rows].tobytes()]
            if plan.rule is not None:
                known = None if so_far is None else so_far[rows]
                parts += [_bytes(plan.rule.of(rows).reach), _bytes(known)]
            yield _Shard(rows, "" if self.store is None else self._key(plan, *parts))

    # Who draws

    def _drawn(
        self, shards: list[_Shard], plan: VotePlan, so_far: NDArray[np.int64] | None
    ) -> Iterator[tuple[_Shard, Votes]]:
        """Votes of shards, as they come."""
        if effective_n_jobs(self.n_jobs) == 1:
            for shard in shards:
                task = self._task(shard, plan, so_far)
                yield shard, draw_votes(self._here(), *task[:3], so_far=task[3])
            return
        tasks = [partial(self._task, shard, plan, so_far) for shard in shards]
        for index, votes in self._workers.results(vote_in_worker, tasks):
            yield shards[index], votes

    def _task(
        self, shard: _Shard, plan: VotePlan, so_far: NDArray[np.int64] | None
    ) -> tuple[Any, ...]:
        known = None if so_far is None else so_far[shard.rows]
        # Inputs that are read as needed are read here, and only these are sent.
        X = np.asarray(self.X[shard.rows])
        return X, self.keys[shard.rows], plan.of(shard.rows), known

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
        if self.store is None:
            return self._drawn_requests(requests)
        key = self._key(
            None, self.keys[requests.rows].tobytes(), *(part.tobytes() for part in requests)
        )
        kept = self.store.load(key)
        if kept is None:
            counts = self._drawn_requests(requests)
            self.store.save(key, {"counts": counts})
            return counts
        self.n_kept += int(kept["counts"].sum())
        return kept["counts"]

    def _drawn_requests(self, requests: Requests) -> NDArray[np.int64]:
        # Less than some batches a worker are not worth handing out.
        total = int((requests.stops - requests.starts).sum())
        jobs = effective_n_jobs(self.n_jobs)
        if jobs == 1 or total < 2 * jobs * self.voters.batch_size:
            return self._here().requested(self.X, self.keys, requests=requests)
        n_bytes = len(requests.rows) * self.X[0].nbytes
        parts = _even_parts(requests, max(jobs, -(-n_bytes // _SHARD_BYTES)))
        tasks = [partial(self._inputs_of, part) for part in parts]
        found = dict(self._workers.results(request_in_worker, tasks))
        return np.concatenate([found[index] for index in range(len(tasks))])

    def _inputs_of(self, requests: Requests) -> tuple[Any, ...]:
        """Inputs of some requests, and the requests with the rows that they have there."""
        rows, places = np.unique(requests.rows, return_inverse=True)
        X = np.stack([np.asarray(self.X[row]) for row in rows])
        return X, self.keys[rows], requests._replace(rows=places)

    # What votes depend on

    def _key(self, plan: VotePlan | None, *parts: bytes) -> str:
        if self._identity is None:
            self._identity = _identity(self.voters)
        digest = hashlib.blake2b(digest_size=20)
        for part in (self._identity.encode(), _described(plan).encode(), *parts):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.hexdigest()


def _even_parts(requests: Requests, n_parts: int) -> Iterator[Requests]:
    """Consecutive requests with about equal numbers of votes."""
    votes = np.cumsum(requests.stops - requests.starts)
    edges = np.searchsorted(votes, votes[-1] * np.arange(1, n_parts) / n_parts)
    for part in np.split(np.arange(len(requests.rows)), edges):
        if len(part):
            yield Requests(*(each[part] for each in requests))


def _bytes(array: NDArray | None) -> bytes:
    return b"" if array is None else np.ascontiguousarray(array).tobytes()


def _identity(voters: Voters) -> str:
    """All that votes depend on, besides inputs, seed and plan."""
    net, noise, inference = voters.net, voters.noise, voters.inference
    parts = [
        type(net),
        type(noise),
        *(type(m) for root in roots(net) for m in root.modules()),
    ]
    return json.dumps(
        {
            "format": 1,
            "net": fingerprint(net),
            "noise": to_json(noise),
            "inference": None if inference is None else to_json(inference),
            "n_classes": voters.n_classes,
            "code": sorted({class_code(part) for part in parts}),
            "device": net_device(net).type,
            "versions": [version(name) for name in ("torch", "torchvision")],
        }
    )


def _described(plan: VotePlan | None) -> str:
    if plan is None:
        return "requested"
    rule = plan.rule
    stopping = None
    if rule is not None:
        stopping = [to_json(rule.bound), rule.norm, rule.dim, rule.alpha, rule.n_classes]
    return json.dumps([plan.n_selection, plan.n_estimation, plan.n_views, stopping])
