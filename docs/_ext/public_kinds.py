"""`.. kinds-of:: Objective` lists a package's classes of one kind, so that no page does.

The classes are those of the current module's `__all__` that inherit from the named base and
can be made; `.. kinds-of:: Noise except AdditiveNoise` leaves out those of another base.
"""

import importlib
import inspect
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from docutils.nodes import Node
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.ext.autosummary import Autosummary
from sphinx.ext.autosummary.generate import generate_autosummary_docs

LINE = re.compile(r"^\.\. (?:(module|currentmodule)|kinds-of):: (.+)$", re.MULTILINE)


def kinds(module: str, wanted: str) -> list[str]:
    """Names of the classes that a line such as "Noise except AdditiveNoise" means."""
    package = importlib.import_module(module)
    base, *others = (getattr(package, each) for each in wanted.split(" except "))
    public = {name: getattr(package, name) for name in package.__all__}
    return [
        name
        for name, each in public.items()
        if inspect.isclass(each)
        and issubclass(each, base)
        and not issubclass(each, tuple(others))
        and not inspect.isabstract(each)
    ]


def kinds_on(page: Path) -> Iterator[tuple[str, str]]:
    """Module and name of each class that the lines of a page mean."""
    module = ""
    for found in LINE.finditer(page.read_text()):
        if found[1]:
            module = found[2]
        else:
            yield from ((module, name) for name in kinds(module, found[2]))


def make_pages(app: Sphinx) -> None:
    """Write the page of each class; autosummary itself sees names on pages only."""
    api = Path(app.srcdir) / "api"
    listed = [f"   {module}.{name}" for page in api.glob("*.md")
              for module, name in kinds_on(page)]  # fmt: skip
    lines = [".. autosummary::", "   :toctree: generated", "", *listed]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "listed.rst"
        source.write_text("\n".join(lines))
        generate_autosummary_docs([str(source)], str(api / "generated"), app=app)


class KindsOf(Autosummary):
    """The list itself."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = False
    option_spec: ClassVar[dict[str, Any]] = {}

    def run(self) -> list[Node]:
        """Autosummary of the classes."""
        self.options = {"toctree": "generated", "nosignatures": None}
        self.content = StringList(
            kinds(self.env.ref_context["py:module"], self.arguments[0])
        )
        return super().run()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("kinds-of", KindsOf)
    app.connect("builder-inited", make_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
