"""Votes: how often a net assigns each class to noisy copies of every input.

Noise comes in blocks of a fixed size. A block's generator is seeded by the caller's
seed, the bytes of its input, the phase (selection or estimation) and its position, so
that the votes of an input depend neither on the batch size, nor on the other inputs,
nor on their order. Blocks of several inputs share forward passes.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rs4a.nets import check_outputs, evaluating, net_device, to_net
from rs4a.noises import Noise

__all__ = ["Phase", "count_votes"]

#: Numbers in a block: long enough to hide the seeding, short enough for a CPU's cache.
_BLOCK_NUMBERS = 2**19
_MAX_BLOCK_VOTES = 512
#: Size of the batches in which inputs with nearly tied outputs are classified again.
_TIE_BATCH = 64


class Phase(IntEnum):
    """Which votes: those that choose the class, or those that bound its probability."""

    SELECTION = 0
    ESTIMATION = 1


class _Block(NamedTuple):
    """Noise draws for one input that come from one generator."""

    row: int
    x: torch.Tensor
    size: int
    seed: int


def count_votes(
    net: Any,
    noise: Noise,
    X: NDArray[np.float32],
    *,
    n_votes: int,
    phase: Phase,
    seed: int,
    n_classes: int,
    batch_size: int,
    progress: Callable[[int], object] | None = None,
) -> NDArray[np.int64]:
    """Count the classes that a net gives to noisy copies of every input.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net; its outputs are (batch, C) with C >= `n_classes`. It is
        switched to evaluation mode and back.

    noise : Noise
        Smoothing noise, drawn on the net's device.

    X : ndarray of shape (n, ...), float32
        Inputs.

    n_votes : int
        Votes an input.

    phase : Phase
        Selection and estimation votes come from different streams.

    seed : int
        Key of the streams, any int of at most 64 bits.

    n_classes : int
        Only the first `n_classes` outputs are compared.

    batch_size : int
        Noisy inputs in one forward pass. The votes do not depend on it.

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
    device = net_device(net)
    batch_size = min(batch_size, len(X) * n_votes)
    tally = _Tally(net, len(X), n_classes, device)
    blocks = _blocks(X, n_votes, phase, seed, device)
    with evaluating(net), torch.inference_mode(), _drawing_threads(device) as pool:
        for rows, noisy in _noisy_batches(noise, blocks, batch_size, pool):
            tally.add(torch.as_tensor(rows, device=device), noisy)
            if progress is not None:
                progress(len(rows))
        tally.settle()
    return tally.counts.cpu().numpy()


# The stream of noisy inputs


def _blocks(
    X: NDArray[np.float32],
    n_votes: int,
    phase: Phase,
    seed: int,
    device: torch.device,
) -> Iterator[_Block]:
    size = _block_size(X[0].size if len(X) else 1)
    for row, values in enumerate(X):
        first, step = _stream_key(values, seed)
        x = torch.from_numpy(np.array(values)).to(device)
        for index, start in enumerate(range(0, n_votes, size)):
            # An odd step makes the seeds of one input distinct, also in the 32 bits
            # that torch's CPU generator keeps of them.
            block_seed = (first + (2 * index + phase) * step) % 2**64
            yield _Block(row, x, min(size, n_votes - start), block_seed)


def _block_size(dim: int) -> int:
    """Votes in a block: a power of two that depends on the inputs' size alone."""
    largest = max(1, min(_MAX_BLOCK_VOTES, _BLOCK_NUMBERS // dim))
    return 1 << (largest.bit_length() - 1)


def _stream_key(values: NDArray[np.float32], seed: int) -> tuple[int, int]:
    """First seed and odd step of an input's seeds, from a keyed digest of its bytes."""
    key = (seed % 2**64).to_bytes(8, "little")
    content = np.ascontiguousarray(values, dtype=np.float32).tobytes()
    digest = hashlib.blake2b(content, key=key, digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little") | 1


@contextmanager
def _drawing_threads(device: torch.device) -> Iterator[ThreadPoolExecutor | None]:
    """Threads that draw blocks beside the net: torch draws on one CPU thread only.

    One core is left to the forward pass, and a drawing thread starts no others: they
    would wait for each other more than they help.
    """
    cores = torch.get_num_threads()
    if device.type != "cpu" or cores == 1:
        yield None
        return
    n_threads = cores - 1
    with ThreadPoolExecutor(
        n_threads, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        all_there = threading.Barrier(n_threads)
        list(pool.map(lambda _: all_there.wait(), range(n_threads)))
        torch.set_num_threads(cores)  # the last setting is also what later threads get
        yield pool


def _noisy_batches(
    noise: Noise,
    blocks: Iterable[_Block],
    batch_size: int,
    pool: ThreadPoolExecutor | None,
) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
    """Yield full batches of noisy inputs, each with the row that it is a copy of."""
    rows = np.empty(0, dtype=np.int64)
    noisy: torch.Tensor | None = None
    for group, buffer in _drawn_groups(noise, blocks, batch_size, pool):
        # The draws begin at batch_size; what the last group left over goes before them.
        rest = len(rows)
        if noisy is not None and rest:
            buffer[batch_size - rest : batch_size] = noisy
        drawn = np.repeat([block.row for block in group], [block.size for block in group])
        rows = np.concatenate([rows, drawn])
        noisy = buffer[batch_size - rest : batch_size - rest + len(rows)]
        whole = len(rows) - len(rows) % batch_size
        for start in range(0, whole, batch_size):
            yield rows[start : start + batch_size], noisy[start : start + batch_size]
        # A copy: the buffer may be drawn into again before the next group comes.
        rows, noisy = rows[whole:], noisy[whole:].clone()
    if noisy is not None and len(rows):
        yield rows, noisy


def _drawn_groups(
    noise: Noise,
    blocks: Iterable[_Block],
    batch_size: int,
    pool: ThreadPoolExecutor | None,
) -> Iterator[tuple[list[_Block], torch.Tensor]]:
    """Draw group after group, each into memory that begins with room for a batch.

    With threads, a group is drawn while the group before it is classified. Two buffers
    take turns.
    """
    spare: list[torch.Tensor] = []
    last: tuple[list[_Block], torch.Tensor, Iterator[None]] | None = None
    for group in _groups(blocks, batch_size):
        size = batch_size + sum(block.size for block in group)
        buffer = spare.pop() if spare else None
        if buffer is None or len(buffer) < size:
            x = group[0].x
            buffer = torch.empty((size, *x.shape), dtype=x.dtype, device=x.device)
        drawing = _draw(noise, group, buffer[batch_size:size], pool)
        if last is not None:
            list(last[2])
            yield last[0], last[1]
            spare.append(last[1])
        last = (group, buffer, drawing)
    if last is not None:
        list(last[2])
        yield last[0], last[1]


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


def _draw(
    noise: Noise,
    group: list[_Block],
    out: torch.Tensor,
    pool: ThreadPoolExecutor | None,
) -> Iterator[None]:
    """Fill `out` with the noisy copies of a group of blocks."""

    def draw(block: _Block, target: torch.Tensor) -> None:
        generator = torch.Generator(out.device).manual_seed(block.seed)
        with torch.inference_mode():  # which is a property of the thread
            copies = block.x.expand(block.size, *block.x.shape)
            noise.sample(copies, generator=generator, out=target)

    targets = out.split([block.size for block in group])
    run = map if pool is None else pool.map
    return run(draw, group, targets)


# From noisy inputs to counts


class _Tally:
    """Counts of the classes of noisy inputs.

    Inputs whose outputs are nearly tied wait until there are enough of them for a batch
    of a fixed size, which decides: so no vote depends on `batch_size`.
    """

    def __init__(self, net: Any, n_rows: int, n_classes: int, device: torch.device):
        self.net = net
        self.n_classes = n_classes
        self.counts = torch.zeros((n_rows, n_classes), dtype=torch.int64, device=device)
        self._doubtful: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._n_doubtful = 0

    def add(self, rows: torch.Tensor, noisy: torch.Tensor) -> None:
        """Classify a batch of noisy inputs, each a copy of the input in its row."""
        outputs = self._forward(noisy)
        clear = _leaders(outputs) == 1
        self._count(rows, outputs.argmax(dim=1), clear)
        doubtful = (~clear).nonzero().squeeze(1)
        if len(doubtful):
            self._doubtful.append((rows[doubtful], noisy[doubtful]))
            self._n_doubtful += len(doubtful)
            if self._n_doubtful >= _TIE_BATCH:
                self.settle()

    def settle(self) -> None:
        """Classify the inputs in doubt, in padded batches of a fixed size."""
        if not self._doubtful:
            return
        rows, noisy = (torch.cat(parts) for parts in zip(*self._doubtful, strict=True))
        self._doubtful, self._n_doubtful = [], 0
        padded = torch.zeros_like(noisy[:1]).expand(_TIE_BATCH, *noisy.shape[1:]).clone()
        for some_rows, some in zip(
            rows.split(_TIE_BATCH), noisy.split(_TIE_BATCH), strict=True
        ):
            padded[: len(some)] = some
            outputs = self._forward(padded)[: len(some)]
            if outputs.isnan().any():
                raise ValueError(
                    "The net returned NaN for a noisy input: nothing can be certified. "
                    "Check its weights, and whether training diverged."
                )
            self._count(some_rows, outputs.argmax(dim=1), torch.ones_like(some_rows))

    def _forward(self, noisy: torch.Tensor) -> torch.Tensor:
        outputs = self.net.infer(to_net(self.net, noisy))
        outputs = check_outputs(outputs, len(noisy), self.n_classes)
        return outputs[:, : self.n_classes]

    def _count(
        self, rows: torch.Tensor, classes: torch.Tensor, votes: torch.Tensor
    ) -> None:
        cells = rows * self.n_classes + classes
        self.counts.view(-1).scatter_add_(0, cells, votes.to(torch.int64))


def _leaders(outputs: torch.Tensor) -> torch.Tensor:
    """How many outputs of a row are the largest, nearly; 0 if the row holds NaN."""
    top = outputs.amax(dim=1, keepdim=True)
    margin = _tie_tolerance(outputs) * outputs.abs().amax(dim=1, keepdim=True)
    return (outputs >= top - margin).sum(dim=1)


def _tie_tolerance(outputs: torch.Tensor) -> float:
    """Share of the largest output below which two outputs count as tied.

    The last bits of a forward pass depend on the shape of its batch. GPUs may multiply
    in TF32, with 10 bits.
    """
    if outputs.dtype.itemsize < 4:
        return 2.0**-6
    return 2.0**-14 if outputs.device.type == "cpu" else 2.0**-9
