"""Voters as workers get them, and what the workers do with them."""

import multiprocessing
import sys
from types import ModuleType, SimpleNamespace

import cloudpickle
import numpy as np
import pytest
import torch
from conftest import Threshold, make_net
from joblib import parallel_config
from skorch import NeuralNetClassifier

import rs4a.voting.workers
from rs4a.noises import Uniform
from rs4a.noises.streams import stream_keys
from rs4a.voting.plans import VoteBudget, draw_votes
from rs4a.voting.voters import Voters
from rs4a.voting.workers import Workers, n_workers, own_device, pack_voters, run_task

X = np.random.default_rng(0).random((4, 6), dtype=np.float32)
TASK = X, stream_keys(X, 0), VoteBudget(20, n_estimation=30)


def voters(net):
    return Voters(net, Uniform(sigma=0.5), None, n_classes=2, batch_size=64)


def initialized(module, **params):
    return NeuralNetClassifier(module, classes=[0, 1], **params).initialize()


@pytest.fixture(autouse=True)
def new_worker(monkeypatch):
    monkeypatch.setattr(rs4a.voting.workers, "_UNPACKED", {})


def votes_of(packed):
    """Votes of a worker in another process."""
    index, votes = run_task(5, draw_votes, cloudpickle.dumps(TASK), {}, *packed)
    assert index == 5
    return votes


def unpacked(net):
    packed = pack_voters(voters(net))
    votes_of(packed)
    return rs4a.voting.workers._UNPACKED[packed.digest].net


def test_packed_voters_vote_as_they_did():
    mine = voters(initialized(Threshold, module__t=0.5))
    with mine:
        wanted = draw_votes(mine, *TASK)
    votes = votes_of(pack_voters(mine))
    np.testing.assert_array_equal(votes.counts, wanted.counts)
    np.testing.assert_array_equal(votes.selection, wanted.selection)


def fail(voters, number):
    raise ValueError(f"task {number}")


@pytest.mark.cluster
def test_errors_of_a_task_end_the_call():
    with (
        Workers(voters(initialized(Threshold)), n_jobs=2) as workers,
        pytest.raises(ValueError, match="task 7"),
    ):
        list(workers.results(fail, [lambda: (7,)]))


def test_threads_are_no_workers():
    with parallel_config(backend="threading"):
        assert n_workers(2) == 1
    assert n_workers(2) == 2


def test_voters_are_unpacked_once():
    packed = pack_voters(voters(initialized(Threshold)))
    votes_of(packed)
    kept = rs4a.voting.workers._UNPACKED[packed.digest]
    votes_of(packed)
    assert rs4a.voting.workers._UNPACKED[packed.digest] is kept
    other = pack_voters(voters(initialized(Threshold, module__t=0.1)))
    votes_of(other)
    assert list(rs4a.voting.workers._UNPACKED) == [other.digest]  # the memory of one net


def test_what_only_trains_is_not_sent():
    images = np.zeros((20, 1, 8, 8), np.float32)
    net = make_net(max_epochs=1).fit(images, np.arange(20) % 10)
    net.callbacks_.append(("file", sys.stdin))  # as a callback that logs to a file
    net.train_loss = (each for each in ())  # what cannot be sent is still an error
    with pytest.raises(TypeError, match="cannot pickle 'generator'"):
        pack_voters(voters(net))
    del net.train_loss
    packed = pack_voters(voters(net))
    sent = cloudpickle.loads(packed.content)
    assert not hasattr(sent.net, "optimizer_")
    assert not hasattr(sent.net, "callbacks_")
    assert torch.equal(sent.net.infer(torch.ones(1, 64)), net.infer(torch.ones(1, 64)))
    n_weights = sum(each.numel() for each in net.module_.parameters())
    assert packed.content.nbytes < 4 * n_weights + 30_000


def test_a_class_that_a_function_defines():
    class Local(Threshold):
        pass

    assert type(unpacked(initialized(Local)).module_).__name__ == "Local"


@pytest.fixture
def nowhere(monkeypatch):
    module = ModuleType("nowhere")
    module.Net = type("Net", (Threshold,), {"__module__": "nowhere"})
    monkeypatch.setitem(sys.modules, "nowhere", module)
    return module


def test_a_worker_without_the_class(nowhere, monkeypatch):
    packed = pack_voters(voters(initialized(nowhere.Net)))
    monkeypatch.delitem(sys.modules, "nowhere")
    with pytest.raises(
        RuntimeError, match="net or its noise, nowhere.Net, .* No module named 'nowhere'"
    ):
        votes_of(packed)


def test_a_worker_with_an_older_module(nowhere, monkeypatch):
    packed = pack_voters(voters(initialized(nowhere.Net)))
    monkeypatch.delattr(nowhere, "Net")
    with pytest.raises(
        RuntimeError, match="net or its noise, nowhere.Net, .* attribute 'Net'"
    ):
        votes_of(packed)


def test_a_module_that_is_sent_along(nowhere, monkeypatch):
    cloudpickle.register_pickle_by_value(nowhere)
    try:
        packed = pack_voters(voters(initialized(nowhere.Net)))
    finally:
        cloudpickle.unregister_pickle_by_value(nowhere)
    monkeypatch.delitem(sys.modules, "nowhere")
    assert votes_of(packed).counts.sum() == 4 * 30


# GPUs


@pytest.fixture
def gpus(monkeypatch):
    """Lets a worker of some name see some GPUs."""

    def see(n_devices, name="MainProcess", dask_name=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n_devices > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_devices)
        monkeypatch.setattr(
            multiprocessing, "current_process", lambda: SimpleNamespace(name=name)
        )
        monkeypatch.delitem(sys.modules, "distributed", raising=False)
        if dask_name is not None:
            worker = SimpleNamespace(name=dask_name)
            distributed = SimpleNamespace(get_worker=lambda: worker)
            monkeypatch.setitem(sys.modules, "distributed", distributed)

    return see


DASK = "Dask Worker process (from Nanny)"


@pytest.mark.parametrize(
    ("sent_from", "worker", "wanted"),
    [
        ("cuda:0", (4, "LokyProcess-6"), "cuda:2"),
        ("cuda:3", (1, "LokyProcess-6"), "cuda:0"),
        ("cuda:0", (4, "ForkPoolWorker-5"), "cuda:1"),
        ("cuda:0", (4, DASK, 3), "cuda:3"),  # a LocalCluster numbers its workers
        ("cuda:2", (1, DASK, 3), "cuda:0"),  # a dask-cuda worker, or a task of ray's
        ("cuda:2", (1, DASK, "tcp://10.0.0.7:4321"), "cuda:0"),
        ("cuda:2", (1,), "cuda:0"),
        ("cuda:2", (4,), "cuda:2"),
        ("cuda", (4,), "cuda:0"),
        ("cpu", (4, "LokyProcess-6"), "cpu"),
        ("mps", (0, "LokyProcess-6"), "mps"),
    ],
)
def test_each_worker_takes_a_gpu(gpus, sent_from, worker, wanted):
    gpus(*worker)
    assert own_device(torch.device(sent_from)) == torch.device(wanted)


def test_eight_workers_share_four_gpus_evenly(gpus):
    taken = []
    for number in range(5, 13):  # processes that started before have lower numbers
        gpus(4, f"LokyProcess-{number}")
        taken.append(own_device(torch.device("cuda")).index)
    assert sorted(taken) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_worker_without_a_gpu_refuses_a_net_from_one(gpus):
    packed = pack_voters(voters(initialized(Threshold)))._replace(device="cuda:1")
    gpus(0)
    with pytest.raises(RuntimeError, match="on cuda:1, but a worker sees no GPU.*num_gpus"):
        votes_of(packed)


def test_the_net_moves_to_the_gpu_of_the_worker(gpus, monkeypatch):
    moved = []
    monkeypatch.setattr(
        rs4a.voting.workers, "to_device", lambda net, device: moved.append(str(device))
    )
    packed = pack_voters(voters(initialized(Threshold)))._replace(device="cuda:0")
    gpus(2, "LokyProcess-1")
    votes_of(packed)
    assert moved == ["cuda:1"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_tensors_are_sent_without_the_name_of_their_gpu():
    net = initialized(Threshold, device="cuda")
    packed = pack_voters(voters(net))
    assert packed.device == "cuda:0"
    sent = cloudpickle.loads(packed.content)
    assert sent.net.module_.unused.device.type == "cpu"
