"""Votes: how often a net assigns each class to noisy copies of every input.

Noise comes in blocks. The generator of a block depends on the caller's seed, the bytes of
the input, the phase (selection or estimation) and the position of the block. So the votes
of an input depend neither on the batch size, nor on the other inputs, nor on their order.
Blocks of several inputs share forward passes. Under deterministic noise blocks hold views,
and every view votes.

On a CPU every core draws blocks and classifies them with a copy of the net that shares its
weights. torch draws on one thread only: like this no core waits for another.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn import get_config, set_config

from rs4a.nets.inference import Inference
from rs4a.nets.outputs import (
    evaluating,
    infer_scores,
    net_device,
    voting_nets,
    without_gradients,
)
from rs4a.noises import Noise
from rs4a.voting.batch_independence import ChangeDetector
from rs4a.voting.batches import Job, noisy_batches
from rs4a.voting.blocks import (
    Block,
    Phase,
    Requests,
    dim_of,
    draw_blocks,
    drawer,
    even_edges,
    look_edges,
    sent,
    shared_blocks,
    tuning_of,
)
from rs4a.voting.tally import Tally, pad

#: Another thread starts from this number of votes on.
_VOTES_PER_THREAD = 512


@dataclass(eq=False)
class Voters:
    """A net that is ready to vote, in several threads; a context manager.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net; its outputs are (batch, C) with C at least the number of classes.
        The context switches it to evaluation mode, and back at the end.

    noise : Noise
        Smoothing noise, drawn on the net's device.

    inference : Inference or None
        Settings of the forward passes. None: the net runs as it is.

    n_classes : int
        Only the first `n_classes` outputs are compared.

    batch_size : int
        Noisy inputs in the forward passes that run at a time. The votes do not depend
        on it.

    detector : ChangeDetector, default=None
        Detects whether the nets of this process change while they vote.

    Warns
    -----
    CertificationWarning
        If a batch did not fit into memory and smaller ones are used.
    """

    net: Any
    noise: Noise
    inference: Inference | None
    n_classes: int
    batch_size: int
    detector: ChangeDetector | None = None
    #: Size of the largest forward pass that fits into memory, once one did not.
    _largest_pass: list[int] = field(default_factory=list)

    def __enter__(self) -> Self:
        compiled = self.inference is not None and self.inference.compile
        on_cpu = net_device(self.net).type == "cpu"
        several = on_cpu and not compiled and getattr(self.net, "takes_threads", True)
        n_threads = torch.get_num_threads() if several else 1
        with ExitStack() as stack:
            stack.enter_context(evaluating(self.net))
            self._nets = voting_nets(self.net, self.inference, n_threads)
            if len(self._nets) > 1:
                self._pool = stack.enter_context(_single_threads(len(self._nets)))
            self._stack = stack.pop_all()
        #: Answers of each net that has voted, before its votes.
        self._before: list[torch.Tensor] = []
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *error: object) -> None:
        try:
            if self.detector is not None and kind is None:
                for net, before in zip(self._nets, self._before, strict=False):
                    self.detector.compare(before, self._answers(net, self.detector))
        finally:
            self._stack.close()
            del self._nets, self._before

    def _answers(self, net: Any, detector: ChangeDetector) -> torch.Tensor:
        batch = detector.copies
        if self.inference is not None and self.inference.compile:
            # Of the size of tie batches, which is compiled anyway.
            batch = pad(batch, tuning_of(net_device(net)).tie_batch)
        with _voting(net):
            return infer_scores(net, batch, self.n_classes)[: len(detector.copies)]

    def fixed(
        self,
        X: NDArray[np.float32],
        keys: NDArray[np.uint64] | None,
        *,
        n_votes: int,
        phase: Phase,
        progress: Callable[[int], object] | None = None,
    ) -> NDArray[np.int64]:
        """Count the classes that the net gives to a fixed number of noisy copies.

        Parameters
        ----------
        X : ndarray of shape (n, ...), float32
            Inputs.

        keys : ndarray of shape (n, 3), uint64, or None
            From `stream_keys`. None: the noise is deterministic, and copies are its views.

        n_votes : int
            Votes per input.

        phase : Phase
            Selection and estimation votes come from different streams.

        progress : callable, default=None
            Called after every forward pass with its number of votes.

        Returns
        -------
        counts : ndarray of shape (n, n_classes), int64
            Votes; every row sums to `n_votes`.

        Raises
        ------
        ValueError
            If the net's outputs have another shape or hold NaN.
        """
        requests = Requests.first(len(X), n_votes)
        edges = even_edges(n_votes, dim_of(X), net_device(self.net))
        return self._count(X, requests, edges, keys, phase, progress)

    def requested(
        self, X: NDArray[np.float32], keys: NDArray[np.uint64], requests: Requests
    ) -> NDArray[np.int64]:
        """Count some of the estimation votes of some inputs.

        A vote depends on its input, the seed and its number alone: so votes can be drawn
        in parts, and a part that was drawn need not be drawn again.

        Parameters
        ----------
        X : ndarray of shape (n, ...), float32
            Inputs.

        keys : ndarray of shape (n, 3), uint64
            From `stream_keys`.

        requests : Requests
            Numbers of the votes.

        Returns
        -------
        counts : ndarray of shape (n_requests, n_classes), int64
            Votes, in the order of the requests.

        Raises
        ------
        ValueError
            If the net's outputs have another shape or hold NaN.
        """
        n_votes = int(requests.stops.max(initial=0))
        edges = look_edges(n_votes, dim_of(X), net_device(self.net))
        return self._count(X, requests, edges, keys)

    def _count(
        self,
        X: NDArray[np.float32],
        requests: Requests,
        edges: list[int],
        keys: NDArray[np.uint64] | None = None,
        phase: Phase = Phase.ESTIMATION,
        progress: Callable[[int], object] | None = None,
    ) -> NDArray[np.int64]:
        """Share the blocks among threads, and add up the counts of the threads."""
        blocks = draw_blocks(X, requests, edges, keys, phase, net_device(self.net))
        n_votes = int((requests.stops - requests.starts).sum())
        inference = self.inference or Inference()
        batch_size = self.batch_size
        if not inference.compile:
            batch_size = min(batch_size, max(n_votes, 1))
        n_threads = max(min(len(self._nets), -(-n_votes // _VOTES_PER_THREAD)), 1)
        work = Job(
            drawer(self.noise, X),
            len(requests.rows),
            self.n_classes,
            batch_size=max(batch_size // n_threads, 1),
            inference=inference,
            largest_pass=self._largest_pass,
            progress=progress,
        )
        if self.detector is not None:
            for net in self._nets[len(self._before) : n_threads]:
                self._before.append(self._answers(net, self.detector))
        if n_threads == 1:
            return _count_blocks(self._nets[0], blocks, work)
        lock = threading.Lock()
        futures = [
            self._pool.submit(_count_blocks, net, shared_blocks(blocks, lock), work)
            for net in self._nets[:n_threads]
        ]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            with lock:  # after an error, the other threads end with their batch
                blocks.close()
            wait(futures)
        return np.sum([future.result() for future in futures], axis=0)


# The threads


def _single_threads(n_threads: int) -> ThreadPoolExecutor:
    """Threads with the caller's configuration, whose torch operations start no others."""
    cores, config = torch.get_num_threads(), get_config()

    def configure() -> None:
        torch.set_num_threads(1)
        set_config(**config)  # threads do not inherit it

    pool = ThreadPoolExecutor(n_threads, initializer=configure)
    all_there = threading.Barrier(n_threads)
    list(pool.map(lambda _: all_there.wait(), range(n_threads)))
    torch.set_num_threads(cores)  # the last setting is also that of later threads
    return pool


@contextmanager
def _voting(net: Any) -> Iterator[None]:
    """Modes of a thread; `inference` alone decides about half precision."""
    with without_gradients(), torch.autocast(net_device(net).type, enabled=False):
        yield


def _count_blocks(net: Any, blocks: Iterable[Block], work: Job) -> NDArray[np.int64]:
    """Draw and classify all blocks, in full batches."""
    with _voting(net):
        tally = Tally(net, work)
        for rows, noisy in noisy_batches(work, blocks):
            tally.add(sent(rows, noisy.device), noisy)
            if work.progress is not None:
                work.progress(int((rows < work.n_rows).sum()))
        tally.settle()
    return tally.counts[: work.n_rows].cpu().numpy()
