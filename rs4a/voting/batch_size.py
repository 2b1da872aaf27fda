"""The batch size that "auto" means."""

import time
import warnings
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from rs4a.exceptions import CertificationWarning
from rs4a.nets.inference import Inference
from rs4a.nets.outputs import net_device
from rs4a.noises import Noise
from rs4a.noises.streams import stream_keys
from rs4a.voting.blocks import Phase
from rs4a.voting.voters import Voters

#: Sizes that are tried, and the least gain in speed for which a larger size is taken.
_AUTO_SIZES = tuple(2**k for k in range(6, 17))
_WORTH = 1.05
#: Sizes that were found, by the net, and then by inputs, inference, noise and device.
_FOUND: WeakKeyDictionary[Any, dict[tuple[Any, ...], int]] = WeakKeyDictionary()


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
        voters = Voters(net, noise, inference, n_classes=1, batch_size=1)
        known[key] = _fastest_size(voters, X[:1])
    return known[key]


def _fastest_size(voters: Voters, X: NDArray[np.float32]) -> int:
    best, best_rate = _AUTO_SIZES[0], 0.0
    for size in _AUTO_SIZES:
        voters.batch_size = size
        with warnings.catch_warnings(record=True) as too_large, voters:
            warnings.simplefilter("always", CertificationWarning)
            rate = size / min(_seconds(voters, X, size) for _ in range(3))
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
