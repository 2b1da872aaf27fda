"""Names of version 0.1.0: the old path works and warns once, or says what to do instead."""

import importlib
import pickle
import subprocess
import sys

import pytest

from rs4a import Certification, noises
from rs4a.utils.moved import _ENDED, _MOVED

NAMES = [(module, name) for module, names in _MOVED.items() for name in names]


@pytest.mark.parametrize(("module", "name"), NAMES, ids=".".join)
def test_old_names_warn_once(module, name, monkeypatch):
    monkeypatch.delitem(vars(importlib.import_module(module)), name, raising=False)
    with pytest.warns(DeprecationWarning, match=f"^{module}.{name} is now rs4a"):
        thing = getattr(sys.modules[module], name)
    assert getattr(sys.modules[module], name) is thing
    assert thing.__name__ in (name, "load", "save", "from_checkpoint", "summary")


@pytest.mark.parametrize(("module", "name"), _ENDED, ids=".".join)
def test_names_that_ended_say_what_to_do(module, name):
    old = importlib.import_module(module)
    with pytest.raises(
        (AttributeError, ImportError), match=rf"^{module}.{name} has ended\. \w+"
    ):
        getattr(old, name)


def test_a_net_s_own_file_ended():
    assert not hasattr(importlib.import_module("rs4a.networks"), "save_checkpoint")


def test_the_error_of_an_import_names_the_example():
    with pytest.raises(ImportError, match=r"examples/plot_fine_tuning\.py shows"):
        from rs4a.recipes import replace_last_layer  # noqa: F401


def test_unknown_names():
    with pytest.raises(AttributeError, match="module 'rs4a.networks' has no attribute 'x'"):
        importlib.import_module("rs4a.networks").x  # noqa: B018


def test_old_statements_work_in_a_fresh_process():
    program = (
        "from rs4a.certification import Certification\n"
        "from rs4a.persistence import load_classifier\n"
        "import rs4a\n"
        "assert Certification is rs4a.Certification\n"
    )
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert run.stderr.decode().count("DeprecationWarning: rs4a") == 2


@pytest.mark.parametrize("name", ["Exp1", "Exp2", "ExpInf", "UniformBall"])
def test_pickled_records_of_0_1_0_load(name):
    places = {"Exp1": "cross_polytope", "ExpInf": "cubical"}
    record = Certification.from_counts(
        [[90, 10]], labels=[0], noise=getattr(noises, name)(sigma=0.5), dim=4
    )
    new = f"c{type(record.noise).__module__}\n".encode()
    old = f"crs4a.noises.{places.get(name, 'spherical')}\n".encode()
    content = pickle.dumps(record, protocol=0)
    assert content.count(new) == 1
    again = pickle.loads(content.replace(new, old))
    assert type(again.noise) is type(record.noise)


@pytest.mark.slow
def test_new_paths_do_not_warn():
    program = "import rs4a, rs4a.records, rs4a.persistence, rs4a.metrics, rs4a.networks"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
