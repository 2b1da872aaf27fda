"""The votes of a batch of inputs, drawn in this process or in several."""

import copy
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, Self
from weakref import WeakKeyDictionary

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils import gen_even_slices

from rs4a.exceptions import CertificationWarning
from rs4a.inference import Inference
from rs4a.nets import net_device
from rs4a.noises import Noise
from rs4a.sampling import Phase, Requests, Voters, stream_keys

__all__ = ["Ballot", "find_batch_size"]

#: Tasks a worker: enough that no worker waits long for the last one.
_TASKS_PER_JOB = 4
#: Sizes that "auto" tries, and the gain in speed that is worth a larger one.
_AUTO_SIZES = tuple(2**k for k in range(6, 17))
_WORTH = 1.05
#: What "auto" found, by net and then by what else it depends on.
_FOUND: WeakKeyDictionary[Any, dict[tuple[Any, ...], int]] = WeakKeyDictionary()


class Ballot:
    """Inputs that are voted on; a context manager.

    Parameters
    ----------
    voters : Voters
        Net and noise; not opened.

    X : ndarray of shape (n, ...), float32
        Inputs.

    keys : ndarray of shape (n, 3), uint64
        From `stream_keys`.

    n_jobs : int or None
        Workers, in joblib's sense.
    """

    def __init__(
        self,
        voters: Voters,
        X: NDArray[np.float32],
        keys: NDArray[np.uint64],
        n_jobs: int | None,
    ):
        self.voters = voters
        self.X = X
        self.keys = keys
        self.n_jobs = n_jobs
        self._opened: Voters | None = None

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened = None
        self._stack.close()

    def _here(self) -> Voters:
        """The voters of this process, opened where they are needed first."""
        if self._opened is None:
            self._opened = self._stack.enter_context(copy.copy(self.voters))
        return self._opened

    def fixed(
        self,
        n_votes: int,
        phase: Phase,
        progress: Callable[[int], object] | None = None,
    ) -> NDArray[np.int64]:
        """Votes of every input.

        Parameters
        ----------
        n_votes : int
            Votes an input.

        phase : Phase
            Selection or estimation.

        progress : callable, default=None
            Called with numbers of votes as they come.

        Returns
        -------
        counts : ndarray of shape (n, n_classes), int64
            Votes.
        """
        options: dict[str, Any] = {"n_votes": n_votes, "phase": phase}
        jobs = effective_n_jobs(self.n_jobs)
        if jobs == 1:
            return self._here().fixed(self.X, self.keys, progress=progress, **options)
        shards = gen_even_slices(len(self.X), min(len(self.X), jobs * _TASKS_PER_JOB))
        return self._gather(
            (("fixed", self.X[shard], self.keys[shard], options) for shard in shards),
            progress,
        )

    def requested(self, requests: Requests) -> NDArray[np.int64]:
        """Some votes of some inputs.

        Parameters
        ----------
        requests : Requests
            Which ones.

        Returns
        -------
        counts : ndarray of shape (n_requests, n_classes), int64
            Votes.
        """
        total = int((requests.stops - requests.starts).sum())
        # Less than some batches a worker are not worth handing out.
        jobs = effective_n_jobs(self.n_jobs)
        if jobs == 1 or total < 2 * jobs * self.voters.batch_size:
            return self._here().requested(self.X, self.keys, requests=requests)
        return self._gather(
            ("requested", self.X, self.keys, {"requests": part})
            for part in _even_parts(requests, jobs)
        )

    def _gather(
        self,
        tasks: Iterable[tuple[Any, ...]],
        progress: Callable[[int], object] | None = None,
    ) -> NDArray[np.int64]:
        parts = []
        for counts in Parallel(n_jobs=self.n_jobs, return_as="generator")(
            delayed(_vote)(self.voters, *task) for task in tasks
        ):
            parts.append(counts)
            if progress is not None:
                progress(int(counts.sum()))
        return np.concatenate(parts)


def _vote(
    voters: Voters,
    method: str,
    X: NDArray[np.float32],
    keys: NDArray[np.uint64],
    options: dict[str, Any],
) -> NDArray[np.int64]:
    """Votes that a worker draws; one in a thread gets voters of its own."""
    with copy.copy(voters) as opened:
        counts: NDArray[np.int64] = getattr(opened, method)(X, keys, **options)
        return counts


def _even_parts(requests: Requests, n_parts: int) -> Iterator[Requests]:
    """Consecutive requests with about equal numbers of votes."""
    votes = np.cumsum(requests.stops - requests.starts)
    edges = np.searchsorted(votes, votes[-1] * np.arange(1, n_parts) / n_parts)
    for part in np.split(np.arange(len(requests.rows)), edges):
        if len(part):
            yield Requests(*(each[part] for each in requests))


def find_batch_size(
    net: Any, noise: Noise, inference: Inference | None, X: NDArray[np.float32]
) -> int:
    """Smallest batch size that a larger one hardly makes faster.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    noise : Noise
        Smoothing noise.

    inference : Inference or None
        How the net is run.

    X : ndarray of shape (n, ...), float32
        Inputs, of which the first is tried.

    Returns
    -------
    batch_size : int
        A power of two from 64 to 65536 that fits into memory.
    """
    if inference is not None and inference.compile:  # each size would be compiled
        inference = clone(inference).set_params(compile=False)
    known = _FOUND.setdefault(net, {})
    key = (X.shape[1:], str(inference), str(noise), str(net_device(net)))
    if key not in known:
        known[key] = _fastest_size(
            lambda size: Voters(net, noise, inference, n_classes=1, batch_size=size), X
        )
    return known[key]


def _fastest_size(make_voters: Callable[[int], Voters], X: NDArray[np.float32]) -> int:
    best, best_rate = _AUTO_SIZES[0], 0.0
    for size in _AUTO_SIZES:
        with warnings.catch_warnings(record=True) as too_large, make_voters(size) as voters:
            warnings.simplefilter("always", CertificationWarning)
            rate = size / min(_seconds(voters, X[:1], size) for _ in range(3))
        if any(issubclass(each.category, CertificationWarning) for each in too_large):
            break
        if rate < _WORTH * best_rate:
            break
        best, best_rate = size, rate
    return best


def _seconds(voters: Voters, X: NDArray[np.float32], size: int) -> float:
    """Time of one batch, drawing and counting included."""
    start = time.perf_counter()
    voters.fixed(X, stream_keys(X, 0), n_votes=size, phase=Phase.SELECTION)
    return time.perf_counter() - start
