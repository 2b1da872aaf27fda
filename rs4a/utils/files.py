"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

__all__ = ["whole_file"]


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to; what was written becomes `path` when all went well.

    After an error or an interruption `path` is what it was before.

    Parameters
    ----------
    path : str or path-like
        File to write, under exactly this name.

    Yields
    ------
    partial : Path
        A file beside it, which no other process or thread has.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
