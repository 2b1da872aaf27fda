"""Votes: how often a net assigns each class to noisy copies of every input.

Noise comes in blocks. A block's generator depends on the caller's seed, the bytes of
its input, the phase (selection or estimation) and its position, so that the votes of an
input depend neither on the batch size, nor on the other inputs, nor on their order.
Blocks of several inputs share forward passes. Deterministic noise has views in their place,
all of which vote.

On a CPU every core draws blocks and classifies them with a copy of the net that shares
its weights: torch draws on one thread only, and so no core waits for another.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from enum import IntEnum
from typing import Any, NamedTuple, Self

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
from rs4a.noises.streams import block_key, generator
from rs4a.utils.user_warnings import warn_user
from rs4a.voting.batch_independence import Watch
from rs4a.voting.stopping import look_schedule

__all__ = ["Phase", "Requests", "Voters"]


class _Tuning(NamedTuple):
    """What depends on the kind of device alone, since votes depend on some of it."""

    #: Numbers in a block, and votes.
    block_numbers: int
    block_votes: int
    #: Size of the batches in which inputs with nearly tied outputs are classified again.
    tie_batch: int
    #: Numbers of inputs that are copied to it at a time, at least those of one input.
    copied_numbers: int
    #: Groups of blocks that are drawn ahead, and batches whose ties are looked for late: a
    #: device that works on its own is given the next before it has done the last.
    ahead: int


#: Blocks that hide their seeding and stay in the cache; each thread works on its own.
_ON_CPU = _Tuning(2**19, 512, tie_batch=64, copied_numbers=0, ahead=0)
#: Blocks that hide the launch of their kernels.
_ON_GPU = _Tuning(2**23, 8192, tie_batch=256, copied_numbers=2**20, ahead=1)
#: Fewest votes for which another thread is worth starting.
_VOTES_PER_THREAD = 512


class Phase(IntEnum):
    """Which votes: those that choose the class, or those that bound its probability."""

    SELECTION = 0
    ESTIMATION = 1


class Requests(NamedTuple):
    """Votes that are asked for: of the input in `rows`, numbers `starts` to `stops`."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


class _Block(NamedTuple):
    """Noisy copies of one input: draws that come from one generator, or views in order.

    `origin` is the key of the generator, or the number of the first view. Only the copies
    number `first` to `last` are counted, in the row `row`.
    """

    row: int
    x: torch.Tensor
    size: int
    origin: int
    first: int
    last: int


#: Fills memory with the noisy copies of a block.
_Drawer = Callable[[_Block, torch.Tensor], object]


class _Work(NamedTuple):
    """What every thread needs to know."""

    draw: _Drawer
    n_rows: int
    n_classes: int
    batch_size: int
    half: bool
    padded: bool
    largest_pass: list[int]
    progress: Callable[[int], object] | None


class Voters:
    """A net that is ready to vote, in several threads; a context manager.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net; its outputs are (batch, C) with C at least the number of classes.
        It is switched to evaluation mode, and back when the context ends.

    noise : Noise
        Smoothing noise, drawn on the net's device.

    inference : Inference or None
        How the net is run. None: as it is.

    n_classes : int
        Only the first `n_classes` outputs are compared.

    batch_size : int
        Noisy inputs in the forward passes that run at a time. The votes do not depend
        on it.

    watch : Watch, default=None
        Notices whether the nets of this process change while they vote. None: nobody asks.

    Warns
    -----
    CertificationWarning
        If a batch did not fit into memory and smaller ones are used.
    """

    def __init__(
        self,
        net: Any,
        noise: Noise,
        inference: Inference | None,
        *,
        n_classes: int,
        batch_size: int,
        watch: Watch | None = None,
    ):
        self.net = net
        self.noise = noise
        self.inference = inference
        self.n_classes = n_classes
        self.batch_size = batch_size
        self.watch = watch
        #: Size of the largest forward pass that fits into memory, once one did not.
        self._largest_pass: list[int] = []

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
        #: Answers to what is watched, of the nets that were to vote so far.
        self._before: list[torch.Tensor] = []
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *error: object) -> None:
        try:
            if self.watch is not None and kind is None:
                for net, before in zip(self._nets, self._before, strict=False):
                    self.watch.compare(before, self._watched_answers(net, self.watch))
        finally:
            self._stack.close()
            del self._nets, self._before

    def _watched_answers(self, net: Any, watch: Watch) -> torch.Tensor:
        batch = watch.copies
        if self.inference is not None and self.inference.compile:
            # A shape that is compiled anyway.
            batch = _pad(batch, _tuning(net_device(net)).tie_batch)
        with _voting(net):
            return infer_scores(net, batch, self.n_classes)[: len(watch.copies)]

    def fixed(
        self,
        X: NDArray[np.float32],
        keys: NDArray[np.uint64],
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

        keys : ndarray of shape (n, 3), uint64
            From `stream_keys`.

        n_votes : int
            Votes an input.

        phase : Phase
            Selection and estimation votes come from different streams.

        progress : callable, default=None
            Called after every forward pass with the number of votes that it gave.

        Returns
        -------
        counts : ndarray of shape (n, n_classes), int64
            Votes; every row sums to `n_votes`.

        Raises
        ------
        ValueError
            If the net's outputs have another shape or hold NaN.
        """
        blocks = _fixed_blocks(X, n_votes, phase, keys, net_device(self.net))
        draw = _random_drawer(self.noise, X)
        return self._count(blocks, draw, len(X) * n_votes, len(X), progress)

    def all_views(
        self,
        X: NDArray[np.float32],
        *,
        progress: Callable[[int], object] | None = None,
    ) -> NDArray[np.int64]:
        """Count the classes that the net gives to all views of deterministic noise.

        Parameters
        ----------
        X : ndarray of shape (n, ...), float32
            Inputs.

        progress : callable, default=None
            Called after every forward pass with the number of votes that it gave.

        Returns
        -------
        counts : ndarray of shape (n, n_classes), int64
            Votes; every row sums to the noise's number of views.

        Raises
        ------
        ValueError
            If the net's outputs have another shape or hold NaN.
        """
        n_views = self.noise.n_views(_dim(X))
        blocks = _view_blocks(X, n_views, net_device(self.net))
        draw = _view_drawer(self.noise, X)
        return self._count(blocks, draw, len(X) * n_views, len(X), progress)

    def requested(
        self, X: NDArray[np.float32], keys: NDArray[np.uint64], *, requests: Requests
    ) -> NDArray[np.int64]:
        """Count some of the estimation votes of some inputs.

        A vote depends on its input, the seed and its number alone, so that votes can be
        drawn in parts, and a part that was drawn need not be drawn again.

        Parameters
        ----------
        X : ndarray of shape (n, ...), float32
            Inputs.

        keys : ndarray of shape (n, 3), uint64
            From `stream_keys`.

        requests : Requests
            Which votes.

        Returns
        -------
        counts : ndarray of shape (n_requests, n_classes), int64
            Votes, in the order of the requests.

        Raises
        ------
        ValueError
            If the net's outputs have another shape or hold NaN.
        """
        blocks = _requested_blocks(X, requests, keys, net_device(self.net))
        total = int((requests.stops - requests.starts).sum())
        draw = _random_drawer(self.noise, X)
        return self._count(blocks, draw, total, len(requests.rows), None)

    def _count(
        self,
        blocks: Iterator[_Block],
        draw: _Drawer,
        n_votes: int,
        n_rows: int,
        progress: Callable[[int], object] | None,
    ) -> NDArray[np.int64]:
        """Share the blocks among threads, and add up what they count."""
        inference = self.inference or Inference()
        batch_size = self.batch_size
        if not inference.compile:
            batch_size = min(batch_size, max(n_votes, 1))
        n_threads = max(min(len(self._nets), -(-n_votes // _VOTES_PER_THREAD)), 1)
        work = _Work(
            draw,
            n_rows,
            self.n_classes,
            batch_size=max(batch_size // n_threads, 1),
            half=inference.dtype is not None,
            padded=bool(inference.compile),  # each shape is compiled anew
            largest_pass=self._largest_pass,
            progress=progress,
        )
        if self.watch is not None:
            for net in self._nets[len(self._before) : n_threads]:
                self._before.append(self._watched_answers(net, self.watch))
        if n_threads == 1:
            return _count_blocks(self._nets[0], blocks, work)
        queue = _Queue(blocks)
        futures = [
            self._pool.submit(_count_blocks, net, queue, work)
            for net in self._nets[:n_threads]
        ]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            queue.close()  # after an error, the other threads end with their batch
            wait(futures)
        return np.sum([future.result() for future in futures], axis=0)


# The blocks


def _fixed_blocks(
    X: NDArray[np.float32],
    n_votes: int,
    phase: Phase,
    keys: NDArray[np.uint64],
    device: torch.device,
) -> Iterator[_Block]:
    largest = _largest_block(_dim(X), device)
    for row, x in enumerate(_on_device(X, np.arange(len(X)), device)):
        for index, start in enumerate(range(0, n_votes, largest)):
            size = min(largest, n_votes - start)
            yield _Block(row, x, size, block_key(keys[row], 2 * index + phase), 0, size)


def _view_blocks(
    X: NDArray[np.float32], n_views: int, device: torch.device
) -> Iterator[_Block]:
    largest = _largest_block(_dim(X), device)
    for row, x in enumerate(_on_device(X, np.arange(len(X)), device)):
        for start in range(0, n_views, largest):
            size = min(largest, n_views - start)
            yield _Block(row, x, size, start, 0, size)


def _requested_blocks(
    X: NDArray[np.float32],
    requests: Requests,
    keys: NDArray[np.uint64],
    device: torch.device,
) -> Iterator[_Block]:
    """Blocks that hold the votes: as long as the steps of `look_schedule` at most."""
    if not len(requests.rows):
        return
    largest = _largest_block(_dim(X), device)
    edges = _block_edges(int(requests.stops.max()), largest)
    inputs = _on_device(X, requests.rows, device)
    for slot, (x, row, start, stop) in enumerate(zip(inputs, *requests, strict=True)):
        index = int(np.searchsorted(edges, start, side="right")) - 1
        while edges[index] < stop:
            begin, size = int(edges[index]), int(edges[index + 1] - edges[index])
            first, last = max(int(start) - begin, 0), min(int(stop) - begin, size)
            key = block_key(keys[row], 2 * index + Phase.ESTIMATION)
            yield _Block(slot, x, size, key, first, last)
            index += 1


def _on_device(
    X: NDArray[np.float32], rows: NDArray[np.int64], device: torch.device
) -> Iterator[torch.Tensor]:
    """Inputs in the order of `rows`; to be read first, maybe, and to be copied."""
    step = max(1, _tuning(device).copied_numbers // _dim(X))
    for start in range(0, len(rows), step):
        some = [np.asarray(X[row]) for row in rows[start : start + step]]
        yield from _sent(np.stack(some), device)


def _sent(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """On the device, which need not have done before what it was given before."""
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _tuning(device: torch.device) -> _Tuning:
    return _ON_CPU if device.type == "cpu" else _ON_GPU


def _dim(X: NDArray[np.float32]) -> int:
    """Number of coordinates of an input."""
    return int(max(X[:1].size, 1))


def _largest_block(dim: int, device: torch.device) -> int:
    """Votes in a block: a power of two."""
    tuning = _tuning(device)
    largest = max(1, min(tuning.block_votes, tuning.block_numbers // dim))
    return 1 << (largest.bit_length() - 1)


def _block_edges(n_votes: int, largest: int) -> NDArray[np.int64]:
    """First votes of the blocks, up to one that ends at `n_votes` or later."""
    looks = look_schedule(2 * n_votes + 64)[:-1]  # the last step may be cut short
    looks = looks[: int(np.searchsorted(looks, n_votes)) + 1]
    steps = np.diff(looks, prepend=0)
    sizes = np.minimum(steps, largest)
    return np.concatenate([[0], np.cumsum(np.repeat(sizes, steps // sizes))])


# The threads


class _Queue:
    """Iterator that threads may share."""

    def __init__(self, items: Iterator[_Block]):
        self._items = items
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[_Block]:
        return self

    def __next__(self) -> _Block:
        with self._lock:
            return next(self._items)

    def close(self) -> None:
        """Leave nothing in it."""
        with self._lock:
            self._items = iter(())


def _single_threads(n_threads: int) -> ThreadPoolExecutor:
    """Threads whose torch operations start no others, configured as the caller's is."""
    cores = torch.get_num_threads()
    pool = ThreadPoolExecutor(n_threads, initializer=_configure, initargs=(get_config(),))
    all_there = threading.Barrier(n_threads)
    list(pool.map(lambda _: all_there.wait(), range(n_threads)))
    torch.set_num_threads(cores)  # the last setting is also what later threads get
    return pool


def _configure(config: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    set_config(**config)  # scikit-learn's own threads do not inherit it either


@contextmanager
def _voting(net: Any) -> Iterator[None]:
    """Modes of a thread. How the net is run is for `inference` to say."""
    unmixed = torch.autocast(net_device(net).type, enabled=False)
    with without_gradients(), unmixed:
        yield


def _count_blocks(net: Any, blocks: Iterable[_Block], work: _Work) -> NDArray[np.int64]:
    """Draw and classify blocks, in full batches, until there are no more."""
    with _voting(net):
        tally = _Tally(net, work)
        for rows, noisy in _noisy_batches(work, blocks):
            tally.add(_sent(rows, noisy.device), noisy)
            if work.progress is not None:
                work.progress(int((rows < work.n_rows).sum()))
        tally.settle()
    return tally.counts[: work.n_rows].cpu().numpy()


# The stream of noisy inputs


def _noisy_batches(
    work: _Work, blocks: Iterable[_Block]
) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
    """Yield full batches of noisy inputs, each with the row that it is a copy of."""
    batch_size = work.batch_size
    rows = np.empty(0, dtype=np.int64)
    left: torch.Tensor | None = None
    for group, buffer in _drawn_groups(work, blocks):
        # The draws begin at batch_size; what the last group left over goes before them.
        first = batch_size - len(rows)
        if left is not None:
            buffer[first:batch_size] = left
        rows = np.concatenate([rows, *(_counted_rows(block, work) for block in group)])
        noisy = buffer[first : first + len(rows)]
        whole = len(rows) - len(rows) % batch_size
        for start in range(0, whole, batch_size):
            yield rows[start : start + batch_size], noisy[start : start + batch_size]
        # A copy: the buffer may be drawn into again before the next group comes.
        rows, left = rows[whole:], noisy[whole:].clone()
    if left is not None and len(rows):
        yield rows, left


def _drawn_groups(
    work: _Work, blocks: Iterable[_Block]
) -> Iterator[tuple[list[_Block], torch.Tensor]]:
    """Draw group after group, each into memory that begins with room for a batch.

    A GPU gets the next draws before the present batch, so that it has work while the
    CPU waits for the answers. As long as ties may be looked for in it, memory is not drawn
    into again.
    """
    waiting: deque[tuple[list[_Block], torch.Tensor]] = deque()
    spent: deque[torch.Tensor] = deque()
    spare: list[torch.Tensor] = []
    for group in _groups(blocks, work.batch_size):
        x = group[0].x
        size = work.batch_size + sum(block.size for block in group)
        buffer = spare.pop() if spare else None
        if buffer is None or len(buffer) < size:
            buffer = torch.empty((size, *x.shape), dtype=x.dtype, device=x.device)
        _draw(work.draw, group, buffer[work.batch_size : size])
        waiting.append((group, buffer))
        ahead = _tuning(x.device).ahead
        if len(waiting) > ahead:
            yield waiting[0]
            spent.append(waiting.popleft()[1])
        if len(spent) > ahead:
            spare.append(spent.popleft())
    yield from waiting


def _groups(blocks: Iterable[_Block], batch_size: int) -> Iterator[list[_Block]]:
    """Blocks that together fill a batch."""
    group: list[_Block] = []
    total = 0
    for block in blocks:
        group.append(block)
        total += block.size
        if total >= batch_size:
            yield group
            group, total = [], 0
    if group:
        yield group


def _counted_rows(block: _Block, work: _Work) -> NDArray[np.int64]:
    """Row of every draw of a block; one beyond the last for what is not counted."""
    rows = np.full(block.size, work.n_rows, dtype=np.int64)
    rows[block.first : block.last] = block.row
    return rows


def _draw(draw: _Drawer, group: list[_Block], out: torch.Tensor) -> None:
    """Fill `out` with the noisy copies of a group of blocks."""
    targets = out.split([block.size for block in group])
    for block, target in zip(group, targets, strict=True):
        draw(block, target)


def _random_drawer(noise: Noise, X: NDArray[np.float32]) -> _Drawer:
    sample = noise.sampler(_dim(X), torch.float32)

    def draw(block: _Block, out: torch.Tensor) -> None:
        copies = block.x.expand(block.size, *block.x.shape)
        sample(copies, generator(block.origin, out.device), out)

    return draw


def _view_drawer(noise: Noise, X: NDArray[np.float32]) -> _Drawer:
    view = noise.viewer(_dim(X), torch.float32)

    def draw(block: _Block, out: torch.Tensor) -> None:
        view(block.x, block.origin, out)

    return draw


# From noisy inputs to counts


class _Unread(NamedTuple):
    """A batch that was classified, and what the device will say of it.

    `report` is two numbers: inputs of it that are in doubt, and NaN that were met so far
    among those in doubt. It is there once the event `ready`, if any, has come.
    """

    rows: torch.Tensor
    noisy: torch.Tensor
    doubtful: torch.Tensor
    report: torch.Tensor
    ready: torch.cuda.Event | None


class _Tally:
    """Counts of the classes of noisy inputs.

    Inputs whose outputs are nearly tied wait until there are enough of them for a batch
    of a fixed size, which decides: so no vote depends on `batch_size`.
    """

    def __init__(self, net: Any, work: _Work):
        self.net = net
        self.n_classes = work.n_classes
        self.half = work.half
        self._padded_size = work.batch_size if work.padded else 0
        device = net_device(net)
        # The last row takes what is not to be counted.
        self.counts = torch.zeros(
            (work.n_rows + 1, work.n_classes), dtype=torch.int64, device=device
        )
        self._tuning = _tuning(device)
        self._largest_pass = work.largest_pass
        self._n_nan = torch.zeros((), dtype=torch.int64, device=device)
        self._unread: deque[_Unread] = deque()
        self._doubtful: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._n_doubtful = 0

    def add(self, rows: torch.Tensor, noisy: torch.Tensor) -> None:
        """Classify a batch of noisy inputs, each a copy of the input in its row."""
        outputs = self._forward(_pad(noisy, self._padded_size))[: len(noisy)]
        clear = _leaders(outputs, self.half) == 1
        self._count(rows, outputs.argmax(dim=1), clear)
        doubtful = ~clear
        report = torch.stack([doubtful.sum(), self._n_nan])
        self._unread.append(_Unread(rows, noisy, doubtful, *_fetched(report)))
        if len(self._unread) > self._tuning.ahead:
            self._read()

    def settle(self) -> None:
        """Classify what is in doubt, and make sure that no output was NaN."""
        while self._unread:
            self._read()
        self._decide()
        _check_no_nan(int(self._n_nan))

    def _read(self) -> None:
        """Set the inputs in doubt of a batch aside, and decide once they are many."""
        rows, noisy, doubtful, report, ready = self._unread.popleft()
        if ready is not None:
            ready.synchronize()
        n_doubtful, n_nan = report.tolist()
        _check_no_nan(n_nan)
        if n_doubtful:
            places = _places(doubtful, n_doubtful)
            self._doubtful.append((rows[places], noisy[places]))
            self._n_doubtful += n_doubtful
            if self._n_doubtful >= self._tuning.tie_batch:
                self._decide()

    def _decide(self) -> None:
        """Classify the inputs that were set aside, in padded batches of a fixed size."""
        if not self._doubtful:
            return
        size = self._tuning.tie_batch
        rows, noisy = (torch.cat(parts) for parts in zip(*self._doubtful, strict=True))
        self._doubtful, self._n_doubtful = [], 0
        for some_rows, some in zip(rows.split(size), noisy.split(size), strict=True):
            outputs = self._forward(_pad(some, size))[: len(some)]
            self._n_nan += outputs.isnan().any(dim=1).sum()
            self._count(some_rows, outputs.argmax(dim=1), torch.ones_like(some_rows))

    def _forward(self, noisy: torch.Tensor) -> torch.Tensor:
        """Outputs, in smaller passes from the first that does not fit into memory on."""
        while True:
            size = min([*self._largest_pass, len(noisy)])
            try:
                return torch.cat([self._infer(part) for part in noisy.split(size)])
            except RuntimeError as error:
                if size == 1 or not _out_of_memory(error):
                    raise
                self._largest_pass[:] = [size // 2]
                warn_user(
                    f"A forward pass of {size} noisy inputs does not fit into memory: "
                    f"passes of {size // 2} are used. Set batch_size to it."
                )
            if noisy.device.type == "cuda":
                torch.cuda.empty_cache()

    def _infer(self, noisy: torch.Tensor) -> torch.Tensor:
        return infer_scores(self.net, noisy, self.n_classes)

    def _count(
        self, rows: torch.Tensor, classes: torch.Tensor, votes: torch.Tensor
    ) -> None:
        cells = rows * self.n_classes + classes
        self.counts.view(-1).scatter_add_(0, cells, votes.to(torch.int64))


def _fetched(report: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
    """On the CPU, from the event on if there is one."""
    if report.device.type != "cuda":
        return report.cpu(), None
    fetched = report.to("cpu", non_blocking=True)  # into pinned memory
    ready = torch.cuda.Event()
    ready.record(torch.cuda.current_stream(report.device))
    return fetched, ready


def _places(flags: torch.Tensor, n_true: int) -> torch.Tensor:
    """Where the flags are set; a GPU that is told how many are need not be waited for."""
    if flags.device.type == "cuda":
        return torch.nonzero_static(flags, size=n_true).squeeze(1)
    return flags.nonzero().squeeze(1)


def _check_no_nan(n_nan: int) -> None:
    if n_nan:
        raise ValueError(
            "The net returned NaN for a noisy input: nothing can be certified. "
            "Check its weights, and whether training diverged."
        )


def _pad(noisy: torch.Tensor, size: int) -> torch.Tensor:
    """A batch of at least `size`, filled up with zeros."""
    if len(noisy) >= size:
        return noisy
    padding = noisy.new_zeros((size - len(noisy), *noisy.shape[1:]))
    return torch.cat([noisy, padding])


def _out_of_memory(error: RuntimeError) -> bool:
    """Also on a CPU, where torch has no error of its own for it."""
    words = ("not enough memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in words)


def _leaders(outputs: torch.Tensor, half: bool) -> torch.Tensor:
    """How many outputs of a row are the largest, nearly; 0 if the row holds NaN."""
    top = outputs.amax(dim=1, keepdim=True)
    margin = _tie_tolerance(outputs, half) * outputs.abs().amax(dim=1, keepdim=True)
    return (outputs >= top - margin).sum(dim=1)


def _tie_tolerance(outputs: torch.Tensor, half: bool) -> float:
    """Share of the largest output below which two outputs count as tied.

    The last bits of a forward pass depend on the shape of its batch. GPUs may multiply
    in TF32, with 10 bits.
    """
    if half or outputs.dtype.itemsize < 4:
        return 2.0**-6
    return 2.0**-14 if outputs.device.type == "cpu" else 2.0**-9
