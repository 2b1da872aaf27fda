"""Interrupted trainings go on, and end as if nothing had happened."""

import copy

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn

from rs4a import SmoothedClassifier
from rs4a.callbacks import ResumeTraining
from rs4a.noises import Gaussian, Uniform
from rs4a.objectives import SmoothAdv, Stability

COSINE = ("rate", LRScheduler("CosineAnnealingLR", T_max=5, event_name="lr"))


class Dropping(nn.Sequential):
    """Batch statistics and dropout: a state in buffers, and draws in training."""

    def __init__(self):
        super().__init__(
            nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(),
            nn.Dropout(0.3), nn.Linear(32, 10),
        )  # fmt: skip


class Plain(nn.Sequential):
    """Another net for the same data."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))


class Interruption(Callback):
    """An error in the middle of an epoch, which the next run does not meet."""

    def __init__(self, epoch, error):
        self.epoch, self.error = epoch, error

    def on_batch_end(self, net, training=False, **kwargs):
        if len(net.history) == self.epoch and len(net.history[-1, "batches"]) == 3:
            raise self.error("interrupted")


def classifier(path, *callbacks, interruption=None, noise=None, objective=None, **kwargs):
    steps = [*callbacks, *([interruption] if interruption else [])]
    if path is not None:
        steps.append(("resume", ResumeTraining(path)))
    options = {
        "module": Dropping, "criterion": nn.CrossEntropyLoss, "max_epochs": 5, "lr": 0.05,
        "optimizer__momentum": 0.9, "batch_size": 64, "iterator_train__shuffle": True,
        "train_split": None, "callbacks__print_log": None, "verbose": 0,
    }  # fmt: skip
    net = NeuralNetClassifier(**{**options, **kwargs}, callbacks=copy.deepcopy(steps))
    return SmoothedClassifier(
        net, noise=noise or Uniform(sigma=0.3), objective=objective, random_state=0
    )


@pytest.fixture(scope="module")
def small(digits):
    return digits[0][:320], digits[2][:320]


def weights(clf):
    return {name: v.clone() for name, v in clf.estimator_.module_.state_dict().items()}


def assert_same(one, other):
    for name, value in weights(one).items():
        torch.testing.assert_close(value, weights(other)[name], rtol=0, atol=0)
    for name in ("epoch", "train_loss"):
        assert one.estimator_.history[:, name] == other.estimator_.history[:, name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("epoch", [1, 2, 5])
def test_interrupted_training_ends_as_the_whole_one(small, tmp_path, epoch, error):
    whole = classifier(None, COSINE).fit(*small)
    path = tmp_path / "runs" / "training.pt"
    broken = classifier(path, COSINE, interruption=Interruption(epoch, error))
    if error is RuntimeError:
        with pytest.raises(RuntimeError, match="interrupted"):
            broken.fit(*small)
    else:  # skorch's way
        broken.fit(*small)
        assert len(broken.estimator_.history) == epoch
        assert broken.estimator_.max_epochs == 5
    assert path.exists() == (epoch > 1)
    clf = classifier(path, COSINE).fit(*small)
    assert_same(clf, whole)
    assert clf.estimator_.history[:, "lr"] == whole.estimator_.history[:, "lr"]
    assert clf.estimator_.max_epochs == 5
    assert not list(path.parent.glob("*.partial"))


@pytest.mark.parametrize(
    "callback",
    [
        ("rate", LRScheduler("ReduceLROnPlateau", patience=0, threshold=0.5)),
        ("rate", LRScheduler("CyclicLR", base_lr=0.01, max_lr=0.1, step_every="batch")),
        ("score", EpochScoring("accuracy", lower_is_better=False)),
    ],
    ids=lambda pair: pair[0],
)
def test_callbacks_of_any_kind(small, tmp_path, callback):
    options = {"train_split": ValidSplit(5, stratified=True)}
    whole = classifier(None, callback, **options).fit(*small)
    interruption = Interruption(3, KeyboardInterrupt)
    classifier(tmp_path / "t", callback, interruption=interruption, **options).fit(*small)
    clf = classifier(tmp_path / "t", callback, **options).fit(*small)
    assert_same(clf, whole)
    assert (
        clf.estimator_.history[:, "valid_loss_best"]
        == (whole.estimator_.history[:, "valid_loss_best"])
    )


def test_early_stopping_keeps_its_patience(small, tmp_path):
    stop = ("stop", EarlyStopping("train_loss", patience=3, threshold=10.0))
    whole = classifier(None, stop, max_epochs=20).fit(*small)
    assert 3 <= len(whole.estimator_.history) < 20
    path, interruption = tmp_path / "t", Interruption(3, KeyboardInterrupt)
    classifier(path, stop, interruption=interruption, max_epochs=20).fit(*small)
    assert_same(classifier(path, stop, max_epochs=20).fit(*small), whole)


def test_warm_up_counts_the_epochs_before(small, tmp_path):
    adversarial = {
        "noise": Gaussian(sigma=0.3),
        "objective": SmoothAdv(radius=1.0, warmup=4, steps=2),
    }
    whole = classifier(None, **adversarial).fit(*small)
    interruption = Interruption(3, KeyboardInterrupt)
    classifier(tmp_path / "t", interruption=interruption, **adversarial).fit(*small)
    assert_same(classifier(tmp_path / "t", **adversarial).fit(*small), whole)


def test_a_complete_training_is_not_repeated(small, tmp_path):
    first = classifier(tmp_path / "t").fit(*small)
    again = classifier(tmp_path / "t").fit(*small)
    assert_same(again, first)
    assert again.estimator_.history[:, "dur"] == first.estimator_.history[:, "dur"]
    np.testing.assert_array_equal(again.predict(small[0]), first.predict(small[0]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"noise": Uniform(sigma=0.4)}, "noise was .*0.3.*, is .*0.4"),
        ({"objective": Stability()}, r"objective was NoiseAugmentation\(\), is Stability"),
        ({"lr": 0.06}, "lr was 0.05, is 0.06"),
        ({"max_epochs": 6}, "max_epochs was 5, is 6"),
        ({"module": Plain}, "initial weights was"),
    ],
)
def test_another_training_is_not_gone_on_with(small, tmp_path, change, named):
    classifier(tmp_path / "t").fit(*small)
    with pytest.raises(ValueError, match=f"state of another training: .*{named}"):
        classifier(tmp_path / "t", **change).fit(*small)


def test_other_data_or_seeds_are_noticed(small, tmp_path):
    X, y = small
    classifier(tmp_path / "t").fit(X, y)
    with pytest.raises(ValueError, match="number of inputs was 320, is 300"):
        classifier(tmp_path / "t").fit(X[:300], y[:300])
    with pytest.raises(ValueError, match="initial weights"):
        classifier(tmp_path / "t").set_params(random_state=1).fit(X, y)


@pytest.mark.parametrize("content", [b"", b"no state", None])
def test_damaged_files_are_refused(small, tmp_path, content):
    path = tmp_path / "t"
    classifier(path).fit(*small)
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(ValueError, match="is no whole state of a training"):
        classifier(path).fit(*small)


def test_code_in_a_file_is_not_run(small, tmp_path):
    class Harm:
        def __reduce__(self):
            return (tmp_path / "harm").touch, ()

    torch.save({"training": Harm()}, tmp_path / "t")
    with pytest.raises(ValueError, match="is no whole state"):
        classifier(tmp_path / "t").fit(*small)
    assert not (tmp_path / "harm").exists()


def test_it_must_come_last(small, tmp_path):
    clf = classifier(None, ("resume", ResumeTraining(tmp_path / "t")), COSINE)
    with pytest.raises(ValueError, match="last of the net's callbacks, got after it: rate"):
        clf.fit(*small)


def test_nets_that_train_by_themselves(small, tmp_path):
    X, y = small
    net = classifier(tmp_path / "t").estimator
    net.fit(X, y)
    again = classifier(tmp_path / "t").estimator
    with pytest.raises(ValueError, match="initial weights"):  # no seed was set
        again.fit(X, y)
