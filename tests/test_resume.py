"""Interrupted trainings go on, and end as if nothing had happened."""

import copy
import io
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score
from skorch import NeuralNetClassifier
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    EpochScoring,
    Freezer,
    GradientNormClipping,
    LRScheduler,
)
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import WeightedRandomSampler

from rs4a import SmoothedClassifier
from rs4a.callbacks import ResumeTraining
from rs4a.noises import Gaussian, Uniform
from rs4a.objectives import SmoothAdv, Stability
from rs4a.training.resume import _text_and_digest
from rs4a.utils.files import seal, unseal

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
    """An error in the middle of an epoch, if `at` says so."""

    at = None

    def on_batch_end(self, net, training=False, **kwargs):
        if Interruption.at is not None:
            epoch, error = Interruption.at
            if len(net.history) == epoch and len(net.history[-1, "batches"]) == 3:
                raise error("interrupted")


@contextmanager
def interrupted(epoch, error=KeyboardInterrupt):
    Interruption.at = epoch, error
    try:
        yield
    finally:
        Interruption.at = None


def classifier(path, *callbacks, noise=None, objective=None, seed=0, **kwargs):
    steps = [*copy.deepcopy(callbacks), ("interruption", Interruption())]
    if path is not None:
        steps.append(("resume", ResumeTraining(path)))
    options = {
        "module": Dropping, "criterion": nn.CrossEntropyLoss, "max_epochs": 5, "lr": 0.05,
        "optimizer__momentum": 0.9, "batch_size": 64, "iterator_train__shuffle": True,
        "train_split": None, "callbacks__print_log": None, "verbose": 0,
    }  # fmt: skip
    net = NeuralNetClassifier(**{**options, **kwargs}, callbacks=steps)
    return SmoothedClassifier(
        net, noise=noise or Uniform(sigma=0.3), objective=objective, random_state=seed
    )


@pytest.fixture(scope="module")
def small(digits):
    return digits[0][:320], digits[2][:320]


def weights(clf):
    return {name: v.clone() for name, v in clf.estimator_.module_.state_dict().items()}


def resume_of(clf):
    return dict(clf.estimator_.callbacks_)["resume"]


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
    broken = classifier(path, COSINE)
    with interrupted(epoch, error):
        if error is RuntimeError:
            with pytest.raises(RuntimeError, match="interrupted"):
                broken.fit(*small)
        else:  # skorch's way
            broken.fit(*small)
            assert not resume_of(broken).complete_
            assert broken.estimator_.max_epochs == 5
    assert path.exists() == (epoch > 1)
    clf = classifier(path, COSINE).fit(*small)
    assert_same(clf, whole)
    assert clf.estimator_.history[:, "lr"] == whole.estimator_.history[:, "lr"]
    assert clf.estimator_.max_epochs == 5
    assert resume_of(clf).complete_
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
    with interrupted(3):
        classifier(tmp_path / "t", callback, **options).fit(*small)
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
    path = tmp_path / "t"
    with interrupted(3):
        classifier(path, stop, max_epochs=20).fit(*small)
    clf = classifier(path, stop, max_epochs=20).fit(*small)
    assert_same(clf, whole)
    assert not resume_of(clf).complete_


def test_early_stopping_keeps_the_best_weights(small, tmp_path):
    callbacks = [("stop", EarlyStopping("valid_loss", patience=2, load_best=True))]
    options = {"train_split": ValidSplit(5, stratified=True), "lr": 0.5, "max_epochs": 9}
    whole = classifier(None, *callbacks, **options).fit(*small)
    n_epochs = len(whole.estimator_.history)
    best = dict(whole.estimator_.callbacks_)["stop"].best_epoch_
    assert best < n_epochs
    with interrupted(best + 1):  # so that the best epoch is before
        classifier(tmp_path / "t", *callbacks, **options).fit(*small)
    assert_same(classifier(tmp_path / "t", *callbacks, **options).fit(*small), whole)


def test_random_splits_are_drawn_again_as_they_were(small, tmp_path):
    options = {"train_split": ValidSplit(0.2)}
    whole = classifier(None, **options).fit(*small)
    with interrupted(3):
        classifier(tmp_path / "t", **options).fit(*small)
    clf = classifier(tmp_path / "t", **options).fit(*small)
    assert_same(clf, whole)
    assert (
        clf.estimator_.history[:, "valid_loss"]
        == (whole.estimator_.history[:, "valid_loss"])
    )


def test_fine_tuning_trains_for_all_its_epochs(small, tmp_path):
    X, y = small
    pretrained = classifier(None, max_epochs=3).fit(X, y).estimator_

    def tuned(path, **kwargs):
        clf = classifier(path, **kwargs)
        net = copy.deepcopy(pretrained)
        net.set_params(callbacks=clf.estimator.callbacks, max_epochs=4)
        net.initialize_callbacks()
        return clf.set_params(estimator=net).partial_fit(X, y)

    whole = tuned(None)
    assert len(whole.estimator_.history) == 7
    with interrupted(5):
        assert not resume_of(tuned(tmp_path / "t")).complete_
    assert_same(tuned(tmp_path / "t"), whole)
    with pytest.raises(ValueError, match=r"generators \(so the seed\) was "):
        tuned(tmp_path / "t", seed=1)


def test_warm_up_counts_the_epochs_before(small, tmp_path):
    adversarial = {
        "noise": Gaussian(sigma=0.3),
        "objective": SmoothAdv(radius=1.0, warmup=4, steps=2),
    }
    whole = classifier(None, **adversarial).fit(*small)
    with interrupted(3):
        classifier(tmp_path / "t", **adversarial).fit(*small)
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
        ({"noise": Gaussian(sigma=0.3)}, r"noise was Uniform\(.*, is Gaussian\("),
        ({"objective": Stability()}, r"objective was NoiseAugmentation\(.*, is Stability"),
        ({"lr": 0.06}, "lr was 0.05, is 0.06"),
        ({"max_epochs": 6}, "max_epochs was 5, is 6"),
        ({"module": Plain}, "initial weights.* was"),
        ({"optimizer__momentum": 0.8}, "optimizer__momentum was 0.9, is 0.8"),
        ({"criterion__weight": torch.arange(10.0)}, "criterion__weight was None, is "),
        ({"optimizer": torch.optim.Adam, "optimizer__momentum": None}, "optimizer was"),
        ({"train_split": ValidSplit(5)}, "train_split was None, is .*ValidSplit"),
        ({"seed": 1}, "initial weights .*seed"),
        ({"criterion": nn.CrossEntropyLoss(label_smoothing=0.5)}, "criterion was "),
        ({"optimizer": partial(torch.optim.SGD, nesterov=True)}, "optimizer was "),
        ({"noise": Uniform(sigma=np.float32(0.25))}, "noise was "),
    ],
)
def test_another_training_is_not_gone_on_with(small, tmp_path, change, named):
    classifier(tmp_path / "t").fit(*small)
    clf = classifier(tmp_path / "t", **change)
    if change.get("optimizer__momentum", 0) is None:
        clf.estimator.__dict__.pop("optimizer__momentum")
    with pytest.raises(ValueError, match=f"state of another training: .*{named}"):
        clf.fit(*small)


class OwnLoss(NeuralNetClassifier):
    """A net of one's own."""

    def get_loss(self, *args, **kwargs):
        return 2.0 * super().get_loss(*args, **kwargs)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.float32(0.25), np.float32(1.0)),
        (np.int64(0), np.int64(1)),
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.5)),
        (torch.zeros(2, requires_grad=True), torch.ones(2, dtype=torch.bfloat16)),
        (nn.NLLLoss(torch.ones(3)), nn.NLLLoss(torch.arange(3.0))),
        (partial(torch.optim.SGD, momentum=0.0), partial(torch.optim.SGD, momentum=0.9)),
        (predefined_split(Dataset([1.0], [0])), predefined_split(Dataset([2.0], [0]))),
        (lambda epoch: 1.0, lambda epoch: 0.1),
        (Path("a"), Path("b")),
        (range(3), range(4)),
        (torch.float32, torch.float16),
        ({1, 2}, {1, 3}),
        (WeightedRandomSampler([1.0, 1.0], 2), WeightedRandomSampler([1.0, 0.0], 2)),
    ],
)
def test_descriptions_tell_values_apart(one, other):
    digests = [_text_and_digest(each)[1] for each in (one, other, copy.deepcopy(one))]
    assert digests[0] == digests[2] != digests[1]


def test_another_class_of_net_is_noticed(small, tmp_path):
    classifier(tmp_path / "t").fit(*small)
    clf = classifier(tmp_path / "t")
    clf.estimator.__class__ = OwnLoss
    with pytest.raises(ValueError, match="class of the net was .*skorch.*, is .*OwnLoss"):
        clf.fit(*small)


def test_numbers_of_numpy_are_saved_as_plain_ones(small, tmp_path):
    rate = np.float32(0.05)
    whole = weights(classifier(None, COSINE, lr=rate).fit(*small))
    with interrupted(3):
        classifier(tmp_path / "t", COSINE, lr=rate).fit(*small)
    resumed = weights(classifier(tmp_path / "t", COSINE, lr=rate).fit(*small))
    for name, value in whole.items():  # the schedule goes on in Python's floats
        torch.testing.assert_close(resumed[name], value)


def test_frozen_layers_stay_frozen(small, tmp_path):
    freezer = ("freezer", Freezer("*weight", at=2))
    whole = classifier(None, freezer).fit(*small)
    with interrupted(4):
        classifier(tmp_path / "t", freezer).fit(*small)
    assert_same(classifier(tmp_path / "t", freezer).fit(*small), whole)


@pytest.mark.parametrize(
    "callback",
    [
        ("rate", LRScheduler("CosineAnnealingLR", T_max=6, event_name="lr")),
        ("rate", LRScheduler("StepLR", step_size=5)),
        None,
        ("clip", GradientNormClipping(1.0)),
    ],
)
def test_changed_callbacks_are_noticed(small, tmp_path, callback):
    classifier(tmp_path / "t", COSINE).fit(*small)
    with pytest.raises(ValueError, match="another training: callback (clip|rate) was "):
        classifier(tmp_path / "t", *([callback] if callback else [])).fit(*small)


def test_other_data_are_noticed(small, tmp_path):
    X, y = small
    classifier(tmp_path / "t").fit(X, y)
    with pytest.raises(ValueError, match=r"inputs was \(320, .*, is \(300"):
        classifier(tmp_path / "t").fit(X[:300], y[:300])
    with pytest.raises(ValueError, match=r"inputs was \(320, .*, is \(320"):
        classifier(tmp_path / "t").fit(X + 0.01, y)
    with pytest.raises(ValueError, match="another training: targets was "):
        classifier(tmp_path / "t").fit(X, np.roll(y, 1))


def test_folds_of_a_search_need_paths_of_their_own(small, tmp_path):
    with pytest.raises(ValueError, match="is the state of another training"):
        cross_val_score(classifier(tmp_path / "t"), *small, cv=2, error_score="raise")


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


def test_a_file_sets_numbers_of_callbacks_only(small, tmp_path):
    """What was put into it by somebody else is left alone."""
    path, score = tmp_path / "t", ("score", EpochScoring("accuracy", name="accuracy"))
    options = {"train_split": ValidSplit(5, stratified=True)}
    classifier(path, score, **options).fit(*small)
    state = torch.load(io.BytesIO(unseal(path.read_bytes())), weights_only=True)
    state["callbacks"]["score"] |= {"name": "harm", "harm_": 1.0, "best_score_": "harm"}
    torch.save(state, path)
    path.write_bytes(seal(path.read_bytes()))
    clf = classifier(path, score, **options).fit(*small)
    restored = dict(clf.estimator_.callbacks_)["score"]
    assert restored.name == "accuracy"
    assert not hasattr(restored, "harm_")
    assert restored.best_score_ != "harm"


def test_it_must_come_last(small, tmp_path):
    clf = classifier(None, ("resume", ResumeTraining(tmp_path / "t")), COSINE)
    with pytest.raises(ValueError, match="last of the net's callbacks, got after it: rate"):
        clf.fit(*small)


def test_nets_that_train_by_themselves(small, tmp_path):
    X, y = small
    net = classifier(tmp_path / "t").estimator
    net.fit(X, y)
    again = classifier(tmp_path / "t").estimator
    with pytest.raises(ValueError, match="initial weights .*seed"):  # none was set
        again.fit(X, y)
