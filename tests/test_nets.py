"""What smoothing needs of a net: its fingerprint and twins."""

import dataclasses
import enum
import logging
import subprocess
import sys
import threading
from collections import OrderedDict
from functools import partial, wraps
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import Threshold, frozen
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping
from torch import nn

from rs4a import Inference
from rs4a.nets.fingerprint import digest_of_values, fingerprint
from rs4a.nets.modules import hidden_modules, own_state
from rs4a.nets.outputs import evaluating, voting_nets

X = np.random.default_rng(0).random((20, 4), dtype=np.float32)


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


@pytest.fixture
def net():
    return frozen(Net, [0, 1]).estimator


# Fingerprints


def test_fingerprint_changes_with_every_weight(net):
    before = fingerprint(net)
    assert fingerprint(net) == before
    for value in net.module_.state_dict().values():
        flat = value.view(-1)
        old = flat[-1].item()
        flat[-1] = old + 1
        assert fingerprint(net) != before
        flat[-1] = old
        assert fingerprint(net) == before


def test_fingerprint_knows_names_and_types(net):
    before = fingerprint(net)
    net.module_.double()
    assert fingerprint(net) != before
    renamed = frozen(nn.Linear, [0, 1], module__in_features=1, module__out_features=1)
    assert fingerprint(renamed.estimator) != before


def test_fingerprint_knows_classes_and_arguments():
    def digest(module, **kwargs):
        torch.manual_seed(0)
        return fingerprint(frozen(module, [0, 1], **kwargs).estimator)

    class Other(Net):
        pass

    assert digest(Net) != digest(Other)
    assert digest(Threshold, module__t=0.5) == digest(Threshold, module__t=0.5)
    assert digest(Threshold, module__t=0.5) != digest(Threshold, module__t=0.6)


class Beside(nn.Module):
    """An ensemble whose members torch does not know of."""

    def __init__(self, members):
        super().__init__()
        self.members = members
        self.temperature = nn.Parameter(torch.ones(1))

    def forward(self, X):
        each = self.members
        each = each.values() if isinstance(each, dict) else each
        each = each.args if isinstance(each, partial) else each
        each = [each] if callable(each) else each
        return self.temperature * sum(member(X) for member in each)


def wrapped(module, kind=NeuralNetClassifier, **kwargs):
    return kind(
        module, criterion=nn.CrossEntropyLoss, classes=[0, 1], verbose=0, **kwargs
    ).initialize()


def linear(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Dropout(), nn.Linear(4, 2))


HIDING = {
    "list": lambda module: [module],
    "nested": lambda module: {"a": ((module,),)},
    "method": lambda module: module.forward,
    "partial": lambda module: partial(print, module),
}


@pytest.mark.parametrize("name", HIDING)
def test_modules_that_torch_does_not_know_of_count(name):
    if name == "nested":
        members = [Beside(HIDING["list"](linear(seed))) for seed in (0, 0, 1)]
        members = [[member] for member in members]
    else:
        members = [HIDING[name](linear(seed)) for seed in (0, 0, 1)]
    same, again, other = (fingerprint(wrapped(Beside(each))) for each in members)
    assert same == again != other


@pytest.mark.parametrize("name", ["list", "method", "partial"])
def test_modules_that_torch_does_not_know_of_are_in_evaluation(name):
    member = linear(0)
    net = wrapped(Beside(HIDING[name](member)))
    assert hidden_modules(net)[:2] == [member, member[0]]
    with evaluating(net):
        assert not member[0].training
    assert member[0].training


def test_modules_that_are_registered_are_not_hidden():
    class Lists(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = linear(0)
            self.second = self.first
            self.order = [self.first, self.second]
            self.of = (self,)
            self.forward = torch.nn.utils.parametrizations.weight_norm(
                self.first[1]
            ).forward

    net = wrapped(Lists(), criterion__weight=torch.ones(2))
    assert not hidden_modules(net)
    assert not own_state(net)


class Own(NeuralNetClassifier):
    """Has a parameter, and what it keeps of its fit, in public and in private."""

    def __init__(self, *args, scale=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.scale = scale


def set_to(net, **attributes):
    for name, value in attributes.items():
        setattr(net, name, value)
    return net


def reversed_order(outputs):
    return -outputs


def times(factor):
    return lambda outputs: factor * outputs


OWN = {
    "parameter": lambda module: wrapped(module, Own, scale=2.0),
    "fitted": lambda module: set_to(wrapped(module, Own), mean_=torch.zeros(3)),
    "fitted otherwise": lambda module: set_to(wrapped(module, Own), mean_=torch.ones(3)),
    "in private": lambda module: set_to(wrapped(module, Own), _mean=1.0),
    "scaler": lambda module: set_to(wrapped(module, Own), scaler_=StandardScaler().fit(X)),
    "other scaler": lambda module: set_to(
        wrapped(module, Own), scaler_=StandardScaler().fit(2 * X)
    ),
    "nonlinearity": lambda module: wrapped(
        module, Own, predict_nonlinearity=reversed_order
    ),
    "closure": lambda module: set_to(wrapped(module, Own), infer=times(1.0)),
    "other closure": lambda module: set_to(wrapped(module, Own), infer=times(2.0)),
    "list": lambda module: set_to(wrapped(module, Own), members_=[linear(1)]),
    "other list": lambda module: set_to(wrapped(module, Own), members_=[linear(2)]),
    "criterion": lambda module: wrapped(module, Own, criterion__weight=torch.ones(2)),
    "attribute": lambda module: wrapped(set_to(module, _scale=2.0), Own),
    "other attribute": lambda module: wrapped(set_to(module, _scale=3.0), Own),
}


def test_what_a_net_itself_knows_counts():
    module = linear(0)
    digests = [fingerprint(wrapped(module, Own))]
    for make in OWN.values():
        digests.append(fingerprint(make(linear(0))))
        assert fingerprint(make(linear(0))) == digests[-1]
    assert len(set(digests)) == 1 + len(OWN)


class Sign(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.linear = linear(0)[1]
        self.factor = factor

    def forward(self, X):
        return self.times(self.linear(X))

    def times(self, X):
        return self.factor * X


@dataclasses.dataclass
class Config:
    sign: float


@dataclasses.dataclass(slots=True)
class SlottedConfig:
    sign: float


@dataclasses.dataclass(frozen=True)
class FrozenConfig:
    sign: float


class Unpicklable:
    def __init__(self, sign):
        self.lock = threading.Lock()
        self.sign = sign


class SlottedUnpicklable:
    __slots__ = ("lock", "sign")
    __init__ = Unpicklable.__init__


class Incomplete:
    """Pickle does not keep what decides."""

    def __init__(self, sign):
        self.sign = sign

    def __getstate__(self):
        return {}


class Node:
    def __init__(self, sign):
        self.sign = sign
        self.neighbours = {self}


class Items(dict):
    def __reduce__(self):
        raise TypeError


class Choice(enum.Enum):
    PLUS, MINUS = 1.0, -1.0


def named(factor):
    @wraps(reversed_order)
    def decorated(outputs):
        return factor * reversed_order(outputs)

    return decorated


SETTINGS = {
    "dataclass": Config,
    "slots": SlottedConfig,
    "namespace": lambda sign: SimpleNamespace(sign=sign),
    "nested": lambda sign: {"a": [Config(Config(sign))]},
    "lock": Unpicklable,
    "lock in slots": SlottedUnpicklable,
    "state of its own": Incomplete,
    "cycle": Node,
    "set": lambda sign: {FrozenConfig(sign), "a", "b", "c", None},
    "proxy": lambda sign: MappingProxyType({"sign": sign}),
    "dict": lambda sign: Items(sign=sign),
    "enum": Choice,
    "method of a dict": lambda sign: {0: sign}.get,
    "method": lambda sign: Config(sign).__eq__,
    "partial": lambda sign: partial(max, Config(sign)),
    "keyed by functions": lambda sign: {len: sign, max: 0, linear: 1, times: 2},
    "distribution": lambda sign: torch.distributions.Normal(sign, 1.0),
    "sparse tensor": lambda sign: sign * torch.eye(3).to_sparse(),
    "closed over": lambda sign: times(Config(sign)),
    "decorated": named,
    "default": lambda sign: lambda x, by=sign: by * x,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_values_in_settings_count(name):
    digests = [
        fingerprint(wrapped(set_to(linear(0), config=SETTINGS[name](sign))))
        for sign in (1.0, 1.0, -1.0)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_settings_are_the_same_in_another_process():
    code = (
        "import test_nets; from rs4a.nets.fingerprint import digest_of_values;"
        "print(*(digest_of_values(make(1.0)) for make in test_nets.SETTINGS.values()))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    assert run.stdout.split() == [digest_of_values(make(1.0)) for make in SETTINGS.values()]


def test_code_of_settings_does_not_count():
    class Config:
        def __init__(self):
            self.sign = 1.0

    def digest():
        return fingerprint(wrapped(set_to(linear(0), config=[Config(), Config])))

    before = digest()
    Config.__len__ = lambda self: 3
    assert digest() == before


LAMBDAS = [
    lambda x: x,
    lambda x: -x,
    lambda x: 2 * x,
    lambda x: 3 * x,
    lambda x: 2 + x,
    lambda x: x.relu(),
    lambda x: x.clamp(min=0),
    lambda x: x.clamp(max=0),
    lambda x: x > 0,
    lambda x: x < 0,
    lambda x: (lambda y: y.exp())(x),
]


def test_lambdas_are_told_by_their_words():
    assert len({digest_of_values(each) for each in LAMBDAS}) == len(LAMBDAS)

    def one(x):
        return x.relu() + 1

    def two(y):
        """The same, otherwise written."""
        z = y.relu()
        return z + 1

    two.__qualname__ = one.__qualname__
    assert one.__code__.co_code != two.__code__.co_code
    assert digest_of_values(one) == digest_of_values(two)


def test_loggers_are_told_by_name():
    logger = logging.getLogger("a net's")
    before = digest_of_values(logger)
    logging.getLogger("another net's").addHandler(logging.NullHandler())
    logger.setLevel("INFO")
    assert (
        digest_of_values(logger)
        == before
        != digest_of_values(logging.getLogger("another net's"))
    )


class OwnConv(nn.Conv2d):
    def __init__(self):
        super().__init__(1, 1, 3)
        self._own = 1


@pytest.mark.parametrize("make", [lambda: nn.Conv2d(1, 1, 3), OwnConv])
def test_what_torch_keeps_in_private_does_not_count(make):
    """Another release of torch may keep other things."""

    def digest(**attributes):
        torch.manual_seed(0)
        return fingerprint(wrapped(set_to(make(), **attributes)))

    before = digest()
    assert digest(_reversed_padding_repeated_twice=None) == before
    assert digest(_hooks_of_a_later_release_hooks=OrderedDict()) == before
    assert digest(_own=2) != before
    assert digest(own_hooks=[1]) != digest(own_hooks=[2])


COMPILED = {
    "graph": torch.fx.symbolic_trace,
    "traced": lambda module: torch.jit.trace(module, torch.ones(1, 4)),
    "scripted": torch.jit.script,
    "part": lambda module: nn.Sequential(torch.jit.script(nn.Sequential(module))),
}


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:")
def test_code_and_values_of_what_is_compiled_count(name):
    digests = [
        fingerprint(wrapped(COMPILED[name](Sign(f)))) for f in (1.0, 1.0, -1.0, 1 + 1e-9)
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_training_changes_nothing_where_it_makes_no_difference(net):
    """The optimizer, callbacks and history are no part of what answers."""
    before = fingerprint(net)
    net.history.new_epoch()
    net.set_params(lr=0.5, max_epochs=7, callbacks=[("end", EarlyStopping())])
    net.trained_under_ = None, None
    assert fingerprint(net) == before


def test_nets_with_modules_of_their_own_vote_on_one_thread(net):
    assert len(voting_nets(net, None, 2)) == 2
    net.members_ = [linear(0)]
    assert len(voting_nets(net, None, 2)) == 1


# Nets for threads


def test_twins_share_weights_and_nothing_else(net):
    with evaluating(net):
        first, second = voting_nets(net, None, 2)
    assert len({id(each.module_) for each in (net, first, second)}) == 3
    for one, other in zip(
        net.module_.parameters(), first.module_.parameters(), strict=True
    ):
        assert one is other
    assert first.module_[1].running_mean is net.module_[1].running_mean
    assert not first.module_.training


def test_inference_applies_to_every_twin(net):
    batch = torch.from_numpy(X)
    half = Inference(dtype="bfloat16")
    with evaluating(net), torch.inference_mode():
        nets = voting_nets(net, half, 2)
        assert [each.infer(batch).dtype for each in nets] == [torch.bfloat16] * 2
        assert net.infer(batch).dtype == torch.float32


class Normalised(Net):
    """Has a buffer that is not saved, and a setting that is no argument."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4), persistent=False)
        self.slope = 0.1


def test_fingerprint_knows_what_is_not_saved():
    net = frozen(Normalised, [0, 1]).estimator
    before = fingerprint(net)
    net.module_.mean += 1
    shifted = fingerprint(net)
    assert shifted != before
    net.module_.slope = 0.2
    assert fingerprint(net) not in (before, shifted)


class Lambda(Net):
    def __init__(self):
        super().__init__()
        self.activation = lambda x: x.relu()

    def forward(self, X):
        return super().forward(self.activation(X))


def test_a_net_that_cannot_be_pickled_has_twins():
    net = frozen(Lambda, [0, 1]).estimator
    with evaluating(net):
        nets = voting_nets(net, Inference(dtype="bfloat16"), 3)
    assert len(nets) == 3
    assert len({id(each.module_) for each in nets}) == 3
