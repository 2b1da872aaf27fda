"""Voters as bytes, and what a worker makes of them, maybe on another machine."""

import contextlib
import copy
import hashlib
import io
import multiprocessing
import pickle
import re
import sys
import threading
from typing import Any, NamedTuple

import cloudpickle
import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch.nn.utils.parametrize import is_parametrized

from rs4a.nets.modules import roots
from rs4a.nets.outputs import net_device, to_device
from rs4a.voting.blocks import Requests
from rs4a.voting.plans import VoteBudget, Votes, draw_votes
from rs4a.voting.voters import Voters

__all__ = [
    "RemoteVoters",
    "load_packed",
    "own_device",
    "pack_voters",
    "request_in_worker",
    "vote_in_worker",
]

_LOCK = threading.Lock()
#: The voters that this worker unpacked last, by their digest: it is sent them once a task.
_UNPACKED: dict[str, Voters] = {}


class RemoteVoters(NamedTuple):
    """Voters as bytes, which engines share among tasks as they share arrays.

    Parameters
    ----------
    content : ndarray of uint8, or ray.ObjectRef
        The bytes, or where ray has them.

    digest : str
        Tells them from other voters.

    classes : str
        Names of the classes of the net and of the noise.

    device : str
        Where the net was.

    precision : str
        How float32 matrices are multiplied: a setting of torch's in the caller's process.
    """

    content: Any
    digest: str
    classes: str
    device: str
    precision: str


def pack_voters(voters: Voters) -> RemoteVoters:
    """Make voters ready to be sent.

    Parameters
    ----------
    voters : Voters
        Not opened.

    Returns
    -------
    packed : RemoteVoters
        Classes that the user's own script defines are in it; those of modules are named.
    """
    file = io.BytesIO()
    _Pickler(file).dump(voters)
    digest = hashlib.blake2b(file.getbuffer(), digest_size=16).hexdigest()
    kinds = [type(each) for each in (*roots(voters.net), voters.noise)]
    names = ", ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    content = np.frombuffer(file.getbuffer(), dtype=np.uint8)
    precision = torch.get_float32_matmul_precision()
    return RemoteVoters(content, digest, names, str(net_device(voters.net)), precision)


class _Pickler(cloudpickle.Pickler):
    """Sends nets without what only trains them, and tensors without the name of their GPU.

    skorch's own way names the classes of the user's script, which workers do not have;
    callbacks may hold files and the like; and tensors that were on the second GPU are
    refused by a worker that sees one.
    """

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, NeuralNet):
            unused = {"callbacks", "callbacks_", *(f"{name}_" for name in obj._optimizers)}
            state = {name: v for name, v in vars(obj).items() if name not in unused}
            return object.__new__, (type(obj),), state, None, None, _set_state
        if isinstance(obj, torch.nn.Module) and is_parametrized(obj):
            # Its class, which torch made for it alone, travels by value.
            return object.__new__, (type(obj),), vars(obj), None, None, _set_state
        if type(obj) is torch.Tensor and obj.device.type != "cpu":
            return obj.detach().cpu().__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        return super().reducer_override(obj)


def _set_state(thing: Any, state: dict[str, Any]) -> None:
    vars(thing).update(state)


# In the workers


def vote_in_worker(
    voters: Voters | RemoteVoters,
    X: NDArray[np.float32],
    keys: NDArray[np.uint64],
    plan: VoteBudget,
    so_far: NDArray[np.int64] | None,
) -> Votes:
    """Votes of a task.

    Parameters
    ----------
    voters : Voters or RemoteVoters
        Not opened; packed for another process.

    X : ndarray of shape (n, ...), float32
        Inputs.

    keys : ndarray of shape (n, 3), uint64
        From `stream_keys`.

    plan : VoteBudget
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
    voters: Voters | RemoteVoters,
    X: NDArray[np.float32],
    keys: NDArray[np.uint64],
    requests: Requests,
) -> NDArray[np.int64]:
    """Some votes of some inputs; see :meth:`rs4a.voting.voters.Voters.requested`.

    Parameters
    ----------
    voters : Voters or RemoteVoters
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


def _own(voters: Voters | RemoteVoters) -> Voters:
    """Voters of this worker; one in a thread gets a copy, which it opens itself."""
    if not isinstance(voters, RemoteVoters):
        return copy.copy(voters)
    torch.set_float32_matmul_precision(voters.precision)  # which calls may differ in
    return copy.copy(_unpacked(voters))


def _unpacked(packed: RemoteVoters) -> Voters:
    with _LOCK:
        if packed.digest not in _UNPACKED:
            _UNPACKED.clear()
            _UNPACKED[packed.digest] = _unpack(packed)
        return _UNPACKED[packed.digest]


def _unpack(packed: RemoteVoters) -> Voters:
    device = own_device(torch.device(packed.device))
    content = packed.content
    if not isinstance(content, np.ndarray):
        content = sys.modules["ray"].get(content)
    voters: Voters = load_packed(content, packed)
    if device != net_device(voters.net):
        to_device(voters.net, device)
    return voters


def load_packed(content: Any, packed: RemoteVoters) -> Any:
    """Load what was pickled for a worker: the voters or other arguments of a task.

    Parameters
    ----------
    content : bytes-like
        Nothing that was downloaded: the caller pickled it a moment ago.

    packed : RemoteVoters
        The voters that it belongs to.

    Returns
    -------
    content : object
        What was pickled.

    Raises
    ------
    RuntimeError
        If the worker does not have a class.
    """
    try:
        return pickle.loads(content)
    except (ImportError, AttributeError) as error:
        raise RuntimeError(
            f"A worker cannot build the net or its noise, {packed.classes}: {error}. "
            "Install the module that is missing on every worker, define the class in the "
            "script itself, or send the module along: "
            "cloudpickle.register_pickle_by_value(module)."
        ) from error


def own_device(device: torch.device) -> torch.device:
    """Device of this worker: GPUs of a machine are dealt out among its workers.

    Parameters
    ----------
    device : torch.device
        Where the net was in the process that sent it.

    Returns
    -------
    device : torch.device
        Where that was a GPU, one of those that this worker sees: the only one, as dask-cuda
        and ray have it, or the one of its number. Else the same.

    Raises
    ------
    RuntimeError
        If the net was on a GPU, and this worker sees none.
    """
    if device.type != "cuda":
        return device
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not n_devices:
        raise RuntimeError(
            f"The net is on {device}, but a worker sees no GPU, and on a CPU its votes "
            "would be others. Give every worker a GPU, with dask-cuda or with "
            "parallel_config(backend='ray', ray_remote_args={'num_gpus': 1}), or move the "
            "net to the CPU."
        )
    number = _worker_number()
    if number is None:
        return torch.device("cuda", min(device.index or 0, n_devices - 1))
    return torch.device("cuda", number % n_devices)


def _worker_number() -> int | None:
    """Number that multiprocessing, loky or dask gave this worker, beside its neighbours."""
    names = [multiprocessing.current_process().name]
    if "distributed" in sys.modules:
        with contextlib.suppress(ValueError):  # a process beside dask's
            names.append(str(sys.modules["distributed"].get_worker().name))
    numbers = [re.search(r"\d+$", name) for name in names]
    return next((int(number.group()) for number in numbers if number), None)
