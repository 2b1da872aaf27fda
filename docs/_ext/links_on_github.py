"""Links of Markdown pages that lead out of the documentation.

The pages are read on GitHub as well, so they link to files of the repository. On the site
an example is its page in the gallery, and of what is not on the site the words remain.
"""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\((\.\./[^)\s]*)\)")


def replace_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Rewrite the links of one page before it is parsed."""
    path = Path(app.env.doc2path(page))
    if path.suffix == ".md":
        source[0] = LINK.sub(lambda link: on_site(link, path, Path(app.srcdir)), source[0])


def on_site(link: re.Match[str], page: Path, docs: Path) -> str:
    """Return the link as the site has it."""
    text, target = link.groups()
    file = (page.parent / target.partition("#")[0]).resolve()
    if file.is_relative_to(docs):
        return link[0]
    examples = docs.parent / "examples"
    if file == examples:
        return f"[{text}](/gallery/index.rst)"
    if file.parent == examples and file.name.startswith("plot_"):
        return f"[{text}](/gallery/{file.stem}.rst)"
    return text


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", replace_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
