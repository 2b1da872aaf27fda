"""joblib's workers: work is handed out to them, again where one died."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Self

import cloudpickle
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend
from sklearn import config_context, get_config

from rs4a.utils.user_warnings import warn_user
from rs4a.voting.remote import RemoteVoters, load_packed, pack_voters
from rs4a.voting.voters import Voters

__all__ = ["TASKS_PER_JOB", "Workers"]

#: Tasks a worker, where the tasks of a call are handed out at once.
TASKS_PER_JOB = 4
#: How often work is handed out again after workers died and no task was finished.
_MAX_DEATHS = 3
#: How long a single worker that is left is not enough.
_RESTART_SECONDS = 60
#: How loky, ray and dask say that a worker died, or that what it held is lost.
_DEATHS = {"TerminatedWorkerError", "RayActorError", "ObjectLostError", "CancelledError"}


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
        self._sent: tuple[Voters] | RemoteVoters | None = None

    def __enter__(self) -> Self:
        self._stack = ExitStack()
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
                warn_user(
                    "A worker died, for want of memory perhaps: its votes are drawn again."
                )
                self._start_anew()

    def _handed_out(
        self,
        function: Callable[..., Any],
        tasks: list[tuple[int, Callable[[], tuple[Any, ...]]]],
    ) -> Iterator[tuple[int, Any]]:
        parallel, sent = self._opened(), self._sent_voters()
        config = get_config()  # of this thread: neither threads nor processes inherit it
        # A backend that gives no result before it has all is asked for some at a time.
        size = len(tasks)
        if not parallel.return_generator:
            size = effective_n_jobs(self.n_jobs) * TASKS_PER_JOB
        for start in range(0, len(tasks), size):
            results = parallel(
                delayed(_numbered)(
                    index, config, function, self._packed(arguments()), *sent
                )
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
            if type(backend).__name__ == "DaskDistributedBackend":
                _prepare_dask(backend)
            as_they_come = backend.supports_return_generator
            parallel = Parallel(
                n_jobs=self.n_jobs,
                return_as="generator_unordered" if as_they_come else "list",
                batch_size=1,
            )
            self._parallel = self._stack.enter_context(parallel)
        return self._parallel

    def _start_anew(self) -> None:
        self.__exit__()  # callbacks of tasks that were under way find nobody
        # joblib would work in this process, while dask starts new workers and one is left.
        deadline = time.monotonic() + _RESTART_SECONDS
        while effective_n_jobs(self.n_jobs) == 1 and time.monotonic() < deadline:
            time.sleep(0.1)

    def _sent_voters(self) -> tuple[Voters] | RemoteVoters:
        """The voters as workers get them: packed once, unless they share memory."""
        if self._sent is None:
            backend, _ = get_active_backend()
            if getattr(backend, "supports_sharedmem", False):
                self._sent = (self.voters,)
            else:
                packed = pack_voters(self.voters)
                self._sent = _held_by_ray(packed) if _is_ray(backend) else packed
        return self._sent

    def _packed(self, arguments: tuple[Any, ...]) -> Any:
        # As bytes, which dask sends again to another worker: of arrays it would keep one
        # copy with some worker. And what cannot be loaded there fails in the task.
        packed = isinstance(self._sent, RemoteVoters)
        return cloudpickle.dumps(arguments) if packed else arguments


def _numbered(
    index: int,
    config: dict[str, Any],
    function: Callable[..., Any],
    arguments: Any,
    *sent: Any,
) -> tuple[int, Any]:
    with config_context(**config):
        if len(sent) == 1:
            return index, function(*sent, *arguments)
        packed = RemoteVoters(*sent)
        return index, function(packed, *load_packed(arguments, packed))


def _close(results: Any) -> None:
    if not isinstance(results, list):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            results.close()


def _is_ray(backend: Any) -> bool:
    return type(backend).__name__ == "RayBackend"


def _held_by_ray(packed: RemoteVoters) -> RemoteVoters:
    """Put the bytes where ray's workers fetch them once; it would send them every time."""
    return packed._replace(content=sys.modules["ray"].put(packed.content))


def _is_death(error: BaseException) -> bool:
    return any(kind.__name__ in _DEATHS for kind in type(error).__mro__)


def _prepare_dask(backend: Any) -> None:
    """Have what goes wrong outside of tasks told: joblib 1.6 would wait forever."""
    if "submit" in vars(backend):  # by an earlier call
        return
    answers = backend.client.run(exec, "import rs4a", on_error="return")
    for address, answer in answers.items():
        if isinstance(answer, ImportError):
            raise RuntimeError(
                f"dask's worker {address} cannot import rs4a: {answer}. Install it there."
            ) from answer
    submit = backend.submit

    def reporting(func: Any, callback: Any = None) -> Any:
        def report(done: Any) -> None:
            if done.exception() is not None:
                callback(done.exception())

        future = submit(func, callback)
        future.add_done_callback(report)
        return future

    backend.submit = reporting
