"""Bytes with a digest at their end, which shows damage."""

import hashlib

__all__ = ["seal", "unseal"]

_DIGEST_SIZE = 32


def seal(content: bytes | memoryview, name: str = "") -> bytes:
    """Content with a digest of content and name.

    Parameters
    ----------
    content : bytes-like
        Content.

    name : str, default=""
        Name of the content, at most 64 bytes. Content under another name is damaged.

    Returns
    -------
    sealed : bytes
        Content and digest, 32 bytes longer.
    """
    return bytes(content) + _digest(content, name)


def unseal(sealed: bytes, name: str = "") -> memoryview | None:
    """Content that `seal` sealed, if nothing has changed since.

    Parameters
    ----------
    sealed : bytes
        Result of `seal`.

    name : str, default=""
        Name of the content.

    Returns
    -------
    content : memoryview or None
        None if the bytes were cut short or changed, or have another name.
    """
    content, digest = memoryview(sealed)[:-_DIGEST_SIZE], sealed[-_DIGEST_SIZE:]
    return content if digest == _digest(content, name) else None


def _digest(content: bytes | memoryview, name: str) -> bytes:
    return hashlib.blake2b(content, key=name.encode(), digest_size=_DIGEST_SIZE).digest()
