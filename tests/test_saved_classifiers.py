"""Fitted classifiers come back from files as they were; broken files do not."""

import builtins
import errno
import functools
import json
import math
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_net
from every import quick_objectives
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from skorch.callbacks import Checkpoint, EarlyStopping, LRScheduler
from torch import nn
from torch.nn.utils import prune

from rs4a import Inference, SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.certify import _source
from rs4a.nets.fingerprint import fingerprint, noise_of_training
from rs4a.networks import make_network
from rs4a.noises import ExpInf, Gaussian, Laplace, Splitting, Uniform
from rs4a.objectives import (
    NoiseAugmentation,
    SmoothAdv,
    Stability,
)
from rs4a.persistence import load_checkpoint
from rs4a.persistence.files import content_digest
from rs4a.persistence.nets import describe
from rs4a.persistence.values import JsonWriter
from rs4a.voting.workers import pack_voters

KEY = "rs4a_classifier"


@pytest.fixture(scope="module")
def small(digits):
    return digits[0][:150], digits[2][:150], digits[1][:12]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "classifier.safetensors"


def smoothed(net=None, *, noise=None, **kwargs):
    net = make_net(max_epochs=1) if net is None else net
    params = {"bound": ClopperPearson(n=100), "n_selection": 8, "random_state": 0}
    return SmoothedClassifier(
        net, noise=noise or Uniform(sigma=0.3), **{**params, **kwargs}
    )


def there_and_back(classifier, path, **kwargs):
    SmoothedClassifier.save(classifier, path)
    return SmoothedClassifier.load(path, **kwargs)


def stored_params(classifier):
    params = {**classifier.get_params(deep=False), "random_state": None}
    estimator = params.pop("estimator")
    net = getattr(estimator, "estimator", estimator)
    described = None if net is None else describe(net, JsonWriter())
    return described, JsonWriter().write(params)


def assert_same(loaded, saved, X):
    """The same votes, parameters and state."""
    assert loaded is not saved
    passed = {"_passed_trial"}  # a loaded classifier is tried anew
    assert set(vars(loaded)) - passed == set(vars(saved)) - passed
    assert stored_params(loaded) == stored_params(saved)
    assert fingerprint(loaded.estimator_) == fingerprint(saved.estimator_)
    np.testing.assert_array_equal(loaded.classes_, saved.classes_)
    assert loaded.classes_.dtype == saved.classes_.dtype
    one, other = loaded.certify(X), saved.certify(X)
    np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_array_equal(one.selection_counts, other.selection_counts)
    np.testing.assert_array_equal(one.radius(), other.radius())
    np.testing.assert_array_equal(loaded.predict(X), saved.predict(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), saved.predict_proba(X))


class OwnNet(nn.Module):
    """A user's net: tied weights, a buffer that no state dict has, a scale."""

    def __init__(self, width=4, scale=1.0):
        super().__init__()
        self.scale = scale
        self.first = nn.Linear(64, width)
        self.last = nn.Linear(width, 10)
        self.tied = nn.Linear(64, width)
        self.tied.weight = self.first.weight
        self.register_buffer("offset", torch.rand(64), persistent=False)

    def forward(self, X):
        flat = X.flatten(1) + self.offset
        return self.last(torch.relu(self.first(flat) + self.tied(flat))) * self.scale


class Config:
    """A user's settings."""

    def __init__(self, scale):
        self.scale = scale


class OwnConfiguredNet(OwnNet):
    """A user's net that keeps its settings in an object of its own."""

    def __init__(self, scale=1.0):
        super().__init__(scale=scale)
        self.config = Config(scale)
        self.activation = lambda x: x


class OwnNoise(Uniform):
    """A user's noise."""


class OwnSplitting(Splitting):
    """A user's noise, of which the fit draws a seed."""


class OwnObjective(NoiseAugmentation):
    """A user's objective."""


class OwnBound(ClopperPearson):
    """A user's bound."""


class OwnTrainer(NeuralNetClassifier):
    """A user's net class, of two modules and a criterion with weights."""

    def initialize_module(self):
        super().initialize_module()
        self.shift_ = nn.Linear(1, 10)
        return self

    def infer(self, x, **fit_params):
        return super().infer(x, **fit_params) + self.shift_(x.new_ones(len(x), 1))


def own(net_class=NeuralNetClassifier, module=OwnNet, **kwargs):
    options = {"criterion": nn.CrossEntropyLoss, "max_epochs": 1, "train_split": None}
    return net_class(module, verbose=0, **{**options, **kwargs})


# What comes back


def test_default_net(small, path):
    X, y, X_test = small
    saved = SmoothedClassifier(bound=ClopperPearson(n=100), random_state=0).fit(X, y)
    loaded = there_and_back(saved, path)
    assert_same(loaded, saved, X_test)
    assert loaded.estimator is None
    assert loaded.score(X, y) == saved.score(X, y)


@pytest.mark.parametrize(
    "network",
    [
        {"name": "LeNet", "input_shape": (1, 8, 8), "n_classes": 10},
        {"name": "WideResNet", "dataset": "digits", "depth": 10, "widen_factor": 1},
        {"name": "MLP", "dataset": "digits", "mean": np.array([0.5]), "std": 0.25},
    ],
    ids=lambda network: network["name"],
)
def test_networks(small, path, network):
    X, y, X_test = small
    if network["name"] == "LeNet":  # it needs images of 28x28
        network = {**network, "input_shape": (1, 28, 28)}
        X, X_test = (
            np.pad(each, [(0, 0), (0, 0), (10, 10), (10, 10)]) for each in (X, X_test)
        )
    net = NeuralNetClassifier(
        make_network,
        criterion=nn.CrossEntropyLoss,
        max_epochs=1,
        verbose=0,
        **{f"module__{name}": value for name, value in network.items()},
    )
    saved = smoothed(net).fit(X, y)
    loaded = there_and_back(saved, path)
    assert_same(loaded, saved, X_test)
    for name, value in network.items():
        assert np.array_equal(loaded.estimator.get_params()[f"module__{name}"], value)
    batch_norms = [m for m in saved.estimator_.module_.modules() if hasattr(m, "momentum")]
    assert bool(batch_norms) == (network["name"] == "WideResNet")


@pytest.mark.parametrize(
    "objective",
    [
        *quick_objectives(n_samples=2, weight=3.0, steps=1, norm=math.inf, box=(0, 1)),
        SmoothAdv(radius=0.25, steps=1, objective=Stability()),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_objectives(small, path, objective):
    X, y, X_test = small
    saved = smoothed(objective=objective).fit(X, y)
    loaded = there_and_back(saved, path)
    assert_same(loaded, saved, X_test)
    assert repr(loaded._objective) == repr(objective)
    loaded.partial_fit(X, y)


def test_all_parameters_but_those_of_the_machine(small, path):
    X, y, X_test = small
    saved = smoothed(
        noise=ExpInf(k=10, sigma=np.float32(0.3)),
        bound=ConfidenceSequence(max_n=64, radii=np.array([0.1, 0.2])),
        alpha=np.float64(0.01),
        norm=math.inf,
        n_selection=np.int64(16),
        batch_size="auto",
        inference=Inference(channels_last=True),
        random_state=np.int64(3),
        n_jobs=1,
        verbose=0,
    ).fit(X, y)
    loaded = there_and_back(saved, path)
    before, after = saved.get_params(), loaded.get_params()
    del before["n_jobs"], after["n_jobs"]
    for name, value in before.items():
        if not hasattr(value, "get_params") and not name.startswith("estimator"):
            np.testing.assert_array_equal(after[name], value, err_msg=name)
            assert type(after[name]) is type(value), name
    assert loaded.n_jobs is None
    first = saved.certify(X_test, max_votes=100)
    rest = loaded.certify(X_test, previous=first)
    np.testing.assert_array_equal(rest.counts, saved.certify(X_test).counts)


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)], ids=str)
def test_seeds_that_fit_drew(small, path, random_state):
    X, y, X_test = small
    saved = smoothed(random_state=random_state).fit(X, y)
    loaded = there_and_back(saved, path)
    assert loaded.random_state is None
    np.testing.assert_array_equal(
        loaded.certify(X_test).counts, saved.certify(X_test).counts
    )


@pytest.mark.parametrize(
    "labels",
    [
        np.array([f"digit {k}" for k in range(10)]),
        np.array([f"digit {k}" for k in range(10)], dtype=object),
        np.arange(10) - 4.0,
        np.arange(10, dtype=np.uint8) * 3,
        np.array([False, True] * 5),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_labels(small, path, labels):
    X, y, X_test = small
    saved = smoothed().fit(X, labels[y])
    loaded = there_and_back(saved, path)
    assert_same(loaded, saved, X_test)
    assert loaded.predict(X_test).dtype == saved.predict(X_test).dtype


def test_names_of_columns(small, path):
    X, y, X_test = small
    table, other = (
        pd.DataFrame(each.reshape(-1, 64), columns=[f"pixel {k}" for k in range(64)])
        for each in (X, X_test)
    )
    saved = smoothed(make_net(max_epochs=1, module__input_shape=(64,))).fit(table, y)
    loaded = there_and_back(saved, path)
    assert_same(loaded, saved, other)
    assert loaded.feature_names_in_.tolist() == list(table)
    with pytest.raises(ValueError, match="feature names"):
        loaded.predict(other[other.columns[::-1]])


def test_what_fit_saw_of_the_inputs(small, path):
    X, y, X_test = small
    loaded = there_and_back(smoothed(box=(0, 1)).fit(X, y), path)
    assert loaded.box == (0, 1)
    for wrong in (X_test[:, :, 1:], X_test * 255):
        with pytest.raises(ValueError, match="X must"):
            loaded.predict(np.rint(wrong))


def test_template_of_deterministic_splitting(small, path):
    X, y, X_test = small
    saved = smoothed(noise=Splitting(lambd=0.25, levels=16)).fit(X, y)
    loaded = there_and_back(saved, path)
    assert_same(loaded, saved, X_test)
    assert loaded.noise.seed is None
    assert loaded.noise_.seed == saved.noise_.seed
    assert repr(noise_of_training(loaded.estimator_)) == repr(saved.noise_)
    other = FrozenEstimator(loaded.estimator_)  # the net knows its template
    assert smoothed(other, noise=loaded.noise).fit(X, y).noise_.seed == saved.noise_.seed


def test_frozen_net(small, path):
    X, y, X_test = small
    net = smoothed(noise=Laplace(sigma=0.3)).fit(X, y).estimator_
    before = fingerprint(net)
    saved = smoothed(FrozenEstimator(net), noise=Gaussian(sigma=0.2)).fit(X[:9], y[:9])
    loaded = there_and_back(saved, path)
    assert_same(loaded, saved, X_test)
    assert isinstance(loaded.estimator, FrozenEstimator)
    assert loaded.estimator.estimator is loaded.estimator_
    again = loaded.fit(X, y).partial_fit(X, y)
    assert fingerprint(again.estimator_) == fingerprint(net) == before


def test_other_frozen_net_than_that_of_the_fit(small, path):
    X, y, _ = small
    saved = smoothed().fit(X, y)
    saved.set_params(estimator=FrozenEstimator(make_net().initialize()))
    with pytest.raises(ValueError, match="estimator must be the one of the last fit"):
        SmoothedClassifier.save(saved, path)
    assert not path.exists()


def test_training_goes_on(small, path):
    X, y, X_test = small
    saved = smoothed(make_net(max_epochs=2, optimizer=torch.optim.SGD)).fit(X, y)
    loaded = there_and_back(saved, path)
    assert len(loaded.estimator_.history) == 2
    assert loaded.estimator_.classes_.tolist() == list(range(10))
    losses = [each.estimator_.history[:, "train_loss"] for each in (loaded, saved)]
    assert losses[0] == losses[1]
    # Plain SGD has no state: all else must be as it was.
    for each in (loaded, saved):
        each.partial_fit(X, y)
    assert len(loaded.estimator_.history) == 4
    assert_same(loaded, saved, X_test)


def test_training_anew(small, path):
    X, y, X_test = small
    saved = smoothed().fit(X, y)
    loaded = there_and_back(saved, path)
    assert not loaded.estimator.initialized_
    assert_same(clone(loaded).fit(X, y), saved, X_test)
    loaded.set_params(noise__sigma=0.1, estimator__lr=0.0).fit(X, y)
    assert loaded.noise_.sigma == 0.1
    assert loaded.estimator_.lr == 0.0


def test_weights_that_were_fixed_stay_fixed(small, path):
    X, y, _ = small
    saved = smoothed().fit(X, y)
    saved.estimator_.module_.layers[0].weight.requires_grad_(False)
    loaded = there_and_back(saved, path)
    before = loaded.estimator_.module_.state_dict()["layers.0.weight"].clone()
    loaded.partial_fit(X, y)
    module = loaded.estimator_.module_
    assert torch.equal(module.layers[0].weight, before)
    assert module.layers[2].weight.requires_grad


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_other_precision(small, path, dtype):
    X, y, X_test = small
    saved = smoothed().fit(X, y)
    saved.estimator_.module_.to(dtype)
    assert_same(there_and_back(saved, path), saved, X_test)


def test_callbacks_and_schedules(small, path):
    X, y, X_test = small
    callbacks = [
        ("rate", LRScheduler("StepLR", step_size=2)),
        EarlyStopping(monitor="train_loss", patience=3),
    ]
    net = make_net(max_epochs=1, callbacks=callbacks, classes=list(range(10)))
    saved = smoothed(net).fit(X, y)
    loaded = there_and_back(saved, path)
    assert_same(loaded, saved, X_test)
    (name, rate), stopping = loaded.estimator.callbacks
    assert (name, rate.policy, rate.step_size) == ("rate", "StepLR", 2)
    assert (stopping.patience, stopping.sink) == (3, print)
    loaded.fit(X, y)


def test_generators_are_as_before(small, path):
    X, y, _ = small
    SmoothedClassifier.save(smoothed().fit(X, y), path)
    before = torch.get_rng_state()
    SmoothedClassifier.load(path)
    assert torch.equal(torch.get_rng_state(), before)


# What is not rs4a's


def test_net_of_ones_own(small, path):
    X, y, X_test = small
    net = own(
        module__scale=np.float64(2.0),
        callbacks=[Checkpoint(monitor=None, dirname=path.parent)],
    )
    saved = smoothed(net).fit(X, y)
    SmoothedClassifier.save(saved, path)
    with pytest.raises(
        ValueError, match=r"module=OwnNet, callbacks=Checkpoint.*estimator="
    ):
        SmoothedClassifier.load(path)
    given = own(module__scale=np.float64(2.0), lr=0.5)
    loaded = SmoothedClassifier.load(path, estimator=given)
    assert not given.initialized_
    assert not loaded.estimator.initialized_
    assert_same(loaded, saved.set_params(estimator=given), X_test)
    module = loaded.estimator_.module_
    assert module.tied.weight is module.first.weight
    again = SmoothedClassifier.load(path, estimator=FrozenEstimator(given.initialize()))
    assert fingerprint(again.estimator_) == fingerprint(saved.estimator_)


class OtherNet(OwnNet):
    """Another user's net, with weights of the same shapes."""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (own(), r"module__scale=2.0, got module__scale=None"),
        (own(module__scale=3.0), r"module__scale=2.0, got module__scale=3.0"),
        (own(module=OtherNet, module__scale=2.0), "module=OwnNet, got module=Oth"),
        (
            own(module__scale=2.0, criterion=nn.NLLLoss),
            "criterion=torch.nn.CrossEntropyLoss",
        ),
        (own(module__scale=2.0, classes=list(range(10))), "classes=None, got classes="),
        (own(OwnTrainer, module__scale=2.0), "class=skorch.NeuralNetClassifier, got"),
        (own(module__scale=2.0, compile=True), "compile=False, got compile=True"),
    ],
    ids=["default", "value", "module", "criterion", "classes", "class", "compile"],
)
def test_other_net_than_the_file_states(small, path, given, message):
    X, y, _ = small
    SmoothedClassifier.save(smoothed(own(module__scale=2.0)).fit(X, y), path)
    with pytest.raises(ValueError, match=f"estimator must be the net .*{message}"):
        SmoothedClassifier.load(path, estimator=given)


def test_estimator_must_be_a_net(small, path):
    X, y, _ = small
    SmoothedClassifier.save(SmoothedClassifier(random_state=0).fit(X, y), path)
    with pytest.raises(
        TypeError, match="must be a skorch net, got the torch module OwnNet"
    ):
        SmoothedClassifier.load(path, estimator=OwnNet())
    with pytest.raises(ValueError, match="estimator must be None, as it was"):
        SmoothedClassifier.load(path, estimator=make_net())


def test_net_of_several_modules_and_a_criterion_with_weights(small, path):
    X, y, X_test = small
    net = own(OwnTrainer, criterion__weight=torch.linspace(0.5, 2.0, 10))
    saved = smoothed(net).fit(X, y)
    loaded = there_and_back(saved, path, estimator=net)
    assert_same(loaded, saved, X_test)
    assert torch.equal(loaded.estimator_.shift_.weight, saved.estimator_.shift_.weight)
    assert torch.equal(loaded.estimator_.criterion_.weight, torch.linspace(0.5, 2.0, 10))


def test_module_that_is_made_already(small, path):
    X, y, X_test = small
    net = own(module=OwnNet(width=3))
    saved = smoothed(net).fit(X, y)
    assert_same(there_and_back(saved, path, estimator=net), saved, X_test)
    with pytest.raises(ValueError, match="size mismatch"):
        SmoothedClassifier.load(path, estimator=own(module=OwnNet(width=5)))


def test_attributes_that_would_be_lost_are_refused(small, path):
    X, y, _ = small
    saved = smoothed(own()).fit(X, y)
    saved.estimator_.module_.scale = 0.5
    with pytest.raises(ValueError, match="cannot be saved.*attributes of its modules"):
        SmoothedClassifier.save(saved, path)
    assert not list(path.parent.iterdir())


def test_code_may_change_but_not_settings(small, path, monkeypatch):
    X, y, X_test = small
    net = own(module=OwnConfiguredNet)
    saved = smoothed(net).fit(X, y)
    SmoothedClassifier.save(saved, path)
    monkeypatch.setattr(Config, "__len__", lambda self: 3, raising=False)
    assert_same(SmoothedClassifier.load(path, estimator=net), saved, X_test)
    monkeypatch.setattr(
        Config, "__init__", lambda self, scale: vars(self).update(scale=2 * scale)
    )
    with pytest.raises(ValueError, match="other layers or settings"):
        SmoothedClassifier.load(path, estimator=net)


def test_parameter_objects_of_ones_own(small, path):
    X, y, X_test = small
    given = {
        "noise": OwnSplitting(lambd=0.25, levels=16, deterministic=True),
        "objective": OwnObjective(n_samples=2),
        "bound": OwnBound(n=100),
    }
    saved = smoothed(**given).fit(X, y)
    SmoothedClassifier.save(saved, path)
    loaded = SmoothedClassifier.load(path, **given)
    assert_same(loaded, saved, X_test)
    assert type(loaded.noise_) is OwnSplitting
    assert loaded.noise_.seed == saved.noise_.seed
    assert type(loaded._objective) is OwnObjective
    for name, value in given.items():
        others = {**given, name: None}
        with pytest.raises(ValueError, match=f"none of rs4a's: give load .* as {name}="):
            SmoothedClassifier.load(path, **others)
        first = {"noise": "lambd", "objective": "n_samples", "bound": "n"}[name]
        others[name] = clone(value).set_params(**{first: 1})
        with pytest.raises(ValueError, match=f"{name} must be what the file states, Own"):
            SmoothedClassifier.load(path, **others)


def test_objective_of_ones_own_inside_another(small, path):
    X, y, _ = small
    objective = SmoothAdv(steps=1, objective=OwnObjective())
    loaded = there_and_back(
        smoothed(objective=objective).fit(X, y), path, objective=clone(objective)
    )
    assert type(loaded._objective.objective) is OwnObjective
    with pytest.raises(ValueError, match="class OwnObjective is none of rs4a's"):
        SmoothedClassifier.load(path)


def test_object_that_a_file_states_may_be_given(small, path):
    X, y, _ = small
    saved = (
        smoothed(noise=OwnNoise(sigma=0.3)).fit(X, y).set_params(noise=Gaussian(sigma=1))
    )
    loaded = there_and_back(saved, path, noise=OwnNoise(sigma=0.3))
    assert str(loaded.noise) == "Gaussian(sigma=1)"
    assert type(loaded.noise_) is OwnNoise
    assert there_and_back(saved, path, noise=OwnNoise(sigma=0.3), bound=saved.bound)


def test_parameter_that_no_file_can_hold(small, path):
    X, y, _ = small
    saved = smoothed().fit(X, y).set_params(noise=OwnNoise(sigma=object()))
    with pytest.raises(
        TypeError, match=r"noise=.* cannot be saved, for a value of type obj"
    ):
        SmoothedClassifier.save(saved, path)


# Devices


def rewritten(path, change):
    """The file with another header, as if it had been saved so."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[KEY])
    change(header)
    text, tensors = json.dumps(header), load_file(path)
    save_file(tensors, path, {KEY: text, "digest": content_digest(text, tensors)})


def on_device(device):
    def change(header):
        for description in (header["net"], header["estimator"]):
            description["device"] = device

    return change


def test_device_that_is_not_here(small, path):
    X, y, X_test = small
    saved = smoothed().fit(X, y)
    SmoothedClassifier.save(saved, path)
    rewritten(path, on_device("cuda:63"))
    loaded = SmoothedClassifier.load(path)
    assert_same(loaded, saved, X_test)
    assert (loaded.estimator.device, loaded.estimator_.device) == ("cpu", "cpu")
    with pytest.raises(ValueError, match="device must be one that this machine has"):
        SmoothedClassifier.load(path, device="cuda:63")


def test_device_of_a_net_that_is_given(small, path):
    X, y, _ = small
    SmoothedClassifier.save(smoothed(own()).fit(X, y), path)
    loaded = SmoothedClassifier.load(path, estimator=own(device="cuda:63"))
    assert loaded.estimator_.device == "cpu"


def test_device_can_be_given(small, path):
    X, y, _ = small
    SmoothedClassifier.save(smoothed().fit(X, y), path)
    rewritten(path, on_device("cuda"))
    assert (
        SmoothedClassifier.load(path, device=torch.device("cpu")).estimator_.device == "cpu"
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_from_a_gpu_to_the_cpu(small, path):
    X, y, X_test = small
    saved = smoothed(make_net(max_epochs=1, device="cuda")).fit(X, y)
    SmoothedClassifier.save(saved, path)
    assert next(SmoothedClassifier.load(path).estimator_.module_.parameters()).is_cuda
    loaded = SmoothedClassifier.load(path, device="cpu")
    assert fingerprint(loaded.estimator_) == fingerprint(saved.estimator_)
    assert (loaded.predict(X_test) == saved.predict(X_test)).mean() > 0.8


# Broken files


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    """Bytes of a small file."""
    rng = np.random.default_rng(0)
    X, y = rng.random((20, 2)), rng.integers(2, size=20)
    net = make_net(
        max_epochs=1, module__input_shape=(2,), module__n_classes=2, module__hidden=(2,)
    )
    path = tmp_path_factory.mktemp("tiny") / "tiny"
    SmoothedClassifier.save(smoothed(net).fit(X, y), path)
    return path.read_bytes()


def test_truncated_files(tiny_file, path):
    for size in (0, 1, 7, 8, 100, len(tiny_file) // 2, len(tiny_file) - 1):
        path.write_bytes(tiny_file[:size])
        with pytest.raises(ValueError, match="is not a whole file"):
            SmoothedClassifier.load(path)


def test_flipped_bits(tiny_file, path):
    """In every part of the file; blanks that fill up the header mean nothing."""
    rng = np.random.default_rng(0)
    n_header = int.from_bytes(tiny_file[:8], "little") + 8
    places = {
        *rng.integers(len(tiny_file), size=300).tolist(),
        *range(n_header, len(tiny_file)),
    }
    for place in sorted(places):
        damaged = bytearray(tiny_file)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="classifier.safetensors (is|has|must)"):
            SmoothedClassifier.load(path)


def test_other_files(tiny_file, path, tmp_path):
    with pytest.raises(FileNotFoundError):
        SmoothedClassifier.load(tmp_path / "none")
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="is not a whole file"):
        SmoothedClassifier.load(path)
    net = NeuralNetClassifier(make_network, module__name="MLP", module__dataset="digits")
    net.initialize().save_params(f_params=path, use_safetensors=True)
    with pytest.raises(ValueError, match="got other weights.*from_checkpoint"):
        SmoothedClassifier.load(path)
    path.write_bytes(tiny_file)
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_checkpoint(path)


@pytest.mark.parametrize("stated", [True, False])
def test_files_that_state_a_former_parameter(small, path, stated):
    """Inference had fold_batch_norm in 0.1.0."""
    X, y, X_test = small
    saved = smoothed(inference=Inference(channels_last=True)).fit(X, y)
    SmoothedClassifier.save(saved, path)

    def add(name):
        def change(header):
            header["params"]["inference"]["object"][1].append([name, stated])

        return change

    rewritten(path, add("fold_batch_norm"))
    assert_same(SmoothedClassifier.load(path), saved, X_test)
    rewritten(path, add("fold"))
    with pytest.raises(ValueError, match="unexpected keyword argument 'fold'"):
        SmoothedClassifier.load(path)


def test_files_with_a_fingerprint_of_0_1_0(small, path):
    """They load; the digest of the net that they state is of another kind."""
    X, y, X_test = small
    saved = smoothed().fit(X, y)
    SmoothedClassifier.save(saved, path)

    def change(header):
        del header["state"]["net_digest"]
        header["state"]["fingerprint"] = "0" * 32

    rewritten(path, change)
    assert_same(SmoothedClassifier.load(path), saved, X_test)


def test_later_format(tiny_file, path):
    path.write_bytes(tiny_file)
    rewritten(path, lambda header: header.update(format=2, rs4a="9.0"))
    with pytest.raises(ValueError, match=r"has format 2, of rs4a '9.0'.* reads format 1"):
        SmoothedClassifier.load(path)


def replaced(**entries):
    return lambda header: header["net"].update(entries)


@pytest.mark.parametrize(
    "change",
    [
        replaced(module={"thing": "os.system"}),
        replaced(module={"thing": "builtins.eval"}),
        replaced(callbacks=[{"object": ["subprocess.Popen", [["args", "true"]]]}]),
        replaced(module__hidden={"eval": "1"}),
        replaced(module__hidden={"array": "values/none"}),
        replaced(module__hidden={"tuple": [3]}),
        replaced(module__other=1),
        replaced(module={"thing": "torch.optim.SGD"}),
        replaced(device="meta"),
        lambda header: header.pop("net"),
        lambda header: header.update(net=[]),
        lambda header: header["params"].update(other=1),
        lambda header: header["params"].update(alpha={"a": 1, "b": 2}),
        lambda header: header["state"].update(parts=["module", "other"]),
        lambda header: header["state"].update(net_digest="0" * 40),
    ],
)
@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
def test_headers_that_nobody_saved(tiny_file, path, change, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(builtins, "eval", None)
    path.write_bytes(tiny_file)
    rewritten(path, change)
    with pytest.raises(ValueError, match=r"."):
        SmoothedClassifier.load(path)


def test_nothing_is_unpickled(small, path, monkeypatch):
    X, y, X_test = small
    saved = smoothed().fit(X, y)
    SmoothedClassifier.save(saved, path)
    expected = saved.predict(X_test)

    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    for module, name in [
        (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")
    ]:  # fmt: skip
        monkeypatch.setattr(module, name, refuse)
    np.testing.assert_array_equal(SmoothedClassifier.load(path).predict(X_test), expected)


# Writing


def test_full_disk_leaves_the_old_file(small, path, monkeypatch, tiny_file):
    X, y, _ = small
    saved = smoothed().fit(X, y)
    path.write_bytes(tiny_file)
    write = Path.write_bytes

    def fill(self, content):
        write(self, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fill)
        with pytest.raises(OSError, match="No space left"):
            SmoothedClassifier.save(saved, path)
    assert path.read_bytes() == tiny_file
    assert list(path.parent.iterdir()) == [path]
    SmoothedClassifier.save(saved, path)
    assert SmoothedClassifier.load(path).input_shape_ == (1, 8, 8)


def test_interrupted_write_leaves_the_old_file(small, path, monkeypatch, tiny_file):
    X, y, _ = small
    saved = smoothed().fit(X, y)
    path.write_bytes(tiny_file)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("rs4a.persistence.estimator.restore", interrupt)
    with pytest.raises(KeyboardInterrupt):
        SmoothedClassifier.save(saved, path)
    assert path.read_bytes() == tiny_file
    assert list(path.parent.iterdir()) == [path]


def test_only_fitted_classifiers_are_saved(path):
    with pytest.raises(NotFittedError):
        SmoothedClassifier.save(SmoothedClassifier(), path)
    with pytest.raises(TypeError, match="must be a SmoothedClassifier, got MLPSub"):
        SmoothedClassifier.save(type("MLPSub", (SmoothedClassifier,), {})(), path)
    assert not path.exists()


# What no file holds


class Centring(NeuralNetClassifier):
    """Keeps the mean of its training set beside the modules."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.mean_ = torch.as_tensor(np.asarray(X)).mean(dim=0)
        super().on_train_begin(net, X, y, **kwargs)

    def infer(self, x, **fit_params):
        return super().infer(x - getattr(self, "mean_", 0.0), **fit_params)


class Ensemble(nn.Module):
    """Members that torch does not know of."""

    def __init__(self):
        super().__init__()
        self.members = [nn.Linear(64, 10)]
        self.temperature = nn.Parameter(torch.ones(1))

    def forward(self, X):
        return self.temperature * sum(member(X.flatten(1)) for member in self.members)


UNSAVED = {
    "mean_: make it a buffer": lambda kwargs: Centring(OwnNet, **kwargs),
    "no submodules .Linear.: put": lambda kwargs: NeuralNetClassifier(Ensemble, **kwargs),
}


@pytest.mark.parametrize("message", UNSAVED)
def test_what_is_kept_beside_the_modules_is_refused(small, path, message):
    X, y, _ = small
    params = make_net(max_epochs=1).get_params(deep=False)
    kept = {
        name: params[name] for name in ("criterion", "max_epochs", "train_split", "verbose")
    }
    clf = smoothed(UNSAVED[message](kept)).fit(X, y)
    with pytest.raises(ValueError, match=f"would not come back.*{message}"):
        SmoothedClassifier.save(clf, path)
    assert not path.exists()


# Layers that torch itself changes


class Changed(nn.Sequential):
    def __init__(self, change):
        super().__init__(nn.Flatten(), change(nn.Linear(64, 16)), nn.ReLU())
        self.append(nn.Linear(16, 10))


def pruned(layer):
    return prune.l1_unstructured(layer, "weight", amount=0.5)


def pruned_twice(layer):
    return prune.random_unstructured(pruned(layer), "weight", amount=0.5)


CHANGES = [
    pruned,
    pruned_twice,
    # torch calls it deprecated; nets have it.
    pytest.param(
        nn.utils.weight_norm,
        marks=pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning"),
    ),
    nn.utils.spectral_norm,
    nn.utils.parametrizations.weight_norm,
    nn.utils.parametrizations.spectral_norm,
    nn.utils.parametrizations.orthogonal,
]


@pytest.mark.parametrize("change", CHANGES)
def test_layers_that_torch_changes(small, path, change):
    X, y, _ = small
    params = {"criterion": nn.CrossEntropyLoss, "train_split": None, "verbose": 0}
    net = NeuralNetClassifier(Changed, module__change=change, max_epochs=2, **params)
    clf = smoothed(net).fit(X, y)
    SmoothedClassifier.save(clf, path)
    wanted = clf.certify(X[:5])
    for estimator in (net, clf.estimator_):
        again = SmoothedClassifier.load(path, estimator=estimator)
        np.testing.assert_array_equal(again.certify(X[:5]).counts, wanted.counts)
        np.testing.assert_array_equal(
            again.estimator_.predict_proba(X), clf.estimator_.predict_proba(X)
        )
    source = _source(clf._net, X[:5], clf.noise_, len(clf.classes_), clf._procedure())
    packed = pickle.loads(pack_voters(source.voters).content)
    np.testing.assert_array_equal(
        packed.net.forward(X).numpy(), clf.estimator_.forward(X).numpy()
    )


def test_hooks_of_torch_count_by_their_settings():
    def made(dim):
        torch.manual_seed(0)
        change = functools.partial(nn.utils.spectral_norm, dim=dim)
        return NeuralNetClassifier(lambda: change(nn.Linear(4, 4))).initialize()

    one, other = made(0), made(1)
    other.module_.load_state_dict(one.module_.state_dict())
    assert fingerprint(one) != fingerprint(other)
    # What a hook recomputes is no setting.
    again = made(0)
    again.module_.weight = torch.zeros(4, 4)
    assert fingerprint(one) == fingerprint(again)


class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.LazyLinear(10))


def scaled(clf):
    clf.estimator_.module_[1].scale = 2


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize(
    ("module", "change", "message"),
    [
        (Lazy, lambda clf: None, "1.weight is of a lazy layer"),
        (functools.partial(Changed, pruned), scaled, "module_.1.scale. Make tensors"),
    ],
)
def test_the_attribute_that_would_be_lost_is_named(small, path, module, change, message):
    X, y, _ = small
    params = {"criterion": nn.CrossEntropyLoss, "train_split": None, "verbose": 0}
    clf = smoothed(NeuralNetClassifier(module, max_epochs=1, **params)).fit(X, y)
    change(clf)
    with pytest.raises(ValueError, match=message):
        SmoothedClassifier.save(clf, path)
