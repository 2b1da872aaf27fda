"""Descriptions of objects are equal only if the objects are: pairs with one difference."""

import collections
import contextvars
import copy
import dataclasses
import datetime
import decimal
import importlib
import logging
import queue
import re
import subprocess
import sys
import threading
import types
import weakref
from pathlib import Path

import numpy as np
import pytest
import scipy.spatial
import torch
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import BallTree, KDTree, KernelDensity
from sklearn.svm import SVC
from torch import nn
from torch.nn import functional as F

from rs4a.nets.fingerprint import digest_of_values
from rs4a.utils.describe import _is_known, describe

A, B = np.random.default_rng(0).random((2, 50, 3))


class Slotted:
    __slots__ = ("kept",)


class WithDict(Slotted):
    """Slots of the base, and a dict."""


class Listed(list):
    pass


class Number(float):
    pass


def slotted(value):
    thing = WithDict()
    thing.kept = value
    return thing


def with_attribute(thing, value):
    thing.value = value
    return thing


def function(value):
    def f(x):
        return x

    return with_attribute(f, value)


Point = collections.namedtuple("Point", "x")


@dataclasses.dataclass
class Config:
    x: object


@dataclasses.dataclass
class OtherConfig:
    x: object = 1


PAIRS = {
    "kd-tree": (KDTree(A), KDTree(B)),
    "ball tree": (BallTree(A), BallTree(B)),
    "scipy's kd-tree": (scipy.spatial.KDTree(A), scipy.spatial.KDTree(B)),
    "kernel density": (KernelDensity().fit(A), KernelDensity().fit(B)),
    "method of a dict": ({0: 1}.get, {0: 2}.get),
    "method of an array": (A.dot, B.dot),
    "item of a list": ([1].__getitem__, [2].__getitem__),
    "method of a pattern": (re.compile("a").sub, re.compile("b").sub),
    "slots": (slotted(1), slotted(2)),
    "items of a list's subclass": (Listed([1]), Listed([2])),
    "attributes of a list's subclass": (
        with_attribute(Listed(), 1),
        with_attribute(Listed(), 2),
    ),
    "float's subclass": (Number(1.0), Number(2.0)),
    "named tuple": (Point(1), Point(2)),
    "dataclass": (Config(1), Config(2)),
    "fields of dataclasses": (Config, OtherConfig),
    "proxy": (types.MappingProxyType({0: 1}), types.MappingProxyType({0: 2})),
    "sparse tensor": (torch.eye(2).to_sparse(), 2 * torch.eye(2).to_sparse()),
    "date": (datetime.date(2026, 1, 1), datetime.date(2026, 1, 2)),
    "decimal": (decimal.Decimal("1.0"), decimal.Decimal("1.1")),
    "mask": (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2], mask=[1, 0])),
    "factory": (collections.defaultdict(int), collections.defaultdict(list)),
    "order": (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1)),
    "attribute of a function": (function(1), function(2)),
    "fields": (
        np.zeros(2, dtype=[("a", "f4"), ("b", "f4")]),
        np.zeros(2, dtype=[("b", "f4"), ("a", "f4")]),
    ),
    "attribute of a tensor": (
        with_attribute(torch.zeros(1), 1),
        with_attribute(torch.zeros(1), 2),
    ),
    "generator": (np.random.default_rng(0), np.random.default_rng(1)),
    "mode of a module": (nn.Dropout(), nn.Dropout().eval()),
    "tensor without content": (
        torch.zeros(2, device="meta"),
        torch.zeros(3, device="meta"),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_others_have_other_descriptions(name):
    one, other = PAIRS[name]
    assert describe(one) != describe(other)
    assert describe(one) == describe(one)


@pytest.mark.parametrize("thing", [sys._getframe(), (each for each in "abc")])
def test_what_cannot_be_told_apart_is_refused(thing):
    with pytest.raises(ValueError, match="cannot be described"):
        describe(thing)


def test_what_cannot_be_described_is_named():
    thing = {"nets": [nn.Linear(1, 1)]}
    thing["nets"][0].config = Config(each for each in "abc")
    with pytest.raises(ValueError, match=r"^generator in Config cannot be described.$"):
        describe(thing)


def test_sets_that_are_members_of_their_members():
    def node(value):
        thing = with_attribute(Listed(), value)
        thing.neighbours = {slotted(1)}
        next(iter(thing.neighbours)).kept = thing
        return thing

    assert describe(node(1)) == describe(node(1)) != describe(node(2))


def output_of(code, *options):
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
    ).stdout  # fmt: skip


def digests_of_functions_and_classifiers():
    X, y = load_iris(return_X_y=True)
    functions = F.relu, F.silu, F.softmax, F.mish, F.elu, F.selu, F.celu
    forest = RandomForestClassifier(3, random_state=0)
    return describe(dict.fromkeys(functions, 1)), describe(forest.fit(X, y), SVC())


def test_the_same_in_another_process():
    """Also functions as keys, whose hashes are other ones in every process."""
    code = "import test_description as t; print(*t.digests_of_functions_and_classifiers())"
    here = digests_of_functions_and_classifiers()
    assert output_of(code).split() == [*here]


def test_the_second_time_as_the_first():
    """Pickling leaves its traces in classes."""
    thing = slotted(1)
    before = describe(thing)
    thing.__reduce_ex__(4)
    assert describe(thing) == before


@pytest.mark.parametrize("kind", [KDTree, BallTree])
def test_what_is_counted_is_no_difference(kind):
    tree = kind(A)
    before = describe(tree)
    tree.query(B, k=3)
    assert tree.get_n_calls()
    assert describe(tree) == before


@pytest.mark.slow
def test_files_with_names_of_the_library_are_described(tmp_path):
    """Python's own modules are told by its version, but these are no longer they."""
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r});"
        "import code, xdrlib, net_of_mine; from rs4a.utils.describe import describe;"
        "print(*(describe(each.Net) for each in (code, xdrlib, net_of_mine)));"
        "code.Net.forward = xdrlib.Net.forward = net_of_mine.Net.forward = lambda s, x: x;"
        "print(*(describe(each.Net) for each in (code, xdrlib, net_of_mine)))"
    )
    for name in ("code", "xdrlib", "net_of_mine"):
        source = "class Net:\n    def forward(self, X):\n        return -X\n"
        (tmp_path / f"{name}.py").write_text(source)
    before, after = (line.split() for line in output_of(code, "-B").splitlines())
    assert not {*before} & {*after}


def test_what_python_has_itself_is_known():
    names = ("builtins", "os", "collections.abc", "_struct", "json.decoder")
    assert all(_is_known(name) for name in names)
    assert not _is_known("__main__")


def test_code_of_a_module_that_is_not_loaded_counts(monkeypatch):
    """A module of the user's that had the name of one of Python's, sent by cloudpickle."""
    monkeypatch.delitem(sys.modules, "turtledemo", raising=False)
    one, other = (
        types.FunctionType(each.__code__, {"__name__": "turtledemo"}, "f")
        for each in (lambda x: x + 1, lambda x: x + 2)
    )
    assert describe(one) != describe(other)


# What changes no answer


def lines_of(path, mode):
    with open(path, mode) as file:
        return describe(Config(file))


def calling(known):
    def f(x):
        return known.debug(x)

    return f


@pytest.mark.parametrize(
    "make",
    [
        threading.Lock,
        threading.RLock,
        lambda: vars(dict)["fromkeys"],
        lambda: contextvars.ContextVar("unset"),
        threading.Condition,
        queue.Queue,
        lambda: logging.getLogger("mine"),
        lambda: logging.LoggerAdapter(logging.getLogger("mine"), {"run": 1}),
        lambda: calling(logging.getLogger("mine")),
        lambda: weakref.ref(A_MODULE),
        lambda: weakref.proxy(A_MODULE),
        lambda: weakref.WeakValueDictionary(one=A_MODULE),
    ],
)
def test_what_changes_no_answer_is_described(make):
    assert describe(Config(make())) == describe(Config(make()))


A_MODULE, ANOTHER_MODULE = nn.Linear(2, 2), nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (logging.getLogger("mine"), logging.getLogger("other")),
        (
            contextvars.ContextVar("one", default=1),
            contextvars.ContextVar("one", default=2),
        ),
        (weakref.ref(A_MODULE), weakref.ref(ANOTHER_MODULE)),
        (weakref.proxy(A_MODULE), weakref.proxy(ANOTHER_MODULE)),
        (
            weakref.WeakValueDictionary(one=A_MODULE),
            weakref.WeakValueDictionary(one=ANOTHER_MODULE),
        ),
    ],
)
def test_what_is_behind_weak_references_counts(one, other):
    assert describe(Config(one)) != describe(Config(other))


def test_open_files_count_by_name(tmp_path):
    log, data = tmp_path / "log", tmp_path / "data"
    data.write_text("1")
    before = lines_of(log, "w"), lines_of(data, "r")
    log.write_text("more")
    assert (lines_of(log, "a"), lines_of(data, "r")) == before
    assert len({*before}) == 2


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_count_by_their_weights(kind):
    torch.manual_seed(0)
    one, other = kind(2, 3), kind(2, 3)
    assert describe(one) != describe(other)
    other.load_state_dict(one.state_dict())
    assert describe(one) == describe(other)


def described_with(source, **namespace):
    exec(source, namespace)
    return describe(namespace["f"])


@pytest.mark.parametrize(
    ("source", "counts"),
    [
        ("def f(self):\n    return self.history", False),
        ("def f(self):\n    return history", True),
        ("def f(self):\n    return lambda: history", True),
        ("def f(self):\n    class C:\n        x = history\n    return C", True),
    ],
)
def test_only_names_that_are_loaded_as_globals_count(source, counts):
    one, other = (described_with(source, history=each) for each in ([1], [2]))
    assert (one != other) == counts


# What makes no difference


PAIR = (1, "a")


class Parent(nn.Module):
    """Refers to itself, by way of its part."""

    def __init__(self, value=0):
        super().__init__()
        self.part = nn.Linear(2, 2)
        self.config = {"parent": [self], "value": value}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": [1], "b": 2}, {"b": 2, "a": [1]}),
        ({KDTree: 1, "a": 2, 3: 4}, {3: 4, "a": 2, KDTree: 1}),
        ({"a", "b", 3, nn.Linear}, {nn.Linear, 3, "b", "a"}),
        ([PAIR, PAIR], [(*PAIR,), (*PAIR,)]),
        (A[::2, :1], np.array(A[::2, :1])),
        (torch.from_numpy(A)[:, 1], torch.from_numpy(A)[:, 1].clone()),
    ],
)
def test_order_identity_and_memory_make_no_difference(one, other):
    assert describe(one) == describe(other)


def test_circles_of_modules():
    torch.manual_seed(0)
    one = Parent()
    digests = []
    for other in (copy.deepcopy(one), copy.deepcopy(one)):
        digests.append(describe(other))
        other.config["value"] = 1
        digests.append(describe(other))
        other.config["value"] = 0
        with torch.no_grad():
            other.part.bias[1] += 1
        digests.append(describe(other))
    assert len({describe(one), *digests}) == 3


def test_long_chains_of_references():
    chain = None
    for _ in range(5000):
        chain = Config(chain)
    assert describe(chain) != describe(chain.x)


def test_modules_that_import_each_other(tmp_path, monkeypatch):
    """A package and its module, of which either is an attribute of the other."""
    package = tmp_path / "package_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("from package_of_mine import part\n")
    (package / "part.py").write_text(
        "import package_of_mine\n"
        "def helper(x):\n    return x\n"
        "def f(x):\n    return package_of_mine.part.package_of_mine.part.helper(x)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    part = importlib.import_module("package_of_mine.part")
    before = describe(part.f)
    monkeypatch.setattr(part, "helper", len)
    assert describe(part.f) != before


class Text(str):
    """Text that refers to itself."""

    __slots__ = ("__dict__",)


def test_texts_with_attributes():
    one, other = (with_attribute(Text("a"), each) for each in (1, 2))
    assert describe(one) != describe(other)
    assert describe(with_attribute(one, one)) != describe(other)


def test_references_to_nothing():
    module = nn.Linear(1, 1)
    proxy, reference = weakref.proxy(module), weakref.ref(module)
    digests = [digest_of_values(proxy), describe(reference)]
    del module
    assert digests[0] != digest_of_values(proxy)
    assert digests[1] != describe(reference)
    with pytest.raises(ValueError, match="cannot be described"):
        describe(proxy)
