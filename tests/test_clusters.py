"""Votes of workers: the same on every engine, whatever becomes of the workers."""

import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import defaultdict
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import Threshold, frozen
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV

import rs4a.workers
from rs4a import CertificationWarning, SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.metrics import make_certified_scorer
from rs4a.noises import Splitting, Uniform
from rs4a.sampling import Voters
from rs4a.vote_plans import VotePlan
from rs4a.workers import own_device, pack_voters, vote_in_worker

TESTS = Path(__file__).parent
X = np.random.default_rng(0).integers(0, 17, size=(130, 6)).astype(np.float32) / 16
FIXED, STOPS = ClopperPearson(n=1000), ConfidenceSequence(max_n=2000, radii=0.2)
RUNS = {
    "fixed": ({"bound": FIXED}, {}),
    "stops": ({"bound": STOPS}, {}),
    "budget": ({"bound": STOPS}, {"max_votes": 20_000}),
    "views": ({"noise": Splitting(sigma=1.0, levels=16, seed=0)}, {}),
}

pytestmark = [
    pytest.mark.cluster,
    # Sockets and processes of dask and ray that are closed a moment too late.
    pytest.mark.filterwarnings("ignore:.*:ResourceWarning"),
]


class Noted(Threshold):
    """Notes in a folder which threads of which processes it ran in."""

    def __init__(self, folder, t=0.5):
        super().__init__(t)
        self.folder = folder

    def forward(self, X):
        place = f"{os.getpid()}-{threading.get_ident()}-{torch.get_num_threads()}"
        Path(self.folder, place).touch()
        return super().forward(X)


class Suicidal(Threshold):
    """Kills its process at its first forward pass in a worker, but once only."""

    def __init__(self, flag, parent, t=0.5):
        super().__init__(t)
        self.flag = flag
        self.parent = parent

    def forward(self, X):
        if os.getpid() != self.parent and not Path(self.flag).exists():
            Path(self.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(X)


class Deadly(Threshold):
    """Kills every worker."""

    def forward(self, X):
        if multiprocessing.current_process().name != "MainProcess":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(X)


def make(net=None, **params):
    net = net or frozen(Threshold, [0, 1], module__t=0.5)
    options = {"noise": Uniform(sigma=0.5), "bound": FIXED, "random_state": 0, **params}
    return SmoothedClassifier(net, **options).fit(X[:2], [0, 1])


def suicidal(tmp_path):
    params = {"module__flag": str(tmp_path / "flag"), "module__parent": os.getpid()}
    return make(frozen(Suicidal, [0, 1], **params))


def assert_same(one, other):
    np.testing.assert_array_equal(one.selection_counts, other.selection_counts)
    np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_array_equal(one.radius(), other.radius())


# The engines


@pytest.fixture(scope="module")
def environment():
    """What workers inherit: the folder of this module, and peace from ray's services."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        yield


@pytest.fixture(scope="module")
def dask_client(environment):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def ray(environment):
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    register_ray()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(params=["loky", "threading", "multiprocessing", "dask", "ray"])
def engine(request):
    if request.param in ("dask", "ray"):
        request.getfixturevalue({"dask": "dask_client"}.get(request.param, request.param))
    return request.param


@pytest.fixture(params=["dask", "ray"])
def cluster(request):
    request.getfixturevalue({"dask": "dask_client"}.get(request.param, request.param))
    return request.param


@pytest.mark.parametrize("run", RUNS)
def test_votes_are_those_of_the_serial_run(engine, run, tmp_path):
    params, arguments = RUNS[run]
    net = frozen(Noted, [0, 1], module__folder=str(tmp_path))
    wanted = make(**params).certify(X, **arguments)
    clf = make(net, batch_size=2048, **params)
    with parallel_config(backend=engine, n_jobs=2):
        assert_same(clf.certify(X, **arguments), wanted)
    threads = defaultdict(list)
    for pid, _, n_threads in (path.name.split("-") for path in tmp_path.iterdir()):
        threads[int(pid)].append(int(n_threads))
    if engine == "threading":
        return
    del threads[os.getpid()]  # warns of nets whose answers depend on the batch
    assert 1 <= len(threads) <= 2
    if engine != "multiprocessing":
        assert sum(sum(each) for each in threads.values()) <= max(os.cpu_count(), 2)
