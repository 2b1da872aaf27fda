"""Files that appear whole or not at all, and bytes with a digest that reveals damage."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_DIGEST_SIZE = 32


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to; at the end, without an error, the file becomes `path`.

    After an error or an interruption the old file at `path` is left.

    Parameters
    ----------
    path : str or path-like
        File to write, under exactly this name.

    Yields
    ------
    partial : Path
        A file beside it, under a name that no other process or thread uses.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def seal(content: bytes | memoryview, name: str = "") -> bytes:
    """Content, and after it a digest of the content and of its name.

    Parameters
    ----------
    content : bytes-like
        The content.

    name : str, default=""
        At most 64 bytes. `unseal` takes content under another name for damaged.

    Returns
    -------
    sealed : bytes
        32 bytes longer.
    """
    return bytes(content) + _digest(content, name)


def unseal(sealed: bytes, name: str = "") -> memoryview | None:
    """Content that `seal` was given, if nothing has changed since.

    Parameters
    ----------
    sealed : bytes
        Bytes as they were read.

    name : str, default=""
        The name of the content.

    Returns
    -------
    content : memoryview or None
        None if the bytes were cut short or changed, or are of another name.
    """
    content, digest = memoryview(sealed)[:-_DIGEST_SIZE], sealed[-_DIGEST_SIZE:]
    return content if digest == _digest(content, name) else None


def _digest(content: bytes | memoryview, name: str) -> bytes:
    return hashlib.blake2b(content, key=name.encode(), digest_size=_DIGEST_SIZE).digest()
