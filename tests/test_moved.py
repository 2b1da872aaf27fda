"""Import paths of 0.1.0 that moved warn once; those that ended say what to do instead."""

import importlib
import subprocess
import sys
import warnings
from pkgutil import resolve_name

import pytest

from rs4a.utils.moved import ENDED, MOVED

PATHS = [(module, name) for module, names in MOVED.items() for name in names]


@pytest.mark.parametrize(("module", "name"), PATHS)
def test_old_paths_warn_once(module, name):
    old = importlib.import_module(module)
    vars(old).pop(name, None)  # another test may have used the path
    new = MOVED[module][name].replace(":", r"\.")
    with pytest.warns(DeprecationWarning, match=rf"{module}\.{name} is now {new}\."):
        moved = getattr(old, name)
    assert moved == resolve_name(MOVED[module][name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert getattr(old, name) == moved


@pytest.mark.parametrize("module", MOVED)
def test_other_names_are_missing(module):
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        importlib.import_module(module).no_such_name  # noqa: B018


def test_new_paths_do_not_warn():
    program = "import rs4a, rs4a.records, rs4a.persistence, rs4a.metrics, rs4a.networks"
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_old_statements_work_in_a_fresh_process():
    program = (
        "from rs4a.certification import Certification\n"
        "from rs4a.persistence import load_classifier\n"
        "import rs4a\n"
        "assert Certification is rs4a.Certification\n"
    )
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert run.stderr.decode().count("DeprecationWarning: rs4a") == 2


@pytest.mark.parametrize(("module", "name"), ENDED, ids=".".join)
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
