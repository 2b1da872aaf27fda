"""Imports run one way, from the numerics up to the classifier, as CONTRIBUTING states."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import rs4a

ROOT = Path(rs4a.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
MOST_ROOMS, MOST_STOREYS, MOST_LINES = 22, 9, 500


def storeys():
    """Rooms of each storey, the lowest first, from the list in CONTRIBUTING."""
    text = (ROOT.parent / "CONTRIBUTING.md").read_text()
    lines = re.findall(r"^\d\. ((?:`\w+`(?:, )?)+)$", text, re.M)
    return [re.findall(r"`(\w+)`", line) for line in lines]


STOREYS = storeys()


def room_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def name_of(path):
    parts = ("rs4a", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(part for part in parts if part != "__init__")


NAMES = {name_of(path) for path in MODULES}


def imports(path):
    """Dotted names of the modules of rs4a that a module imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("rs4a"))
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "rs4a":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in NAMES else node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    (storey,) = (i for i, rooms in enumerate(STOREYS) if room_of(path) in rooms)
    below = {room for rooms in STOREYS[:storey] for room in rooms}
    used = {(name.split(".") + [""])[1] for name in imports(path)}
    assert used - {room_of(path)} <= below


def test_contributing_lists_each_room_once():
    listed = [room for rooms in STOREYS for room in rooms]
    assert sorted(listed) == sorted({room_of(path) for path in MODULES})
    assert len(listed) <= MOST_ROOMS
    assert len(STOREYS) <= MOST_STOREYS


def test_no_circle_of_modules():
    graph = {name_of(path): set(imports(path)) - {name_of(path)} for path in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_short(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES


def test_heavy_packages_are_imported_only_where_they_are_needed():
    heavy = {"PIL", "matplotlib", "mpmath", "statsmodels", "torchvision"}
    code = f"import sys, rs4a, rs4a.datasets; print(*({heavy} & set(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == []
