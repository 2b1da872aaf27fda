"""Finished work that is kept: found again, never stale, never trusted when damaged."""

import copy
import errno
import importlib
import linecache
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from conftest import Threshold, frozen
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping
from skorch.dataset import ValidSplit
from torch import nn

import rs4a.vote_store
from rs4a import Certification, CertificationWarning, SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.metrics import make_certified_scorer
from rs4a.networks import MLP
from rs4a.noises import Gaussian, Splitting, Uniform
from rs4a.sampling import Voters

X = np.random.default_rng(0).integers(0, 17, size=(130, 6)).astype(np.float32) / 16
BOUNDS = [ClopperPearson(n=1000), ConfidenceSequence(max_n=2000, radii=0.2)]


def make(memory=None, **params):
    options = {"noise": Uniform(sigma=0.5), "bound": BOUNDS[0], "random_state": 0, **params}
    net = frozen(Threshold, [0, 1], module__t=0.5)
    return SmoothedClassifier(net, memory=memory, **options).fit(X[:2], [0, 1])


@pytest.fixture
def drawn(monkeypatch):
    """Numbers of inputs of which votes were drawn, call by call."""
    calls = []
    for name in ("fixed", "requested", "all_views"):
        original = getattr(Voters, name)

        def counted(self, inputs, *args, _original=original, **kwargs):
            calls.append(len(inputs))
            return _original(self, inputs, *args, **kwargs)

        monkeypatch.setattr(Voters, name, counted)
    return calls


def assert_same(one, other):
    np.testing.assert_array_equal(one.selection_counts, other.selection_counts)
    np.testing.assert_array_equal(one.counts, other.counts)


def files(folder):
    return sorted(Path(folder).rglob("*.votes"))


# Votes


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_votes_are_found_again(tmp_path, drawn, bound, n_jobs):
    wanted = make(bound=bound).certify(X)
    clf = make(tmp_path, bound=bound, n_jobs=n_jobs)
    assert_same(clf.certify(X), wanted)
    drawn.clear()
    again = make(tmp_path, bound=bound).certify(X)
    assert not drawn
    assert_same(again, wanted)
    assert again.report["votes_from_memory"] == wanted.counts.sum()


def test_votes_on_views_are_found_again(tmp_path, drawn):
    noise = Splitting(sigma=1.0, levels=16, seed=0)
    wanted = make(noise=noise).certify(X)
    assert_same(make(tmp_path, noise=noise).certify(X), wanted)
    drawn.clear()
    assert_same(make(tmp_path, noise=noise).certify(X), wanted)
    assert not drawn


def test_votes_of_a_budget_are_found_again(tmp_path, drawn):
    options = {"max_votes": 20_000}
    wanted = make(bound=BOUNDS[1]).certify(X, **options)
    assert_same(make(tmp_path, bound=BOUNDS[1]).certify(X, **options), wanted)
    drawn.clear()
    assert_same(make(tmp_path, bound=BOUNDS[1]).certify(X, **options), wanted)
    assert not drawn


def test_predictions_are_found_again(tmp_path, drawn):
    wanted = make().predict_proba(X)
    np.testing.assert_array_equal(make(tmp_path).predict_proba(X), wanted)
    drawn.clear()
    np.testing.assert_array_equal(make(tmp_path).predict(X), wanted.argmax(axis=1))
    assert not drawn


@pytest.mark.parametrize("kind", [str, Path, lambda p: joblib.Memory(p, verbose=0)])
def test_a_folder_or_a_memory(tmp_path, kind):
    make(kind(tmp_path)).certify(X[:5])
    assert len(files(tmp_path / "rs4a")) == 1


def test_what_is_no_memory():
    with pytest.raises(ValueError, match="memory must be a folder, a joblib.Memory"):
        make().set_params(memory=3).certify(X[:5])
    assert make(joblib.Memory(None)).certify(X[:5]) is not None


def test_shards_that_are_there_are_not_drawn(tmp_path, drawn):
    """Other images beside them, and in another order of shards, do not matter."""
    clf = make(tmp_path)  # 61 images a shard
    clf.certify(X)
    first, *_ = files(tmp_path)
    first.unlink()
    drawn.clear()
    assert_same(clf.certify(X), make().certify(X))
    assert drawn[0] in (61, 8)
    assert len(files(tmp_path)) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"random_state": 1}, {"noise": Uniform(sigma=0.6)}, {"noise": Gaussian(sigma=0.5)},
        {"n_selection": 65}, {"bound": ClopperPearson(n=1001)}, {"bound": BOUNDS[1]},
    ],
    ids=str,
)  # fmt: skip
def test_what_votes_depend_on_is_other_work(tmp_path, drawn, change):
    make(tmp_path).certify(X)
    drawn.clear()
    changed = make(tmp_path, **change).certify(X)
    assert drawn
    assert_same(changed, make(**change).certify(X))


@pytest.mark.parametrize(
    "change", [{"alpha": 0.01}, {"norm": 2}, {"batch_size": 100}], ids=str
)
def test_what_votes_do_not_depend_on_is_the_same_work(tmp_path, drawn, change):
    make(tmp_path).certify(X)
    drawn.clear()
    assert_same(make(tmp_path, **change).certify(X), make().certify(X))
    drawn.clear()
    make(tmp_path, **change).certify(X)
    assert not drawn


def test_alpha_is_part_of_votes_that_stop(tmp_path, drawn):
    make(tmp_path, bound=BOUNDS[1]).certify(X)
    for change in ({"alpha": 0.1}, {"norm": np.inf}):
        drawn.clear()
        changed = make(tmp_path, bound=BOUNDS[1], **change).certify(X)
        assert drawn
        assert_same(changed, make(bound=BOUNDS[1], **change).certify(X))


def test_box_is_part_of_votes_that_stop(tmp_path):
    grey = 0.3 + 0.4 * X
    bound = ConfidenceSequence(max_n=4000, radii=[0.6, 0.9])
    make(tmp_path, bound=bound, noise=Uniform(1.5)).certify(grey)
    boxed = make(tmp_path, bound=bound, noise=Uniform(1.5), box=(0, 1)).certify(grey)
    assert_same(boxed, make(bound=bound, noise=Uniform(1.5), box=(0, 1)).certify(grey))


def test_a_changed_net_is_other_work(tmp_path, drawn):
    clf = make(tmp_path)
    clf.certify(X)
    with torch.no_grad():
        clf.estimator_.module_.unused.add_(1.0)
    drawn.clear()
    clf.certify(X)
    assert drawn


def test_changed_code_is_other_work(tmp_path, monkeypatch):
    script = tmp_path / "net_of_mine.py"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = []
    for sign in ("-", "+"):
        script.write_text(NET.replace("SIGN", sign))
        linecache.clearcache()
        sys.modules.pop("net_of_mine", None)
        net = frozen(importlib.import_module("net_of_mine").Net, [0, 1])
        clf = make(tmp_path / "memory").set_params(estimator=net)
        found.append(clf.fit(X[:2], [0, 1]).predict(X))
    assert (found[0] != found[1]).mean() > 0.9  # ties stay


NET = textwrap.dedent(
    """
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(1))

        def forward(self, X):
            s = SIGN (X.sum(dim=1, keepdim=True) - 3.0) * self.w
            return torch.cat([s, -s], dim=1)
    """
)


# Damage and other misfortunes


def cut(content):
    return content[: len(content) // 2]


def flip(content):
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [cut, flip, lambda content: b""])
def test_damaged_votes_are_drawn_again(tmp_path, damage):
    wanted = make(tmp_path).certify(X)
    damaged = files(tmp_path)[1]
    content = damaged.read_bytes()
    damaged.write_bytes(damage(content))
    with pytest.warns(CertificationWarning, match="is damaged: its votes are drawn again"):
        assert_same(make(tmp_path).certify(X), wanted)
    assert damaged.read_bytes() == content


def test_votes_under_a_wrong_name_are_not_trusted(tmp_path):
    make(tmp_path).certify(X)
    wanted = make(random_state=1).certify(X)
    theirs = make(tmp_path, random_state=1)
    theirs.certify(X)
    for path in files(tmp_path):
        path.write_bytes(files(tmp_path)[0].read_bytes())
    with pytest.warns(CertificationWarning, match="is damaged"):
        assert_same(theirs.certify(X), wanted)


def test_a_full_disk_costs_the_memory_only(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rs4a.vote_store, "whole_file", full)
    with pytest.warns(CertificationWarning, match="No space left .* not kept") as caught:
        certification = make(tmp_path).certify(X)
    assert len(caught) == 1  # not a warning a shard
    assert_same(certification, make().certify(X))


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    def write_half(self, content):
        with open(self, "wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", write_half)
        with pytest.warns(CertificationWarning, match="No space left"):
            make(tmp_path).certify(X)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    """A file stands where the folder should: root may write into read-only folders."""
    (tmp_path / "rs4a").write_text("not a folder")
    with pytest.warns(CertificationWarning, match="memory cannot be written to"):
        assert_same(make(tmp_path).certify(X), make().certify(X))


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write"
)
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.warns(CertificationWarning, match="memory cannot be written to"):
        make(tmp_path).certify(X)


def test_a_read_only_folder_gives_what_it_has(tmp_path, monkeypatch, drawn):
    wanted = make(tmp_path).certify(X)

    def read_only(path):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(rs4a.vote_store, "whole_file", read_only)
    drawn.clear()
    assert_same(make(tmp_path).certify(X), wanted)
    assert not drawn


def test_two_runs_share_a_folder(tmp_path):
    wanted, found = make().certify(X), []

    def run():
        found.append(make(tmp_path).certify(X))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for certification in found:
        assert_same(certification, wanted)
    assert len(files(tmp_path)) == 3
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_interruption_keeps_what_was_done(tmp_path, monkeypatch, n_jobs):
    bound = BOUNDS[1]
    clf = make(tmp_path, bound=bound, n_jobs=n_jobs)
    save, n_saved = rs4a.vote_store.VoteStore.save, []

    def interrupted(self, key, arrays):
        save(self, key, arrays)
        n_saved.append(key)
        if len(n_saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rs4a.vote_store.VoteStore, "save", interrupted)
        with pytest.warns(CertificationWarning, match="certify was interrupted"):
            part = clf.certify(X)
    assert (part.counts.sum(axis=1) > 0).sum() in (120, 70)
    assert (part.radius() >= 0).all()
    assert_same(clf.certify(X), make(bound=bound).certify(X))


# Killed


RUN = """
import sys
import numpy as np
from test_memory import X, make
certification = make(sys.argv[1], n_jobs=int(sys.argv[2])).certify(np.tile(X, (3, 1)) / 2)
certification.save(sys.argv[3])
"""


def start(tmp_path, n_jobs=1):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    arguments = [str(tmp_path / "memory"), str(n_jobs), str(tmp_path / "record.npz")]
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments], env=environment, start_new_session=True
    )


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killed_twenty_times(tmp_path):
    """At random moments; the record that comes out in the end is that of no kill."""
    process = start(tmp_path)
    began = time.monotonic()
    assert process.wait() == 0
    duration = time.monotonic() - began
    wanted = (tmp_path / "record.npz").read_bytes()
    shutil.rmtree(tmp_path / "memory")
    (tmp_path / "record.npz").unlink()
    moments = np.random.default_rng(0).uniform(0.3 * duration, 1.1 * duration, size=20)
    n_killed = 0
    for moment in moments:
        process = start(tmp_path)
        try:
            assert process.wait(timeout=moment) == 0
        except subprocess.TimeoutExpired:
            kill(process)
            n_killed += 1
            if n_killed % 7 == 0:  # else all would be there soon
                for path in files(tmp_path)[::2]:
                    path.unlink()
    assert n_killed >= 5
    assert start(tmp_path).wait() == 0
    (tmp_path / "wanted.npz").write_bytes(wanted)
    one, other = (Certification.load(tmp_path / f"{n}.npz") for n in ("record", "wanted"))
    assert_same(one, other)
    np.testing.assert_array_equal(one.radius(), other.radius())


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


def test_a_worker_that_dies_costs_time_only(tmp_path):
    net = frozen(
        Suicidal, [0, 1], module__flag=str(tmp_path / "flag"), module__parent=os.getpid()
    )
    clf = make().set_params(estimator=net, n_jobs=2).fit(X[:2], [0, 1])
    with pytest.warns(CertificationWarning, match="A worker died"):
        certification = clf.certify(X)
    assert (tmp_path / "flag").exists()
    assert_same(certification, make().certify(X))


# Trainings


@pytest.fixture(scope="module")
def digits():
    images, y = load_digits(return_X_y=True)
    return (images[:300] / 16).astype(np.float32), y[:300]


def trained(memory=None, callbacks=(), **params):
    net = NeuralNetClassifier(
        MLP, module__input_shape=(64,), module__n_classes=10, criterion=nn.CrossEntropyLoss,
        max_epochs=4, lr=0.05, verbose=0, iterator_train__shuffle=True,
        callbacks=list(callbacks),
        train_split=ValidSplit(3, stratified=True) if callbacks else None,
    )  # fmt: skip
    options = {"noise": Uniform(sigma=0.3), "random_state": 0, **params}
    return SmoothedClassifier(net, memory=memory, bound=BOUNDS[0], **options)


def weights(clf):
    state = clf.estimator_.module_.state_dict()
    return np.concatenate([each.numpy().ravel() for each in state.values()])


@pytest.fixture
def epochs(monkeypatch):
    """Epochs that were trained."""
    calls = []
    original = NeuralNetClassifier.run_single_epoch

    def counted(self, *args, training, **kwargs):
        if training:
            calls.append(len(self.history))
        return original(self, *args, training=training, **kwargs)

    monkeypatch.setattr(NeuralNetClassifier, "run_single_epoch", counted)
    return calls


def test_trainings_are_found_again(tmp_path, digits, epochs):
    wanted = trained().fit(*digits)
    clf = trained(tmp_path).fit(*digits)
    np.testing.assert_array_equal(weights(clf), weights(wanted))
    epochs.clear()
    again = trained(tmp_path).fit(*digits)
    assert not epochs
    np.testing.assert_array_equal(weights(again), weights(wanted))
    assert len(again.estimator_.history) == 4
    assert all(name != "memory" for name, _ in again.estimator_.callbacks_)


def test_an_interrupted_training_goes_on(tmp_path, digits, epochs, monkeypatch):
    wanted = trained().fit(*digits)
    epochs.clear()
    original = NeuralNetClassifier.on_epoch_begin

    def interrupted(self, *args, **kwargs):
        if len(self.history) == 3:
            raise RuntimeError("killed")
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(NeuralNetClassifier, "on_epoch_begin", interrupted)
        with pytest.raises(RuntimeError, match="killed"):
            trained(tmp_path).fit(*digits)
    epochs.clear()
    np.testing.assert_array_equal(weights(trained(tmp_path).fit(*digits)), weights(wanted))
    assert len(epochs) < 4


@pytest.mark.parametrize(
    "change",
    [
        {"noise": Uniform(sigma=0.4)}, {"random_state": 1}, {"estimator__lr": 0.06},
        {"estimator__module__hidden": [10]},
    ],
    ids=str,
)  # fmt: skip
def test_other_trainings_are_other_work(tmp_path, digits, epochs, change):
    trained(tmp_path).fit(*digits)
    epochs.clear()
    changed = trained(tmp_path).set_params(**change).fit(*digits)
    assert len(epochs) == 4
    np.testing.assert_array_equal(
        weights(changed), weights(trained().set_params(**change).fit(*digits))
    )


def test_any_changed_input_is_other_work(tmp_path, digits, epochs):
    images, y = digits
    trained(tmp_path).fit(images, y)
    changed = images.copy()
    changed[251, 17] += 1 / 16
    epochs.clear()
    trained(tmp_path).fit(changed, y)
    assert len(epochs) == 4


def test_early_stopping_stays_stopped(tmp_path, digits, epochs):
    stop = ("stop", EarlyStopping(patience=1, threshold=10.0, threshold_mode="abs"))
    clf = trained(tmp_path, callbacks=[stop]).fit(*digits)
    assert len(clf.estimator_.history) == 2
    epochs.clear()
    again = trained(tmp_path, callbacks=[copy.deepcopy(stop)]).fit(*digits)
    assert epochs == [2]  # the last epoch, which ended it, is repeated
    np.testing.assert_array_equal(weights(again), weights(clf))


def test_damaged_trainings_are_done_again(tmp_path, digits):
    wanted = weights(trained(tmp_path).fit(*digits))
    (path,) = tmp_path.rglob("*.pt")
    path.write_bytes(cut(path.read_bytes()))
    with pytest.warns(CertificationWarning, match="is damaged: the net is trained anew"):
        again = trained(tmp_path).fit(*digits)
    np.testing.assert_array_equal(weights(again), wanted)


def test_trainings_go_on_where_nothing_can_be_written(tmp_path, digits):
    (tmp_path / "rs4a").write_text("not a folder")
    with pytest.warns(CertificationWarning, match="the training is not kept"):
        clf = trained(tmp_path).fit(*digits)
    np.testing.assert_array_equal(weights(clf), weights(trained().fit(*digits)))


def test_searches_keep_trainings_and_votes(tmp_path, digits, epochs, drawn):
    def search():
        return GridSearchCV(
            trained(tmp_path),
            {"noise__sigma": [0.2, 0.3]},
            scoring=make_certified_scorer(radius=0.1, norm=1),
            cv=2,
            refit=False,
        ).fit(*digits)

    first = search().cv_results_["mean_test_score"]
    epochs.clear()
    drawn.clear()
    np.testing.assert_array_equal(search().cv_results_["mean_test_score"], first)
    assert not epochs
    assert not drawn
