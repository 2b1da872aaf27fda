"""Bytes with a digest at their end, by which damage is noticed."""

import hashlib

__all__ = ["seal", "unseal"]

_DIGEST_SIZE = 32


def seal(content: bytes | memoryview, name: str = "") -> bytes:
    """Content with a digest of it and of the name that it goes by.

    Parameters
    ----------
    content : bytes-like
        Anything.

    name : str, default=""
        At most 64 bytes; content under another name counts as damaged.

    Returns
    -------
    sealed : bytes
        32 bytes longer.
    """
    return bytes(content) + _digest(content, name)


def unseal(sealed: bytes, name: str = "") -> memoryview | None:
    """What `seal` was given, if nothing has changed since.

    Parameters
    ----------
    sealed : bytes
        What was read.

    name : str, default=""
        The name that it goes by.

    Returns
    -------
    content : memoryview or None
        None if it was cut short, changed, or is that of another name.
    """
    content, digest = memoryview(sealed)[:-_DIGEST_SIZE], sealed[-_DIGEST_SIZE:]
    return content if digest == _digest(content, name) else None


def _digest(content: bytes | memoryview, name: str) -> bytes:
    return hashlib.blake2b(content, key=name.encode(), digest_size=_DIGEST_SIZE).digest()
