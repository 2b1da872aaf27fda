"""Full batches of noisy copies, from blocks."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rs4a.nets.inference import Inference
from rs4a.voting.blocks import Block, Drawer, tuning_of


class Job(NamedTuple):
    """Facts that every thread needs."""

    draw: Drawer
    n_rows: int
    n_classes: int
    batch_size: int
    inference: Inference
    largest_pass: list[int]
    progress: Callable[[int], object] | None


def noisy_batches(
    work: Job, blocks: Iterable[Block]
) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
    """Yield the rows of the inputs of full batches, and their noisy copies."""
    batch_size = work.batch_size
    rows = np.empty(0, dtype=np.int64)
    left: torch.Tensor | None = None
    for group, buffer in _drawn_groups(work, blocks):
        # The draws begin at batch_size; the rest of the last group goes before them.
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
    work: Job, blocks: Iterable[Block]
) -> Iterator[tuple[list[Block], torch.Tensor]]:
    """Draw group after group, each into a buffer that begins with room for a batch.

    A GPU draws the next group before it classifies the present one, and so has work while
    the CPU waits for answers. A buffer is reused once its ties have been read.
    """
    waiting: deque[tuple[list[Block], torch.Tensor]] = deque()
    spent: deque[torch.Tensor] = deque()
    spare: list[torch.Tensor] = []
    for group in _groups(blocks, work.batch_size):
        x = group[0].x
        size = work.batch_size + sum(block.size for block in group)
        buffer = spare.pop() if spare else None
        if buffer is None or len(buffer) < size:
            buffer = torch.empty((size, *x.shape), dtype=x.dtype, device=x.device)
        targets = buffer[work.batch_size : size].split([block.size for block in group])
        for block, target in zip(group, targets, strict=True):
            work.draw(block, target)
        waiting.append((group, buffer))
        ahead = tuning_of(x.device).ahead
        if len(waiting) > ahead:
            yield waiting[0]
            spent.append(waiting.popleft()[1])
        if len(spent) > ahead:
            spare.append(spent.popleft())
    yield from waiting


def _groups(blocks: Iterable[Block], batch_size: int) -> Iterator[list[Block]]:
    """Blocks that together fill a batch."""
    group: list[Block] = []
    total = 0
    for block in blocks:
        group.append(block)
        total += block.size
        if total >= batch_size:
            yield group
            group, total = [], 0
    if group:
        yield group


def _counted_rows(block: Block, work: Job) -> NDArray[np.int64]:
    """Row of every draw of a block; a draw that is not counted has row `n_rows`."""
    rows = np.full(block.size, work.n_rows, dtype=np.int64)
    rows[block.first : block.last] = block.row
    return rows
