"""The Python of the README and of the documentation's pages runs as it stands there."""

import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rs4a.bound_record import BoundRecord
from rs4a.certification import Certification
from rs4a.certification_log import CertificationLog

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
pytestmark = pytest.mark.pages
PYTHON = re.compile(r"```python\n(.*?)```", flags=re.DOTALL)
BUILT = {"_build", "gallery", "generated"}  # by Sphinx, not in the repository
#: Theory quotes code and simulations; what the first page prints test_docs.py compares.
ELSEWHERE = {DOCS / "index.md", *DOCS.glob("theory/*.md")}
PAGES = sorted(
    page
    for page in set(DOCS.glob("**/*.md")) - ELSEWHERE
    if not BUILT.intersection(page.relative_to(DOCS).parts)
    and PYTHON.search(page.read_text())
)


def run_python_blocks(page, monkeypatch):
    """In order, in one namespace; a block that begins with `# name.py` is that module."""
    # As in a script, where classes of nets can be copied and sent to workers.
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    namespace = vars(main)
    blocks = PYTHON.findall(page.read_text())
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
    assert n_blocks == 7
    printed = capsys.readouterr().out
    assert "radius_l1" in printed
    assert "noise__sigma" in printed
    assert namespace["certification"].radius(norm=1).max() > 0.3
    np.testing.assert_array_equal(
        namespace["record"].counts, namespace["certification"].counts
    )


def test_every_kind_of_page_is_found():
    folders = {page.parent.relative_to(DOCS).as_posix() for page in PAGES}
    assert folders == {".", "coming_from", "how_to", "user_guide"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_page_runs(page, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    namespace, _ = run_python_blocks(page, monkeypatch)
    assert capsys.readouterr().out.strip()  # it shows the reader something
    kinds = Certification | BoundRecord | CertificationLog
    records = [each for each in namespace.values() if isinstance(each, kinds)]
    assert records
    for record in records:
        assert record.radius(norm=1).max() > 0.0


@pytest.mark.parametrize("name", ["add_a_bound", "add_an_objective"])
def test_tests_of_a_page_pass(name, tmp_path):
    """As the page says they are run; test_how_to.py does so for a noise."""
    for block in PYTHON.findall((DOCS / f"how_to/{name}.md").read_text()):
        if module := re.match(r"# (\w+)\.py\n", block):
            (tmp_path / f"{module[1]}.py").write_text(block)
    tests = [path.name for path in tmp_path.glob("test_*.py")]
    assert tests
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *tests]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
