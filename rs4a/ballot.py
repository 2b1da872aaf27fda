"""The votes of a batch of inputs, drawn in this process or in several."""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
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
from rs4a.sampling import Phase, Requests, count_requests, count_votes, stream_keys

__all__ = ["Ballot", "find_batch_size"]

#: Tasks a worker: enough that no worker waits long for the last one.
_TASKS_PER_JOB = 4
#: Sizes that "auto" tries, and the gain in speed that is worth a larger one.
_AUTO_SIZES = tuple(2**k for k in range(6, 17))
_WORTH = 1.05
#: What "auto" found, by net and then by what else it depends on.
_FOUND: WeakKeyDictionary[Any, dict[tuple[Any, ...], int]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Ballot:
    """Who votes on what: everything that votes depend on, and how they are drawn.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    inference : Inference or None
        How it is run.

    noise : Noise
        Smoothing noise.

    X : ndarray of shape (n, ...), float32
        Inputs.

    keys : ndarray of shape (n, 3), uint64
        From `stream_keys`.

    n_classes : int
        Number of classes.

    batch_size : int
        Noisy inputs in one forward pass.

    n_jobs : int or None
        Workers, in joblib's sense.
    """

    net: Any
    inference: Inference | None
    noise: Noise
    X: NDArray[np.float32]
    keys: NDArray[np.uint64]
    n_classes: int
    batch_size: int
    n_jobs: int | None

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
        options = {**self._options, "n_votes": n_votes, "phase": phase}
        jobs = effective_n_jobs(self.n_jobs)
        if jobs == 1:
            return count_votes(X=self.X, keys=self.keys, progress=progress, **options)
        shards = list(gen_even_slices(len(self.X), min(len(self.X), jobs * _TASKS_PER_JOB)))
        return self._gather(
            (
                delayed(count_votes)(X=self.X[s], keys=self.keys[s], **options)
                for s in shards
            ),
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
        options = {**self._options, "X": self.X, "keys": self.keys}
        total = int((requests.stops - requests.starts).sum())
        # Less than some batches a worker are not worth handing out.
        jobs = min(effective_n_jobs(self.n_jobs), total // (2 * self.batch_size))
        if jobs <= 1:
            return count_requests(requests=requests, **options)
        return self._gather(
            delayed(count_requests)(requests=part, **options)
            for part in _even_parts(requests, jobs)
        )

    @property
    def _options(self) -> dict[str, Any]:
        return {
            "net": self.net,
            "inference": self.inference,
            "noise": self.noise,
            "n_classes": self.n_classes,
            "batch_size": self.batch_size,
        }

    def _gather(
        self, tasks: Iterable[Any], progress: Callable[[int], object] | None = None
    ) -> NDArray[np.int64]:
        parts = []
        for counts in Parallel(n_jobs=self.n_jobs, return_as="generator")(tasks):
            parts.append(counts)
            if progress is not None:
                progress(int(counts.sum()))
        return np.concatenate(parts)


def _even_parts(requests: Requests, n_parts: int) -> Iterator[Requests]:
    """Consecutive requests with about equal numbers of votes."""
    votes = np.cumsum(requests.stops - requests.starts)
    edges = np.searchsorted(votes, votes[-1] * np.arange(1, n_parts) / n_parts)
    for part in np.split(np.arange(len(requests.rows)), edges):
        if len(part):
            yield Requests(*(each[part] for each in requests))


def find_batch_size(
    net: Any, inference: Inference | None, noise: Noise, X: NDArray[np.float32]
) -> int:
    """Smallest batch size that a larger one hardly makes faster.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    inference : Inference or None
        How it is run.

    noise : Noise
        Smoothing noise.

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
        known[key] = _fastest_size(lambda size: _seconds(net, inference, noise, X, size))
    return known[key]


def _fastest_size(seconds: Callable[[int], float]) -> int:
    best, best_rate = _AUTO_SIZES[0], 0.0
    for size in _AUTO_SIZES:
        with warnings.catch_warnings(record=True) as too_large:
            warnings.simplefilter("always", CertificationWarning)
            rate = size / min(seconds(size) for _ in range(3))
        if any(issubclass(each.category, CertificationWarning) for each in too_large):
            break
        if rate < _WORTH * best_rate:
            break
        best, best_rate = size, rate
    return best


def _seconds(
    net: Any, inference: Inference | None, noise: Noise, X: NDArray[np.float32], size: int
) -> float:
    """Time of one batch, drawing and counting included."""
    start = time.perf_counter()
    count_votes(
        net,
        noise,
        X[:1],
        n_votes=size,
        phase=Phase.SELECTION,
        keys=stream_keys(X[:1], 0),
        n_classes=1,
        batch_size=size,
        inference=inference,
    )
    return time.perf_counter() - start
