"""What a worker, in another process or on another machine, needs to vote."""

import contextlib
import copy
import hashlib
import io
import multiprocessing
import pickle
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import cloudpickle
import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from numpy.typing import NDArray
from skorch import NeuralNet

from rs4a.exceptions import CertificationWarning
from rs4a.nets import net_device, roots, to_device
from rs4a.sampling import Requests, Voters
from rs4a.vote_plans import VotePlan, Votes, draw_votes

__all__ = [
    "TASKS_PER_JOB",
    "Packed",
    "Workers",
    "own_device",
    "pack_voters",
    "request_in_worker",
    "vote_in_worker",
]

#: Tasks a worker, where the tasks of a call are handed out at once.
TASKS_PER_JOB = 4
#: How often work is handed out again after workers died and no task was finished.
_MAX_DEATHS = 3
#: How loky, ray and dask say that a worker died, or that what it held is lost.
_DEATHS = {"TerminatedWorkerError", "RayActorError", "ObjectLostError", "CancelledError"}
_LOCK = threading.Lock()
#: The voters that this worker unpacked last, by their digest: it is sent them once a task.
_UNPACKED: dict[str, Voters] = {}


class Workers:
    """joblib's workers, whichever its active backend has; a context manager.

    Parameters
    ----------
    voters : Voters
        Net and noise, not opened: every worker opens its own.

    n_jobs : int or None
        Number of workers, in joblib's sense.
    """

    def __init__(self, voters: Voters, n_jobs: int | None):
        self.voters = voters
        self.n_jobs = n_jobs
        self._parallel: Parallel | None = None
        self._sent: Voters | Packed | None = None

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        return self

    def __exit__(self, *error: object) -> None:
        self._parallel = None
        self._stack.close()

    def results(
        self, function: Callable[..., Any], tasks: Sequence[Callable[[], tuple[Any, ...]]]
    ) -> Iterator[tuple[int, Any]]:
        """Results of tasks, as they come.

        The tasks of a worker that died are handed out again.

        Parameters
        ----------
        function : callable
            `vote_in_worker` or `request_in_worker`.

        tasks : sequence of callable
            Each gives the arguments that `function` takes after the voters. They are asked
            for when a worker is about to be free.

        Yields
        ------
        index : int
            Position of the task.

        result : Votes or ndarray
            What `function` returned.

        Raises
        ------
        Exception
            That of `function`, or that of the backend if workers die again and again.

        Warns
        -----
        CertificationWarning
            If a worker died.
        """
        missing, n_deaths = dict(enumerate(tasks)), 0
        while missing:
            try:
                for index, result in self._handed_out(function, list(missing.items())):
                    n_deaths = 0
                    del missing[index]
                    yield index, result
            except Exception as error:
                n_deaths += 1
                if not _is_death(error) or n_deaths > _MAX_DEATHS:
                    raise
                warnings.warn(
                    "A worker died, for want of memory perhaps: its votes are drawn again.",
                    CertificationWarning,
                    stacklevel=2,
                )

    def _handed_out(
        self,
        function: Callable[..., Any],
        tasks: list[tuple[int, Callable[[], tuple[Any, ...]]]],
    ) -> Iterator[tuple[int, Any]]:
        parallel, voters = self._opened(), self._sent_voters()
        # A backend that gives no result before it has all is asked for some at a time.
        size = len(tasks)
        if not parallel.return_generator:
            size = effective_n_jobs(self.n_jobs) * TASKS_PER_JOB
        for start in range(0, len(tasks), size):
            results = parallel(
                delayed(_numbered)(index, function, voters, arguments())
                for index, arguments in tasks[start : start + size]
            )
            try:
                for result in results:  # noqa: UP028, `yield from` would close them first
                    yield result
            finally:  # after an interruption, what is under way is not waited for
                _close(results)

    def _opened(self) -> Parallel:
        """The workers, which stay from call to call: under ray, new ones take seconds."""
        if self._parallel is None:
            backend, _ = get_active_backend()
            _report_failures(backend)
            as_they_come = backend.supports_return_generator
            parallel = Parallel(
                n_jobs=self.n_jobs,
                return_as="generator_unordered" if as_they_come else "list",
                batch_size=1,
            )
            self._parallel = self._stack.enter_context(parallel)
        return self._parallel

    def _sent_voters(self) -> "Voters | Packed":
        """The voters as workers get them: packed once, unless they share memory."""
        if self._sent is None:
            backend, _ = get_active_backend()
            if getattr(backend, "supports_sharedmem", False):
                self._sent = self.voters
            else:
                packed = pack_voters(self.voters)
                self._sent = _held_by_ray(packed) if _is_ray(backend) else packed
        return self._sent


def _numbered(
    index: int, function: Callable[..., Any], voters: Any, arguments: tuple[Any, ...]
) -> tuple[int, Any]:
    # Arguments are in a tuple, since dask would put each by itself where it may be lost
    # with a worker, instead of sending them again to another.
    return index, function(voters, *arguments)


def _close(results: Any) -> None:
    if not isinstance(results, list):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            results.close()


def _is_ray(backend: Any) -> bool:
    return type(backend).__name__ == "RayBackend"


def _held_by_ray(packed: "Packed") -> "Packed":
    """Put the bytes where ray's workers fetch them once; it would send them every time."""
    packed.content = sys.modules["ray"].put(packed.content)
    return packed


def _is_death(error: BaseException) -> bool:
    return any(kind.__name__ in _DEATHS for kind in type(error).__mro__)


def _report_failures(backend: Any) -> None:
    """Have dask's backend tell joblib of tasks that fail outside of their function.

    joblib 1.6 waits for these forever: say where a worker lacks a module, or where too many
    workers died of a task.
    """
    if type(backend).__name__ != "DaskDistributedBackend" or "submit" in vars(backend):
        return
    submit = backend.submit

    def reporting(func: Any, callback: Any = None) -> Any:
        def report(done: Any) -> None:
            if done.exception() is not None:
                callback(done.exception())

        future = submit(func, callback)
        future.add_done_callback(report)
        return future

    backend.submit = reporting


# Voters as workers get them


class Packed:
    """Voters as bytes, which engines share among tasks as they share arrays.

    Parameters
    ----------
    content : ndarray of uint8, or ray.ObjectRef
        The bytes, or where ray has them.

    digest : str
        Tells them from other voters.

    net_class : str
        Name of the class of the net.

    device : torch.device
        Where the net was.
    """

    def __init__(self, content: Any, digest: str, net_class: str, device: torch.device):
        self.content = content
        self.digest = digest
        self.net_class = net_class
        self.device = device

    def __sizeof__(self) -> int:
        # By this number dask sends it to every worker once, instead of with every task.
        return object.__sizeof__(self) + getattr(self.content, "nbytes", 0)


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
    file = io.BytesIO()
    _Pickler(file).dump(voters)
    digest = hashlib.blake2b(file.getbuffer(), digest_size=16).hexdigest()
    kinds = [type(root) for root in roots(voters.net)]
    names = ", ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    content = np.frombuffer(file.getbuffer(), dtype=np.uint8)
    return Packed(content, digest, names, net_device(voters.net))


class _Pickler(cloudpickle.Pickler):
    """Sends nets without their optimizers, and tensors without the name of their GPU.

    skorch's own way names the classes of the user's script, which workers do not have, and
    tensors that were on the second GPU are refused by a worker that sees one.
    """

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, NeuralNet):
            optimizers = {f"{name}_" for name in obj._optimizers}
            state = {name: v for name, v in vars(obj).items() if name not in optimizers}
            return object.__new__, (type(obj),), state, None, None, _set_state
        if type(obj) is torch.Tensor and obj.device.type != "cpu":
            return obj.cpu().__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        return super().reducer_override(obj)


def _set_state(net: NeuralNet, state: dict[str, Any]) -> None:
    vars(net).update(state)


# In the workers


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
    device = own_device(packed.device)
    content = packed.content
    if not isinstance(content, np.ndarray):
        content = sys.modules["ray"].get(content)
    # Nothing that was downloaded: the caller packed it a moment ago.
    try:
        voters: Voters = pickle.loads(content)
    except (ImportError, AttributeError) as error:
        raise RuntimeError(
            f"A worker cannot build the net, {packed.net_class}: {error}. Install the "
            "module that defines it on every worker, define it in the script itself, or "
            "send it along: cloudpickle.register_pickle_by_value(module)."
        ) from error
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
