"""The Python of the README and of the how-to pages runs as it stands there."""

import re
import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
HOW_TO = sorted((ROOT / "docs/how_to").glob("*.md"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def run_python_blocks(page, monkeypatch):
    """In order, in one namespace; a block that begins with `# name.py` is that module."""
    namespace = {}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in blocks:
            place, name = namespace, re.match(r"# (\w+)\.py\n", block)
            if name:
                module = ModuleType(name[1])
                monkeypatch.setitem(sys.modules, name[1], module)
                place = vars(module)
            exec(compile(block, str(page), "exec"), place)
    return namespace, len(blocks)


def test_readme_runs(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    namespace, n_blocks = run_python_blocks(README, monkeypatch)
    assert n_blocks == 6
    printed = capsys.readouterr().out
    assert "radius_l1" in printed
    assert "noise__sigma" in printed
    assert namespace["certification"].radius(norm=1).max() > 0.3
    np.testing.assert_array_equal(
        namespace["record"].counts, namespace["certification"].counts
    )


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_how_to_runs(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    namespace, n_blocks = run_python_blocks(page, monkeypatch)
    assert n_blocks
    assert namespace["certification"].radius(norm=1).max() > 0.3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pictures_and_pages_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def anchors(page):
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
