"""Blocks of noisy copies: which votes, and the noise that each block draws."""

import math
import threading
from collections.abc import Callable, Generator, Iterator
from enum import IntEnum
from typing import Any, NamedTuple

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


def fixed_blocks(
    X: NDArray[np.float32],
    n_votes: int,
    phase: Phase,
    keys: NDArray[np.uint64],
    device: torch.device,
) -> Generator[Block, None, None]:
    """Blocks of the first `n_votes` votes of each input."""
    for row, x, index, _, size in _even_blocks(X, n_votes, device):
        yield Block(row, x, size, block_key(keys[row], 2 * index + phase), 0, size)


def view_blocks(
    X: NDArray[np.float32], n_views: int, device: torch.device
) -> Generator[Block, None, None]:
    """Blocks of all views of each input."""
    for row, x, _, start, size in _even_blocks(X, n_views, device):
        yield Block(row, x, size, start, 0, size)


def _even_blocks(
    X: NDArray[np.float32], n: int, device: torch.device
) -> Iterator[tuple[int, torch.Tensor, int, int, int]]:
    """Row and input, number, start and size of each block of `n` copies."""
    largest = _largest_block(dim_of(X), device)
    for row, x in enumerate(_on_device(X, np.arange(len(X)), device)):
        for index, start in enumerate(range(0, n, largest)):
            yield row, x, index, start, min(largest, n - start)


def requested_blocks(
    X: NDArray[np.float32],
    requests: Requests,
    keys: NDArray[np.uint64],
    device: torch.device,
) -> Generator[Block, None, None]:
    """Blocks that hold the votes, at most as long as the steps of `look_schedule`."""
    if not len(requests.rows):
        return
    largest = _largest_block(dim_of(X), device)
    edges = _block_edges(int(requests.stops.max()), largest)
    inputs = _on_device(X, requests.rows, device)
    for slot, (x, row, start, stop) in enumerate(zip(inputs, *requests, strict=True)):
        index = int(np.searchsorted(edges, start, side="right")) - 1
        while edges[index] < stop:
            begin, size = int(edges[index]), int(edges[index + 1] - edges[index])
            first, last = max(int(start) - begin, 0), min(int(stop) - begin, size)
            key = block_key(keys[row], 2 * index + Phase.ESTIMATION)
            yield Block(slot, x, size, key, first, last)
            index += 1


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


def _block_edges(n_votes: int, largest: int) -> NDArray[np.int64]:
    """First votes of the blocks, up to one that ends at `n_votes` or later."""
    looks = look_schedule(2 * n_votes + 64)[:-1]  # the last step may be cut short
    looks = looks[: int(np.searchsorted(looks, n_votes)) + 1]
    steps = np.diff(looks, prepend=0)
    sizes = np.minimum(steps, largest)
    return np.concatenate([[0], np.cumsum(np.repeat(sizes, steps // sizes))])


def random_drawer(noise: Noise, X: NDArray[np.float32]) -> Drawer:
    """Drawer of random noise."""
    sample = noise.sampler(dim_of(X), torch.float32)

    def draw(block: Block, out: torch.Tensor) -> None:
        copies = block.x.expand(block.size, *block.x.shape)
        sample(copies, generator(block.origin, out.device), out)

    return draw


def view_drawer(noise: Noise, X: NDArray[np.float32]) -> Drawer:
    """Drawer of the views of deterministic noise."""
    view = noise.viewer(dim_of(X), torch.float32)

    def draw(block: Block, out: torch.Tensor) -> None:
        view(block.x, block.origin, out)

    return draw


def shared_blocks(blocks: Iterator[Block], lock: threading.Lock) -> Iterator[Block]:
    """The share of one thread in blocks of several threads."""
    while True:
        with lock:
            block = next(blocks, None)
        if block is None:
            return
        yield block
