"""Blocks of noisy copies: which votes, and the noise that each block draws."""

import math
import threading
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator
from enum import IntEnum
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from rs4a.noises import Noise
from rs4a.noises.streams import block_key, generator
from rs4a.voting.stopping import look_schedule


class _Tuning(NamedTuple):
    """Sizes that fit a kind of device; votes depend on some of them."""

    #: Numbers in a block, and votes.
    block_numbers: int
    block_votes: int
    #: Size of the batches in which inputs with nearly tied outputs are classified again.
    tie_batch: int
    #: Numbers that are copied to the device at a time, at least those of one input.
    copied_numbers: int
    #: Groups of blocks that are drawn ahead, and batches whose ties are read late: a GPU
    #: gets the next work before it has done the last.
    ahead: int


#: Blocks that outweigh their seeding and stay in the cache; each thread works alone.
_ON_CPU = _Tuning(2**19, 512, tie_batch=64, copied_numbers=0, ahead=0)
#: Blocks that outweigh the launch of their kernels.
_ON_GPU = _Tuning(2**23, 8192, tie_batch=256, copied_numbers=2**20, ahead=1)


class Phase(IntEnum):
    """Votes that choose the class, or votes that bound its probability."""

    SELECTION = 0
    ESTIMATION = 1


class Requests(NamedTuple):
    """Votes to draw: of each input in `rows` the numbers from `starts` up to `stops`."""

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    @classmethod
    def first(cls, n_rows: int, n_votes: int) -> Self:
        """The first votes of every input."""
        starts = np.zeros(n_rows, dtype=np.int64)
        return cls(np.arange(n_rows), starts, starts + n_votes)


class Block(NamedTuple):
    """Noisy copies of one input: draws that come from one generator, or views in order.

    `origin` is the key of the generator, or the number of the first view. Only the copies
    from number `first` up to `last` are counted, in the row `row`.
    """

    row: int
    x: torch.Tensor
    size: int
    origin: int
    first: int
    last: int


#: Fills memory with the noisy copies of a block.
Drawer = Callable[[Block, torch.Tensor], object]


def draw_blocks(
    X: NDArray[np.float32],
    requests: Requests,
    edges: list[int],
    keys: NDArray[np.uint64] | None,
    phase: Phase,
    device: torch.device,
) -> Generator[Block, None, None]:
    """Yield the blocks that hold the requested votes.

    `edges` are the first votes of all blocks, up to one beyond the requests. Without
    `keys`, blocks hold views.
    """
    inputs = _on_device(X, requests.rows, device)
    columns = (part.tolist() for part in requests)
    for slot, (x, row, start, stop) in enumerate(zip(inputs, *columns, strict=True)):
        index = bisect_right(edges, start) - 1
        while edges[index] < stop:
            begin, size = edges[index], edges[index + 1] - edges[index]
            first, last = max(start - begin, 0), min(stop - begin, size)
            origin = begin if keys is None else block_key(keys[row], 2 * index + phase)
            yield Block(slot, x, size, origin, first, last)
            index += 1


def even_edges(n_votes: int, dim: int, device: torch.device) -> list[int]:
    """First votes of blocks of one size, the last of which may be cut short; `n_votes`."""
    return [*range(0, n_votes, _largest_block(dim, device)), n_votes]


def look_edges(n_votes: int, dim: int, device: torch.device) -> list[int]:
    """First votes of blocks that are at most as long as the steps of `look_schedule`.

    Up to one that is `n_votes` or larger.
    """
    looks = look_schedule(2 * n_votes + 64)[:-1]  # the last step may be cut short
    looks = looks[: int(np.searchsorted(looks, n_votes)) + 1]
    steps = np.diff(looks, prepend=0)
    sizes = np.minimum(steps, _largest_block(dim, device))
    edges: list[int] = np.cumsum(np.repeat(sizes, steps // sizes)).tolist()
    return [0, *edges]


def _on_device(
    X: NDArray[np.float32], rows: NDArray[np.int64], device: torch.device
) -> Iterator[torch.Tensor]:
    """Inputs in the order of `rows`, which are read and copied some at a time."""
    step = max(1, tuning_of(device).copied_numbers // dim_of(X))
    for start in range(0, len(rows), step):
        some = [np.asarray(X[row]) for row in rows[start : start + step]]
        yield from sent(np.stack(some), device)


def sent(values: NDArray[Any], device: torch.device) -> torch.Tensor:
    """Values on a device, without waiting for earlier work of the device."""
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def tuning_of(device: torch.device) -> _Tuning:
    """Sizes that fit a device."""
    return _ON_CPU if device.type == "cpu" else _ON_GPU


def dim_of(X: NDArray[np.float32]) -> int:
    """Number of coordinates of an input."""
    return max(math.prod(X.shape[1:]), 1)


def _largest_block(dim: int, device: torch.device) -> int:
    """Votes in a block: a power of two."""
    tuning = tuning_of(device)
    largest = max(1, min(tuning.block_votes, tuning.block_numbers // dim))
    return 1 << (largest.bit_length() - 1)


def drawer(noise: Noise, X: NDArray[np.float32]) -> Drawer:
    """Drawer of the blocks of a noise, by views if the noise is deterministic."""
    if noise.deterministic:
        view = noise.viewer(dim_of(X), torch.float32)
        return lambda block, out: view(block.x, block.origin, out)
    sample = noise.sampler(dim_of(X), torch.float32)

    def draw(block: Block, out: torch.Tensor) -> None:
        copies = block.x.expand(block.size, *block.x.shape)
        sample(copies, generator(block.origin, out.device), out)

    return draw


def shared_blocks(blocks: Iterator[Block], lock: threading.Lock) -> Iterator[Block]:
    """The share of one thread in blocks of several threads."""
    while True:
        with lock:
            block = next(blocks, None)
        if block is None:
            return
        yield block
