"""Seeds of torch's global generators while a net trains."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from skorch import NeuralNet

__all__ = ["cuda_devices", "training_seed"]

# torch's default generators are global: two trainings in threads would share them.
_TRAINING_LOCK = threading.RLock()


@contextmanager
def training_seed(seed: int, cuda_devices: Sequence[int] = ()) -> Iterator[None]:
    """Seed the global generators: torch's, and numpy's, which skorch's splits read.

    One training at a time; afterwards they are as before.

    Parameters
    ----------
    seed : int
        Any seed of at most 63 bits.

    cuda_devices : sequence of int, default=()
        CUDA devices whose generators count too.
    """
    with _TRAINING_LOCK, torch.random.fork_rng(cuda_devices):
        numpy_state = np.random.get_state()  # noqa: NPY002
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002


def cuda_devices(net: NeuralNet) -> list[int]:
    """CUDA devices whose generators a net's training uses."""
    if net.device is None and torch.cuda.is_available():  # accelerate chooses it
        return [torch.cuda.current_device()]
    device = torch.device(net.device or "cpu")
    if device.type != "cuda":
        return []
    return [torch.cuda.current_device() if device.index is None else device.index]
