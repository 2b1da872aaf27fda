"""Finished work that is kept: found again, never stale, never trusted when damaged."""

import contextlib
import copy
import errno
import importlib
import linecache
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
import torch
from conftest import Threshold, frozen
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import Checkpoint, EarlyStopping
from skorch.dataset import ValidSplit
from torch import nn
from torch.utils.data import default_collate

import rs4a.voting.store
from rs4a import Certification, CertificationWarning, SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.certify import _source
from rs4a.metrics import make_certified_scorer
from rs4a.networks import MLP
from rs4a.noises import Gaussian, Splitting, Uniform
from rs4a.utils.describe import describe
from rs4a.voting.source import _voting_parts
from rs4a.voting.voters import Voters

X = np.random.default_rng(0).integers(0, 17, size=(130, 6)).astype(np.float32) / 16
BOUNDS = [ClopperPearson(n=1000), ConfidenceSequence(max_n=2000, radii=0.2)]


def source_of(clf, X):
    """The votes of some inputs, before any is drawn."""
    return _source(clf._net, X, clf.noise_, len(clf.classes_), clf._procedure())


def make(memory=None, **params):
    options = {"noise": Uniform(sigma=0.5), "bound": BOUNDS[0], "random_state": 0, **params}
    net = frozen(Threshold, [0, 1], module__t=0.5)
    return SmoothedClassifier(net, memory=memory, **options).fit(X[:2], [0, 1])


@pytest.fixture
def drawn(monkeypatch):
    """Numbers of inputs of which votes were drawn, call by call."""
    calls = []
    for name in ("fixed", "requested"):
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
    n_votes = wanted.counts.sum() + wanted.selection_counts.sum()
    assert again.report["votes_from_memory"] == again.report["votes"] == n_votes
    assert again.report["votes_per_second"] == 0.0


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
    assert len(files(tmp_path / "rs4a")) == 5


def test_what_is_no_memory():
    with pytest.raises(ValueError, match="memory must be a folder, a joblib.Memory"):
        make().set_params(memory=3).certify(X[:5])
    assert make(joblib.Memory(None)).certify(X[:5]) is not None


def test_inputs_that_are_there_are_not_drawn(tmp_path, drawn):
    """In whatever order, and beside whichever others, they come."""
    clf = make(tmp_path)
    clf.certify(X)
    for path in files(tmp_path)[:9]:
        path.unlink()
    drawn.clear()
    wanted = make().certify(X[::-1])
    drawn.clear()
    again = clf.certify(X[::-1])
    assert_same(again, wanted)
    assert drawn == [9, 9]  # selection and estimation
    assert again.report["votes_from_memory"] == 121 * 1064
    assert len(files(tmp_path)) == 130


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


class Padded(nn.Module):
    """Its settings are kept as tuples, by the convolution."""

    def __init__(self, stride=1, factor=lambda x: x, table=(1.0,)):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv1d(1, 2, 2, stride=stride)
        self.factor = factor
        self.table = list(table)

    def forward(self, X):
        return self.table[0] * self.factor(self.layer(X[:, None]).mean(dim=2))


class Shifting(NeuralNetClassifier):
    """Its own parameter changes what is asked of the module."""

    def __init__(self, *args, shift=0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.shift = shift

    def infer(self, x, **fit_params):
        return super().infer(x + self.shift, **fit_params)


def power(exponent):
    return lambda x: x.abs() ** exponent


class Fitted(NeuralNetClassifier):
    """Keeps something of its fit beside the modules."""

    def infer(self, x, **fit_params):
        return super().infer(x + self._mean + self.mean_[0], **fit_params)


def fitted_to(mean_, _mean):
    net = Fitted(Padded).initialize()
    net.mean_, net._mean = [mean_], _mean
    return net


def reversed_order(outputs):
    return -outputs


def hooked(net):
    net.module_.register_forward_hook(lambda module, inputs, outputs: -outputs)
    return net


def replaced(net):
    forward = net.module_.forward
    net.module_.forward = lambda X: -forward(X)
    return net


VARIANTS = {
    "stride": lambda: NeuralNetClassifier(Padded, module__stride=2),
    "function": lambda: NeuralNetClassifier(Padded, module__factor=torch.abs),
    "closure": lambda: NeuralNetClassifier(Padded, module__factor=power(2)),
    "other closure": lambda: NeuralNetClassifier(Padded, module__factor=power(3)),
    "list": lambda: NeuralNetClassifier(Padded, module__table=[-1.0]),
    "wrapper": lambda: Shifting(Padded, shift=3.0),
    "other wrapper": lambda: Shifting(Padded, shift=-3.0),
    "fitted": lambda: fitted_to(3.0, 0.0),
    "fitted otherwise": lambda: fitted_to(-3.0, 0.0),
    "fitted in private": lambda: fitted_to(0.0, torch.tensor(-3.0)),
    "nonlinearity": lambda: NeuralNetClassifier(
        Padded, predict_nonlinearity=reversed_order
    ),
    "hook": lambda: hooked(NeuralNetClassifier(Padded).initialize()),
    "forward": lambda: replaced(NeuralNetClassifier(Padded).initialize()),
}


@pytest.mark.parametrize("bound", BOUNDS[:1], ids=str)
def test_whatever_changes_what_a_net_computes_is_other_work(tmp_path, drawn, bound):
    """All with the same weights, one after the other into one folder."""
    digests = set()
    for make_net in [lambda: NeuralNetClassifier(Padded), *VARIANTS.values()]:
        net = make_net()
        net.set_params(classes=[0, 1], criterion=nn.CrossEntropyLoss, verbose=0)
        if not net.initialized_:
            net.initialize()
        clf = make(tmp_path, bound=bound)
        clf.set_params(estimator=FrozenEstimator(net)).fit(X[:2], [0, 1])
        drawn.clear()
        kept = clf.certify(X[:5])
        assert drawn
        assert_same(kept, clf.set_params(memory=None).certify(X[:5]))
        digests.add(describe(*_voting_parts(net)))
    assert len(digests) == 1 + len(VARIANTS)


class Strips(nn.Module):
    """Takes images of any shape, and sees how wide they are."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, X):
        first = X[..., 0].mean(dim=1) - 0.5
        return self.scale * torch.stack([first, -first], dim=1)


@pytest.mark.parametrize("max_votes", [None, 20_000])
def test_the_shape_of_inputs_is_part_of_it(tmp_path, max_votes):
    clf = make(tmp_path, bound=BOUNDS[1])
    clf.set_params(estimator=frozen(Strips, [0, 1]))
    for shape in [(2, 3), (3, 2), (1, 6)]:
        images = X[:20].reshape(-1, *shape)
        kept = clf.set_params(memory=tmp_path).fit(images, [0, 1] * 10)
        kept = kept.certify(images, max_votes=max_votes)
        fresh = clf.set_params(memory=None).certify(images, max_votes=max_votes)
        assert_same(kept, fresh)


class Helper:
    def __init__(self, inner):
        self.inner = inner


class Beside(nn.Module):
    """Has a module that is no submodule, which drops out unless it is told not to."""

    def __init__(self, inner, wrap):
        super().__init__()
        self.inner = wrap(inner)
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, X):
        inner = self.inner
        inner = inner[0] if isinstance(inner, list) else inner
        dropped = getattr(inner, "inner", inner)(X)
        return self.weight * torch.stack([dropped[:, 0], 0.25 + 0 * X[:, 0]], dim=1)


@pytest.mark.parametrize("wrap", [lambda m: [m], lambda m: m.forward, Helper])
def test_votes_of_modules_in_another_mode_are_not_found(tmp_path, wrap):
    dropout = nn.Dropout(0.5)
    net = NeuralNetClassifier(
        Beside(dropout, wrap), criterion=nn.CrossEntropyLoss, classes=[0, 1], verbose=0
    )
    net.initialize()
    clf = make(tmp_path).set_params(estimator=FrozenEstimator(net))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CertificationWarning)  # it is no function of X
        clf.fit(X[:2], [0, 1]).certify(X)
    dropout.eval()
    kept = clf.certify(X)
    assert_same(kept, clf.set_params(memory=None).certify(X))


def test_code_that_is_loaded_counts_not_the_file(tmp_path, monkeypatch):
    """Helpers, base classes and constants of the module are part of it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    script, digests = tmp_path / "module_of_mine.py", []
    for old, new in [
        ("", ""),
        ("SCALE = 1", "SCALE = 2"),
        ("E * x", "E + x"),
        ("= 3", "= 4"),
    ]:
        script.write_text(MODULE.replace(old, new))
        sys.modules.pop("module_of_mine", None)
        module = importlib.import_module("module_of_mine")
        script.write_text("broken(")  # edited while the program runs
        digests.append(describe(module.Net))
    assert len(set(digests)) == 4


MODULE = """
SCALE = 1.0

def helper(x):
    return SCALE * x

class Base:
    n = 3

class Net(Base):
    def forward(self, x):
        return helper(x)

"""


def test_what_cannot_be_described_is_not_kept(tmp_path):
    net = frozen(Padded, [0, 1], module__table=[1.0])
    net.estimator.module_.rows = (each for each in "abc")
    clf = make(tmp_path).set_params(estimator=net, batch_size=10**6).fit(X[:2], [0, 1])
    with (
        torch.no_grad(),
        pytest.warns(CertificationWarning, match="keeps no votes of this"),
    ):
        source_of(clf, X[:5])._name()


def test_settings_of_torch_are_part_of_it(tmp_path, drawn):
    make(tmp_path).certify(X[:5])
    drawn.clear()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        certification = make(tmp_path).certify(X[:5])
    finally:
        torch.set_float32_matmul_precision(before)
    assert drawn
    assert certification.report["matmul_precision"] == "medium"


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

    monkeypatch.setattr(rs4a.voting.store, "whole_file", full)
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

    monkeypatch.setattr(rs4a.voting.store, "whole_file", read_only)
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
    assert len(files(tmp_path)) == 130
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.cluster)])
def test_an_interruption_keeps_what_was_done(tmp_path, monkeypatch, n_jobs):
    bound = BOUNDS[1]
    clf = make(tmp_path, bound=bound, n_jobs=n_jobs)
    save, n_saved = rs4a.voting.store.VoteStore.save, []

    def interrupted(self, key, arrays):
        saved = save(self, key, arrays)
        n_saved.append(key)
        if len(n_saved) == 70:
            raise KeyboardInterrupt
        return saved

    with monkeypatch.context() as patch:
        patch.setattr(rs4a.voting.store.VoteStore, "save", interrupted)
        with pytest.warns(CertificationWarning, match="certify was interrupted"):
            part = clf.certify(X)
    assert 70 <= (part.counts.sum(axis=1) > 0).sum() < 130
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
def test_killed_ten_times(tmp_path):
    """At random moments; the record that comes out in the end is that of no kill."""
    process = start(tmp_path)
    began = time.monotonic()
    assert process.wait() == 0
    duration = time.monotonic() - began
    wanted = (tmp_path / "record.npz").read_bytes()
    shutil.rmtree(tmp_path / "memory")
    (tmp_path / "record.npz").unlink()
    moments = np.random.default_rng(0).uniform(0.3 * duration, 1.1 * duration, size=10)
    n_killed = 0
    for moment in moments:
        process = start(tmp_path)
        try:
            assert process.wait(timeout=moment) == 0
        except subprocess.TimeoutExpired:
            kill(process)
            n_killed += 1
            if n_killed % 4 == 0:  # else all would be there soon
                for path in files(tmp_path)[::2]:
                    path.unlink()
    assert n_killed >= 3
    assert start(tmp_path).wait() == 0
    (tmp_path / "wanted.npz").write_bytes(wanted)
    one, other = (Certification.load(tmp_path / f"{n}.npz") for n in ("record", "wanted"))
    assert_same(one, other)
    np.testing.assert_array_equal(one.radius(), other.radius())


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
        {"estimator__iterator_train__collate_fn": lambda batch: default_collate(batch)},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_other_trainings_are_other_work(tmp_path, digits, epochs, change):
    trained(tmp_path).fit(*digits)
    epochs.clear()
    changed = trained(tmp_path).set_params(**change).fit(*digits)
    assert len(epochs) == 4
    np.testing.assert_array_equal(
        weights(changed), weights(trained().set_params(**change).fit(*digits))
    )


def test_trainings_with_files_of_their_own_are_not_kept(tmp_path, digits, epochs):
    """The best weights that a checkpoint loads would be those of another training."""

    def fit(lr, memory, folder):
        best = Checkpoint(dirname=str(tmp_path / folder), load_best=True)
        clf = trained(memory, callbacks=[("best", best)]).set_params(estimator__lr=lr)
        return weights(clf.fit(*digits))

    for lr in (0.05, 0.5, 0.05):
        np.testing.assert_array_equal(fit(lr, tmp_path, "one"), fit(lr, None, "other"))
    assert not (tmp_path / "rs4a").exists()


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


@pytest.mark.parametrize("damage", [cut, flip, lambda content: b""])
def test_damaged_trainings_are_done_again(tmp_path, digits, damage):
    wanted = weights(trained(tmp_path).fit(*digits))
    (path,) = tmp_path.rglob("*.pt")
    path.write_bytes(damage(path.read_bytes()))
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


class Precise(Threshold):
    """Answers by how precisely float32 matrices are multiplied."""

    def forward(self, X):
        outputs = super().forward(X)
        return -outputs if torch.get_float32_matmul_precision() == "medium" else outputs


def test_workers_multiply_as_the_caller_does():
    clf = make().set_params(estimator=frozen(Precise, [0, 1])).fit(X[:2], [0, 1])
    before, found = torch.get_float32_matmul_precision(), []
    try:
        # Workers that have the net already follow too.
        for precision in ("highest", "medium", "highest"):
            torch.set_float32_matmul_precision(precision)
            here = clf.set_params(n_jobs=None).certify(X[:8])
            assert_same(clf.set_params(n_jobs=2).certify(X[:8]), here)
            found.append(here)
    finally:
        torch.set_float32_matmul_precision(before)
    assert (found[0].counts != found[1].counts).any()
    assert_same(found[0], found[2])


# What cannot be told apart


def rows_of(generator):
    class Following(MLP):
        """A net beside which something stands that no description can hold."""

        def forward(self, X):
            return super().forward(X) if generator is not None else X

    return Following


def test_nothing_is_refused_for_the_sake_of_a_memory(tmp_path, digits):
    inputs, y = digits
    clf = trained(tmp_path).set_params(estimator__module=rows_of(iter("abc")))
    plain = trained().set_params(estimator__module=rows_of(iter("abc")))
    unkept = trained(tmp_path).set_params(estimator__module=rows_of(each for each in "abc"))
    with pytest.warns(
        CertificationWarning, match="does not keep this.*generator"
    ) as caught:
        unkept.fit(inputs, y)
    assert [each.filename for each in caught] == [__file__]
    assert not list(tmp_path.rglob("*.pt"))
    for each in (clf, plain):
        np.testing.assert_array_equal(weights(each.fit(inputs, y)), weights(unkept))
    assert list(tmp_path.rglob("*.pt"))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn, self.last = kind(8, 16, batch_first=True), nn.Linear(16, 10)
        self.log, self.lock = logging.getLogger(__name__), threading.Lock()

    def forward(self, X):
        self.log.debug("asked")
        return self.last(self.rnn(X.view(-1, 8, 8))[0][:, -1])

    def __getstate__(self):  # of a net that can be copied
        return {name: each for name, each in vars(self).items() if name != "lock"}


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_nets_are_kept(tmp_path, digits, epochs, kind):
    inputs, y = digits
    net = NeuralNetClassifier(
        Recurrent, module__kind=kind, criterion=nn.CrossEntropyLoss, max_epochs=1,
        train_split=None, verbose=0,
    )  # fmt: skip
    found = []
    for _ in range(2):
        clf = SmoothedClassifier(
            net, noise=Uniform(sigma=0.3), bound=BOUNDS[0], random_state=0, memory=tmp_path
        )
        found.append(clf.fit(inputs, y).certify(inputs[:3]))
    assert len(epochs) == 1
    assert [each.report["votes_from_memory"] for each in found] == [0, 3 * 1064]
    assert_same(*found)


def test_ctrl_c_says_what_is_kept(tmp_path, monkeypatch):
    save, n_saved = rs4a.voting.store.VoteStore.save, []

    def interrupted(self, key, votes):
        n_saved.append(save(self, key, votes))
        if len(n_saved) == 70:
            raise KeyboardInterrupt
        return True

    for bound, clf in ((each, make(tmp_path, bound=each)) for each in BOUNDS):
        n_saved.clear()
        words = r"(?s).*memory keeps the votes of (69|70) of 130 inputs, in .*the same call"
        with monkeypatch.context() as patch:
            patch.setattr(rs4a.voting.store.VoteStore, "save", interrupted)
            if bound is BOUNDS[0]:
                with pytest.raises(KeyboardInterrupt) as caught:
                    clf.certify(X)
                assert re.match(words, caught.value.__notes__[0])
            else:
                with pytest.warns(CertificationWarning, match=words):
                    clf.certify(X)
        assert_same(clf.certify(X), make(bound=bound).certify(X))


# scikit-learn's configuration


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_configuration_reaches_workers(backend, n_jobs):
    base = make_pipeline(
        StandardScaler(),
        FunctionTransformer(configured),
        LogisticRegression(),
    )
    with sklearn.config_context(assume_finite=True):
        clf = SmoothedClassifier(base, noise=Uniform(sigma=0.5), bound=BOUNDS[0])
        clf.set_params(random_state=0, n_jobs=n_jobs).fit(X, np.arange(130) % 2)
        with joblib.parallel_config(backend):
            assert clf.certify(X[:4]).counts.sum() == 4000


class Configured(Threshold):
    def forward(self, X):
        assert sklearn.get_config()["assume_finite"]
        return super().forward(X)


def test_configuration_reaches_threads():
    net = frozen(Configured, [0, 1], module__t=0.5)
    with sklearn.config_context(assume_finite=True), threads(2):
        clf = make().set_params(estimator=net).fit(X[:2], [0, 1])
        assert clf.certify(X[:4]).counts.sum() == 4000


@contextlib.contextmanager
def threads(n_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    yield
    torch.set_num_threads(before)


def configured(x):
    assert sklearn.get_config()["assume_finite"]
    return x


def test_warnings_inside_skorch_point_to_the_caller(digits):
    inputs, y = digits
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(64, 10), nn.Softmax(dim=1)), criterion=nn.CrossEntropyLoss,
        max_epochs=1, train_split=None, verbose=0,
    )  # fmt: skip
    clf = SmoothedClassifier(net, noise=Uniform(sigma=0.3), random_state=0)
    with pytest.warns(UserWarning, match="outputs are probabilities") as caught:
        clf.fit(inputs, y)
    assert {each.filename for each in caught} == {__file__}
