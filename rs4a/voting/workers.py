"""Votes by joblib's workers: processes, on this machine or on others.

Workers get the net as bytes, once, and the inputs task by task. A worker that dies ends the
call: votes that are computed and stored stay in the folder `memory`.
"""

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
from contextlib import ExitStack
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from cloudpickle import Pickler, dumps
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from numpy.typing import NDArray
from sklearn import config_context, get_config
from skorch import NeuralNet
from torch.nn.utils.parametrize import is_parametrized

from rs4a.nets.modules import roots
from rs4a.nets.outputs import net_device, to_device
from rs4a.voting.voters import Voters

#: Tasks per worker, where all tasks of a call are handed out at once.
TASKS_PER_JOB = 4
_LOCK = threading.Lock()
#: The voters that this worker unpacked last, by their digest: every task brings them.
_UNPACKED: dict[str, Voters] = {}


def n_workers(n_jobs: int | None) -> int:
    """Number of processes that vote under joblib's active backend.

    Parameters
    ----------
    n_jobs : int or None
        Number of workers, in joblib's sense.

    Returns
    -------
    n : int
        1 under backends of threads: voters have threads of their own.
    """
    backend, _ = get_active_backend()
    shared = getattr(backend, "supports_sharedmem", False)
    return 1 if shared else int(effective_n_jobs(n_jobs))


class Workers(ExitStack):
    """joblib's workers under its active backend; a context manager.

    Parameters
    ----------
    voters : Voters
        Net and noise, not opened: each worker opens its own copy.

    n_jobs : int or None
        Number of workers, in joblib's sense.
    """

    def __init__(self, voters: Voters, n_jobs: int | None):
        super().__init__()
        self.voters = voters
        self.n_jobs = n_jobs

    def results(
        self, function: Callable[..., Any], tasks: Sequence[Callable[[], tuple[Any, ...]]]
    ) -> Iterator[tuple[int, Any]]:
        """Yield the results of tasks, as soon as they arrive.

        Parameters
        ----------
        function : callable
            Takes opened voters, and the arguments of a task.

        tasks : sequence of callable
            Each returns the arguments of a task, when a worker is about to be free.

        Yields
        ------
        index : int
            Position of the task.

        result : object
            Value that `function` returned.

        Raises
        ------
        Exception
            Error of `function`, or of joblib's backend, as when a worker dies.
        """
        config = get_config()  # processes do not inherit it
        size = len(tasks)
        if not self._parallel.return_generator:  # this backend returns all results at once
            size = n_workers(self.n_jobs) * TASKS_PER_JOB
        # Arguments are bytes: so `_load` explains why they cannot be loaded.
        calls = (
            delayed(run_task)(index, function, dumps(task()), config, *self._sent)
            for index, task in enumerate(tasks)
        )
        for _ in range(0, len(tasks), size):
            results = self._parallel(islice(calls, size))
            try:
                for result in results:  # noqa: UP028, `yield from` would close them first
                    yield result
            finally:
                with warnings.catch_warnings():  # joblib's, of tasks that it cancels
                    warnings.simplefilter("ignore", UserWarning)
                    del results

    @cached_property
    def _parallel(self) -> Parallel:
        """The workers of all calls: under ray, new ones take seconds."""
        backend, _ = get_active_backend()
        if type(backend).__name__ == "DaskDistributedBackend":
            _report_failures(backend)
        many = "generator_unordered" if backend.supports_return_generator else "list"
        parallel = Parallel(n_jobs=self.n_jobs, return_as=many, batch_size=1)
        return self.enter_context(parallel)

    @cached_property
    def _sent(self) -> "_PackedVoters":
        return pack_voters(self.voters)


def _report_failures(backend: Any) -> None:
    """Report errors outside of tasks to joblib 1.6, which would wait under dask forever."""
    if "submit" in vars(backend):  # an earlier call replaced the method
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


class _PackedVoters(NamedTuple):
    """Voters as bytes.

    Parameters
    ----------
    content : ndarray of uint8
        The bytes: an array, which joblib's backends share among tasks.

    digest : str
        Hash of the bytes.

    classes : str
        Names of the classes of the net and of the noise.

    device : str
        Device of the net in the caller's process.

    precision : str
        torch's precision of float32 matrix products in the caller's process.
    """

    content: NDArray[np.uint8]
    digest: str
    classes: str
    device: str
    precision: str


def pack_voters(voters: Voters) -> _PackedVoters:
    """Pickle voters for another process.

    Parameters
    ----------
    voters : Voters
        Not opened.

    Returns
    -------
    packed : _PackedVoters
        Holds classes of the user's script; names classes of modules.
    """
    file = io.BytesIO()
    _NetPickler(file).dump(voters)
    content = np.frombuffer(file.getbuffer(), dtype=np.uint8)
    digest = hashlib.blake2b(file.getbuffer(), digest_size=16).hexdigest()
    kinds = [type(each) for each in (*roots(voters.net), voters.noise)]
    names = ", ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    device, precision = str(net_device(voters.net)), torch.get_float32_matmul_precision()
    return _PackedVoters(content, digest, names, device, precision)


class _NetPickler(Pickler):
    """Pickles nets without their training, and tensors without the number of their GPU.

    skorch's own pickles name the classes of the user's script, which workers do not have.
    Callbacks may hold files. A worker that sees one GPU refuses tensors of the second one.
    """

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, NeuralNet):
            unused = {"callbacks", "callbacks_", *(f"{name}_" for name in obj._optimizers)}
            state = {name: v for name, v in vars(obj).items() if name not in unused}
            return object.__new__, (type(obj),), state, None, None, _set_state
        if isinstance(obj, torch.nn.Module) and is_parametrized(obj):
            # torch made the class for this module alone: the class travels by value.
            return object.__new__, (type(obj),), vars(obj), None, None, _set_state
        if type(obj) is torch.Tensor and obj.device.type != "cpu":
            return obj.detach().cpu().__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        return super().reducer_override(obj)


def _set_state(thing: Any, state: dict[str, Any]) -> None:
    vars(thing).update(state)


# In the workers


def run_task(
    index: int,
    function: Callable[..., Any],
    arguments: bytes,
    config: dict[str, Any],
    *sent: Any,
) -> tuple[int, Any]:
    """Run a task in a worker.

    Parameters
    ----------
    index : int
        Position of the task.

    function : callable
        Takes opened voters, and the arguments.

    arguments : bytes
        Further arguments of the function, pickled.

    config : dict
        scikit-learn's configuration in the caller's thread.

    *sent : object
        Fields of _PackedVoters; a tuple would hide the array from dask.

    Returns
    -------
    index : int
        Position of the task.

    result : object
        Value that `function` returned.

    Raises
    ------
    RuntimeError
        If the worker does not have a class of the net or noise, or no GPU for the net.
    """
    packed = _PackedVoters(*sent)
    torch.set_float32_matmul_precision(packed.precision)
    with config_context(**config), copy.copy(_unpacked(packed)) as voters:
        return index, function(voters, *_load(arguments, packed.classes))


def _unpacked(packed: _PackedVoters) -> Voters:
    with _LOCK:
        if packed.digest not in _UNPACKED:
            device = own_device(torch.device(packed.device))
            voters: Voters = _load(packed.content, packed.classes)
            if device != net_device(voters.net):
                to_device(voters.net, device)
            _UNPACKED.clear()
            _UNPACKED[packed.digest] = voters
        return _UNPACKED[packed.digest]


def _load(content: Any, classes: str) -> Any:
    """Load bytes that the caller pickled a moment ago; explain where a class is missing."""
    try:
        return pickle.loads(content)
    except (ImportError, AttributeError) as error:
        raise RuntimeError(
            f"A worker cannot build the net or its noise, {classes}: {error}. "
            "Install the module that is missing on every worker, define the class in the "
            "script itself, or send the module along: "
            "cloudpickle.register_pickle_by_value(module)."
        ) from error


def own_device(device: torch.device) -> torch.device:
    """Device of this worker: the workers of a machine take its GPUs by turns.

    Parameters
    ----------
    device : torch.device
        Device of the net in the caller's process.

    Returns
    -------
    device : torch.device
        The same, unless it is a GPU. Else the GPU with the number of this worker, modulo
        the number of GPUs that the worker sees: the only one under dask-cuda and ray.

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
    """Number in the name that multiprocessing, loky or dask gave this worker."""
    names = [multiprocessing.current_process().name]
    if "distributed" in sys.modules:
        with contextlib.suppress(ValueError):  # this process is none of dask's workers
            names.append(str(sys.modules["distributed"].get_worker().name))
    numbers = [re.search(r"\d+$", name) for name in names]
    return next((int(number.group()) for number in numbers if number), None)
