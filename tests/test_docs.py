"""The documentation names everything, links to what exists, and is spelled right."""

import ast
import importlib
import pkgutil
import re
import runpy
from pathlib import Path
from types import ModuleType

import codespell_lib
import pytest
from test_docstrings import MODULES
from test_readme import run_python_blocks

import rs4a

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BUILT = {"_build", "gallery", "generated"}  # by Sphinx, not in the repository
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *DOCS.glob("**/*.md")]
    if not BUILT.intersection(page.relative_to(ROOT).parts)
)
REFERENCE = sorted((DOCS / "api").glob("*.md"))
kinds_on = runpy.run_path(str(DOCS / "_ext" / "public_kinds.py"))["kinds_on"]


def page_id(page):
    return str(page.relative_to(ROOT))


def without_code(text):
    """Prose and links: no blocks, no code in a line."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M))


def test_the_first_certificate(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    page = DOCS / "index.md"
    namespace, n_blocks = run_python_blocks(page, monkeypatch)
    assert n_blocks == 2
    # The page explains the first row and the words as they are printed.
    printed = capsys.readouterr().out.splitlines()
    table, words = re.findall(r"```text\n(.*?)```", page.read_text(), flags=re.DOTALL)
    assert printed[0].split() == table.splitlines()[0].split()
    assert printed[6:10] == words.splitlines()[:4]
    first = namespace["certification"].to_frame().iloc[0]
    assert (first["label"], first["abstained"]) == (1, False)
    assert first["radius_l1"] > 0.3


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        parts = linked.resolve().relative_to(ROOT).parts
        assert not BUILT.intersection(parts), f"{target} is not in the repository"
        if anchor:
            assert anchor in anchors(linked), target


def anchors(page):
    """Of the headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_every_page_is_in_a_toctree():
    listed = {DOCS / "index.md"}
    for page in DOCS.glob("**/*.md"):
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(), flags=re.S):
            for line in tree.splitlines():
                name = re.sub(r".*<(.*)>$", r"\1", line.strip())
                if name and not name.startswith(":"):
                    listed.update(page.parent.glob(f"{name}.md"))
    assert {page for page in PAGES if page.is_relative_to(DOCS)} <= listed


def names_of_reference():
    """Module and name of whatever the pages of docs/api list."""
    for page in REFERENCE:
        yield from kinds_on(page)
        module = None
        for line in page.read_text().splitlines():
            if current := re.fullmatch(r"\.\. (?:current)?module:: (\S+)", line):
                module = current[1]
            elif name := re.fullmatch(r"   ([A-Za-z_]\w*)|\.\. data:: (\w+)", line):
                yield module, name[1] or name[2]


def find(module, name):
    return getattr(importlib.import_module(module), name)


def test_reference_names_nothing_twice():
    names = list(names_of_reference())
    assert len({id(find(*name)) for name in names}) == len(names)


def test_reference_names_what_is_exported_and_no_more():
    names = list(names_of_reference())
    modules = {module for module, _ in names}
    assert modules <= set(MODULES)
    exported = {
        id(find(module, name)): f"{module}.{name}"
        for module in MODULES
        for name in importlib.import_module(module).__all__
    }
    named = {id(find(*name)): ".".join(name) for name in names}
    assert named.keys() == exported.keys(), {
        (named | exported)[each] for each in named.keys() ^ exported.keys()
    }


def test_packages_that_the_reference_leaves_out_export_nothing():
    for package in pkgutil.iter_modules(rs4a.__path__, "rs4a."):
        if package.ispkg and package.name not in MODULES:
            assert not hasattr(importlib.import_module(package.name), "__all__")


def test_index_of_the_reference_links_to_its_pages():
    linked = set(re.findall(r"\((\w+\.md)\)", (DOCS / "api/index.md").read_text()))
    assert linked == {page.name for page in REFERENCE} - {"index.md"}


def programs():
    """What users read: Python of the pages and of the gallery."""
    for page in PAGES:
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
            if not block.startswith(">>>"):
                yield page_id(page), block
    for example in sorted(ROOT.glob("examples/plot_*.py")):
        yield page_id(example), example.read_text()


def imports(program):
    """Module and name of whatever a program imports from this package."""
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("rs4a"):
            yield from ((node.module, alias.name) for alias in node.names)


def test_reference_names_what_pages_import():
    named = {id(find(*name)) for name in names_of_reference()}
    unnamed = {
        (where, *name)
        for where, program in programs()
        for name in imports(program)
        if id(find(*name)) not in named and not isinstance(find(*name), ModuleType)
    }
    assert not unnamed


def test_spelling(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)  # setup.cfg says what is skipped
    n_errors = codespell_lib.main("README.md", "CHANGELOG.md", "docs", "rs4a", "examples")
    assert n_errors == 0, capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_spelling_is_british(page, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    prose = tmp_path / page.name
    prose.write_text(without_code(page.read_text()))
    n_errors = codespell_lib.main("-D", "docs/spelling_words.txt", str(prose))
    assert n_errors == 0, capsys.readouterr().out
