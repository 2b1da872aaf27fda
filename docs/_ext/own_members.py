"""API pages list what this package defines, also where a base class of it does so.

What comes from scikit-learn, torch or Python has its own documentation, with references
that lead nowhere here.
"""

import inspect
from typing import Any

from sphinx.application import Sphinx


def skip_foreign(
    app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Skip functions and methods of other packages; None leaves it to autodoc."""
    function = inspect.unwrap(getattr(member, "fget", None) or member)
    owner = getattr(function, "__module__", None)
    foreign = callable(function) and not str(owner).startswith("rs4a")
    return True if foreign else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("autodoc-skip-member", skip_foreign)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
