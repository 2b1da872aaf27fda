"""Votes of workers: the same on every engine, also after workers died."""

import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from conftest import Threshold, frozen
from joblib import effective_n_jobs, parallel_config
from joblib.pool import PicklingPool
from sklearn.model_selection import GridSearchCV

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.metrics import make_certified_scorer
from rs4a.noises import Splitting, Uniform

psutil = pytest.importorskip("psutil")  # as dask and ray do
TESTS = Path(__file__).parent
X = np.random.default_rng(0).integers(0, 17, size=(130, 6)).astype(np.float32) / 16
FIXED, STOPS = ClopperPearson(n=1000), ConfidenceSequence(max_n=2000, radii=0.2)
#: Parameters of the classifier, and arguments of certify.
RUNS = {
    "fixed": ({"bound": FIXED}, {}),
    "stops": ({"bound": STOPS}, {}),
    "budget": ({"bound": STOPS}, {"max_votes": 20_000}),
    "views": ({"noise": Splitting(sigma=1.0, levels=16, seed=0)}, {}),
}

pytestmark = pytest.mark.cluster


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
    """Kills its process at its first forward pass in a worker, until there are enough."""

    def __init__(self, folder, parent, n_deaths, t=0.5):
        super().__init__(t)
        self.folder = folder
        self.parent = parent
        self.n_deaths = n_deaths

    def forward(self, X):
        died = len(list(Path(self.folder).iterdir()))
        if os.getpid() != self.parent and died < self.n_deaths:
            Path(self.folder, str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(X)


def make(net=None, **params):
    net = net or frozen(Threshold, [0, 1], module__t=0.5)
    options = {"noise": Uniform(sigma=0.5), "bound": FIXED, "random_state": 0, **params}
    return SmoothedClassifier(net, **options).fit(X[:2], [0, 1])


def make_suicidal(folder, n_deaths):
    folder.mkdir()
    params = {"folder": str(folder), "parent": os.getpid(), "n_deaths": n_deaths}
    return make(
        frozen(Suicidal, [0, 1], **{f"module__{name}": v for name, v in params.items()})
    )


def assert_same(one, other):
    np.testing.assert_array_equal(one.selection_counts, other.selection_counts)
    np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_array_equal(one.radius(), other.radius())


# The engines


@pytest.fixture(scope="module")
def environment():
    """What workers inherit, and that none of them is left over."""
    before = psutil.Process().children(recursive=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else it writes a token into ~
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of later
        patch.setenv("RAY_TQDM_PATCH_PRINT", "0")  # else it replaces builtins.print
        yield
    now = set(psutil.Process().children(recursive=True)).difference(before)
    _, left = psutil.wait_procs([each for each in now if not stays(each)], timeout=20)
    assert not left


def stays(process):
    """Loky's workers stay for the next call, and resource trackers as long as we do."""
    try:
        return re.search("loky|resource_tracker", " ".join(process.cmdline()))
    except psutil.Error:  # it has just ended
        return True


@pytest.fixture(scope="module")
def dask_client(environment):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",  # with None dask serves HTTP at its usual port
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def dask(dask_client):
    dask_client.wait_for_workers(2, timeout=60)  # some may have been killed
    return dask_client


@pytest.fixture(scope="module")
def ray(environment):
    ray = pytest.importorskip("ray")
    from ray.util.joblib import register_ray

    register_ray()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # files that ray 2.51 leaves open
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    bases = PicklingPool.__bases__
    yield ray
    gc.collect()
    PicklingPool.__bases__ = bases  # ray's backend had put itself under multiprocessing's
    ray.shutdown()


@pytest.fixture
def engine(request):
    """Name of a backend of joblib, whose cluster is there."""
    if request.param in ("dask", "ray"):
        request.getfixturevalue(request.param)
    return request.param


def on(*engines):
    return pytest.mark.parametrize("engine", engines, indirect=True)


# The same votes


def check_threads(folder):
    """Workers run in other processes, and have no more threads than there are cores."""
    n_threads = defaultdict(int)
    for path in folder.iterdir():
        pid, _, n = path.name.split("-")
        n_threads[int(pid)] += int(n)
    del n_threads[os.getpid()]  # tries whether answers depend on the batch
    assert 1 <= len(n_threads) <= 2
    assert sum(n_threads.values()) <= max(os.cpu_count(), 2)


@pytest.mark.parametrize("run", RUNS)
@on("loky", "multiprocessing", "dask", "ray")
def test_votes_are_those_of_the_serial_run(engine, run, tmp_path):
    if engine == "ray" and run != "stops":
        pytest.skip("ray's workers start slowly: one run shows that it works")
    params, arguments = RUNS[run]
    clf = make(frozen(Noted, [0, 1], module__folder=str(tmp_path)), **params)
    wanted = make(**params).certify(X, **arguments)
    with parallel_config(backend=engine, n_jobs=2):
        certification = clf.certify(X, **arguments)
    assert_same(certification, wanted)
    assert certification.report["workers"] == 2
    check_threads(tmp_path)


@pytest.mark.parametrize("n_jobs", [None, -1])
def test_all_of_a_dask_cluster_is_used(dask, n_jobs, tmp_path):
    clf = make(frozen(Noted, [0, 1], module__folder=str(tmp_path)), n_jobs=n_jobs)
    with parallel_config(backend="dask"):
        assert clf.certify(X).report["workers"] == 2
    check_threads(tmp_path)


def test_all_of_a_ray_cluster_is_meant(ray):
    with parallel_config(backend="ray", n_jobs=-1):
        assert effective_n_jobs(None) == 2
    with parallel_config(backend="ray"):
        assert effective_n_jobs(-1) == 2


@on("dask")
def test_searches(engine):
    y = (X[:, 0] > 0.5).astype(int)
    search = GridSearchCV(
        make(n_jobs=2),  # on dask these are tasks of the cluster too
        {"noise__sigma": [0.2, 0.4]},
        scoring=make_certified_scorer(radius=0.1, norm=1),
        cv=2,
        refit=False,
        error_score="raise",
    )
    wanted = search.fit(X, y).cv_results_["mean_test_score"]
    with parallel_config(backend=engine, n_jobs=2):
        found = search.fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(found, wanted)
    assert 0 < wanted[1] < wanted[0]


# The class of the net


@pytest.fixture
def nowhere(monkeypatch):
    """Module that no other process can import."""
    module = ModuleType("nowhere")
    for name, base in (("Net", Threshold), ("Noise", Uniform)):
        setattr(module, name, type(name, (base,), {"__module__": "nowhere"}))
    monkeypatch.setitem(sys.modules, "nowhere", module)
    return module


MISSING = "cannot build the net or its noise, .*nowhere.*: No module named 'nowhere'. Ins"


@on("loky", "dask", "ray")
def test_a_worker_without_the_class_of_the_net(engine, nowhere):
    clf = make(frozen(nowhere.Net, [0, 1]))
    with (
        parallel_config(backend=engine, n_jobs=2),
        pytest.raises(RuntimeError, match=MISSING),
    ):
        clf.certify(X)


@on("loky", "dask")
def test_a_worker_without_the_class_of_the_noise(engine, nowhere):
    """It is a part of the rule too, by which workers stop."""
    clf = make(noise=nowhere.Noise(sigma=0.5), bound=STOPS)
    with (
        parallel_config(backend=engine, n_jobs=2),
        pytest.raises(RuntimeError, match=MISSING),
    ):
        clf.certify(X)


SCRIPT = """
import sys

import numpy as np
import torch
from joblib import parallel_config
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(6, 2)

    def forward(self, X):
        return self.layer(X)


if __name__ == "__main__":
    engine, *address = sys.argv[1:]
    if address:
        from distributed import Client

        client = Client(*address)
    X = np.random.default_rng(0).random((20, 6), dtype=np.float32)
    net = FrozenEstimator(NeuralNetClassifier(Net, classes=[0, 1]).initialize())
    clf = SmoothedClassifier(net, bound=ClopperPearson(n=500), random_state=0)
    clf.fit(X[:2], [0, 1])
    with parallel_config(backend=engine, n_jobs=2):
        there = clf.certify(X)
    assert there.report["workers"] == 2
    np.testing.assert_array_equal(there.counts, clf.certify(X).counts)
"""


@on("loky", "dask")
def test_a_class_of_the_script(engine, request, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = [engine]
    if engine == "dask":
        arguments.append(request.getfixturevalue("dask").scheduler_info()["address"])
    subprocess.run([sys.executable, str(tmp_path / "script.py"), *arguments], check=True)


# Misfortunes


KILLED = """
import gc
import os
import re
import signal
import sys

from joblib import parallel_config
from test_clusters import X, make

from rs4a.voting.store import VoteStore

save, saved = VoteStore.save, []


def dying(self, key, arrays):
    save(self, key, arrays)
    saved.append(key)
    if len(saved) == 70:
        os.kill(os.getpid(), signal.SIGKILL)


VoteStore.save = dying
with parallel_config(backend="threading", n_jobs=2):
    make(memory=sys.argv[1]).certify(X)
"""


def test_what_a_killed_run_kept_serves_another_engine(dask, tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    with parallel_config(backend="dask"):
        certification = make(memory=tmp_path).certify(X)
    assert_same(certification, make().certify(X))
    share = certification.report["votes_from_memory"] / certification.report["votes"]
    assert 0.3 < share < 0.8


def repeated(call, n_errors):
    """Result of a call that may fail some times."""
    for _ in range(n_errors):
        with contextlib.suppress(Exception):
            return call()
    return call()


@on("loky", "ray", "dask")
def test_a_call_continues_after_killed_workers(engine, tmp_path):
    clf = make_suicidal(tmp_path / "deaths", n_deaths=2)
    clf.set_params(memory=tmp_path / "memory")
    with parallel_config(backend=engine, n_jobs=2):
        certification = repeated(lambda: clf.certify(X), n_errors=4)
    assert_same(certification, make().certify(X))
    # dask may hand both tasks to the worker that lives.
    assert 1 <= len(list((tmp_path / "deaths").iterdir())) <= 2


def test_a_task_that_kills_every_worker_ends(dask, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(dask.cluster.scheduler, "allowed_failures", 0)
    clf = make_suicidal(tmp_path / "deaths", n_deaths=9)
    with parallel_config(backend="dask"), pytest.raises(distributed.KilledWorker):
        clf.certify(X)
