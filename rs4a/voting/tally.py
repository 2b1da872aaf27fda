"""Counts of the classes that a net gives to noisy copies."""

from collections import deque
from typing import Any, NamedTuple

import torch

from rs4a.nets.outputs import infer_scores, net_device
from rs4a.utils.user_warnings import warn_user
from rs4a.voting.batches import Job
from rs4a.voting.blocks import tuning_of


class _Unread(NamedTuple):
    """A batch that was classified, and a report that the device still writes.

    `report` has two numbers: inputs in doubt in this batch, and NaN so far among inputs in
    doubt. It is complete after the event `ready`, if any.
    """

    rows: torch.Tensor
    noisy: torch.Tensor
    doubtful: torch.Tensor
    report: torch.Tensor
    ready: torch.cuda.Event | None


class Tally:
    """Counts of the classes of noisy inputs.

    Inputs whose outputs are nearly tied wait for a batch of a fixed size, which decides
    about them: so no vote depends on `batch_size`.
    """

    def __init__(self, net: Any, work: Job):
        self.net = net
        self.n_classes = work.n_classes
        self.half = work.inference.dtype is not None
        # Each shape would be compiled anew.
        self._padded_size = work.batch_size if work.inference.compile else 0
        device = net_device(net)
        # The last row holds draws that are not counted.
        self.counts = torch.zeros(
            (work.n_rows + 1, work.n_classes), dtype=torch.int64, device=device
        )
        self._tuning = tuning_of(device)
        self._largest_pass = work.largest_pass
        self._n_nan = torch.zeros((), dtype=torch.int64, device=device)
        self._unread: deque[_Unread] = deque()
        self._doubtful: list[tuple[torch.Tensor, torch.Tensor]] = []

    def add(self, rows: torch.Tensor, noisy: torch.Tensor) -> None:
        """Classify a batch of noisy inputs, each a copy of the input in its row."""
        outputs = self._forward(pad(noisy, self._padded_size))[: len(noisy)]
        clear = _leaders(outputs, self.half) == 1
        self._count(rows, outputs.argmax(dim=1), clear)
        doubtful = ~clear
        report = torch.stack([doubtful.sum(), self._n_nan])
        self._unread.append(_Unread(rows, noisy, doubtful, *_fetched(report)))
        if len(self._unread) > self._tuning.ahead:
            self._read()

    def settle(self) -> None:
        """Classify the inputs in doubt, and make sure that no output was NaN."""
        while self._unread:
            self._read()
        self._decide()
        _check_no_nan(int(self._n_nan))

    def _read(self) -> None:
        """Set inputs in doubt of a batch aside, and classify them once they are many."""
        rows, noisy, doubtful, report, ready = self._unread.popleft()
        if ready is not None:
            ready.synchronize()
        n_doubtful, n_nan = report.tolist()
        _check_no_nan(n_nan)
        if n_doubtful:
            places = _places(doubtful, n_doubtful)
            self._doubtful.append((rows[places], noisy[places]))
            if sum(len(each) for each, _ in self._doubtful) >= self._tuning.tie_batch:
                self._decide()

    def _decide(self) -> None:
        """Classify the inputs that were set aside, in padded batches of a fixed size."""
        if not self._doubtful:
            return
        size = self._tuning.tie_batch
        rows, noisy = (torch.cat(parts) for parts in zip(*self._doubtful, strict=True))
        self._doubtful = []
        for some_rows, some in zip(rows.split(size), noisy.split(size), strict=True):
            outputs = self._forward(pad(some, size))[: len(some)]
            self._n_nan += outputs.isnan().any(dim=1).sum()
            self._count(some_rows, outputs.argmax(dim=1), torch.ones_like(some_rows))

    def _forward(self, noisy: torch.Tensor) -> torch.Tensor:
        """Outputs; after a pass that does not fit into memory, passes are smaller."""
        while True:
            size = min([*self._largest_pass, len(noisy)])
            try:
                parts = noisy.split(size)
                return torch.cat([infer_scores(self.net, p, self.n_classes) for p in parts])
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

    def _count(
        self, rows: torch.Tensor, classes: torch.Tensor, votes: torch.Tensor
    ) -> None:
        cells = rows * self.n_classes + classes
        self.counts.view(-1).scatter_add_(0, cells, votes.to(torch.int64))


def _fetched(report: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
    """Report on the CPU, complete after the event, if any."""
    if report.device.type != "cuda":
        return report.cpu(), None
    fetched = report.to("cpu", non_blocking=True)  # into pinned memory
    ready = torch.cuda.Event()
    ready.record(torch.cuda.current_stream(report.device))
    return fetched, ready


def _places(flags: torch.Tensor, n_true: int) -> torch.Tensor:
    """Positions of the set flags; with their number a GPU need not be waited for."""
    if flags.device.type == "cuda":
        return torch.nonzero_static(flags, size=n_true).squeeze(1)
    return flags.nonzero().squeeze(1)


def _check_no_nan(n_nan: int) -> None:
    if n_nan:
        raise ValueError(
            "The net returned NaN for a noisy input: nothing can be certified. "
            "Check its weights, and whether training diverged."
        )


def pad(noisy: torch.Tensor, size: int) -> torch.Tensor:
    """A batch of at least `size`, filled up with zeros."""
    if len(noisy) >= size:
        return noisy
    padding = noisy.new_zeros((size - len(noisy), *noisy.shape[1:]))
    return torch.cat([noisy, padding])


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether memory was too small; on a CPU torch has no error class for that."""
    words = ("not enough memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or any(w in str(error) for w in words)


def _leaders(outputs: torch.Tensor, half: bool) -> torch.Tensor:
    """Number of outputs of a row that are nearly the largest; 0 if the row holds NaN."""
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
