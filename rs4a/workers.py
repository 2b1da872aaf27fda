"""What a worker, in another process or on another machine, needs to vote."""

import copy
import hashlib
import multiprocessing
import re
import threading

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray

from rs4a.nets import net_device, roots, to_device
from rs4a.sampling import Requests, Voters
from rs4a.vote_plans import VotePlan, Votes, draw_votes

__all__ = ["Packed", "pack_voters", "request_in_worker", "vote_in_worker"]

_LOCK = threading.Lock()
#: The voters that this worker unpacked last, by their digest: it is sent them once a task.
_UNPACKED: dict[str, Voters] = {}


class Packed:
    """Voters as bytes, which engines share among tasks as they share arrays."""

    def __init__(self, content: NDArray[np.uint8], digest: str, net_class: str):
        self.content = content
        self.digest = digest
        self.net_class = net_class


def pack_voters(voters: Voters) -> Packed:
    """Make voters ready to be sent.

    Parameters
    ----------
    voters : Voters
        Not opened.

    Returns
    -------
    packed : Packed
        Classes that the user's own script defines are in it; those of modules are named.
    """
    content = cloudpickle.dumps(voters)
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    kinds = [type(root) for root in roots(voters.net)]
    names = ", ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    return Packed(np.frombuffer(content, dtype=np.uint8), digest, names)


def vote_in_worker(
    voters: Voters | Packed,
    X: NDArray[np.float32],
    keys: NDArray[np.uint64],
    plan: VotePlan,
    so_far: NDArray[np.int64] | None,
) -> Votes:
    """Votes of a shard.

    Parameters
    ----------
    voters : Voters or Packed
        Not opened; packed for another process.

    X : ndarray of shape (n, ...), float32
        Inputs.

    keys : ndarray of shape (n, 3), uint64
        From `stream_keys`.

    plan : VotePlan
        What votes they get.

    so_far : ndarray of shape (n, n_classes), int64, or None
        Estimation votes to go on from.

    Returns
    -------
    votes : Votes
        Votes.

    Raises
    ------
    RuntimeError
        If the worker does not have the class of the net.
    """
    with _own(voters) as opened:
        return draw_votes(opened, X, keys, plan, so_far=so_far)


def request_in_worker(
    voters: Voters | Packed,
    X: NDArray[np.float32],
    keys: NDArray[np.uint64],
    requests: Requests,
) -> NDArray[np.int64]:
    """Some votes of some inputs; see :meth:`rs4a.sampling.Voters.requested`.

    Parameters
    ----------
    voters : Voters or Packed
        Not opened; packed for another process.

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
    """
    with _own(voters) as opened:
        return opened.requested(X, keys, requests=requests)


def _own(voters: Voters | Packed) -> Voters:
    """Voters of this worker; one in a thread gets a copy, which it opens itself."""
    return copy.copy(_unpacked(voters) if isinstance(voters, Packed) else voters)


def _unpacked(packed: Packed) -> Voters:
    with _LOCK:
        if packed.digest not in _UNPACKED:
            _UNPACKED.clear()
            _UNPACKED[packed.digest] = _unpack(packed)
        return _UNPACKED[packed.digest]


def _unpack(packed: Packed) -> Voters:
    # Nothing that was downloaded: the caller packed it a moment ago.
    try:
        voters: Voters = cloudpickle.loads(packed.content.tobytes())
    except (ImportError, AttributeError) as error:
        raise RuntimeError(
            f"A worker cannot build the net, {packed.net_class}: {error}. Install the "
            "module that defines it on every worker, or define it in the script itself."
        ) from error
    device = own_device(net_device(voters.net))
    if device != net_device(voters.net):
        to_device(voters.net, device)
    return voters


def own_device(device: torch.device) -> torch.device:
    """Device of this worker: GPUs of a machine are dealt out among its workers.

    Parameters
    ----------
    device : torch.device
        Where the net was in the process that sent it.

    Returns
    -------
    device : torch.device
        A GPU of this machine, if there are several; the only one that the worker may see,
        as dask-cuda has it; else the same.
    """
    if device.type != "cuda" or not torch.cuda.is_available():
        return device
    n_devices = torch.cuda.device_count()
    number = re.search(r"\d+$", multiprocessing.current_process().name)
    if number is None:  # no worker by multiprocessing's counting: it has what it was given
        return torch.device("cuda", min(device.index or 0, n_devices - 1))
    return torch.device("cuda", (int(number.group()) - 1) % n_devices)
