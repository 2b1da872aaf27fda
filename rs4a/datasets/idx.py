"""The idx format of MNIST."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_idx"]

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    """Read an array of bytes from an idx file, which may be gzipped.

    The header is two zero bytes, the code of the type, the number of axes, and the length
    of each axis as a big-endian 32-bit integer; all values follow, the last axis fastest.

    Parameters
    ----------
    path : Path
        File; one that ends in .gz is decompressed.

    ndim : int
        Number of axes that the array must have.

    Returns
    -------
    values : ndarray, uint8
        The array; it is read-only.

    Raises
    ------
    ValueError
        If the file is no idx file of bytes with so many axes, or its length is wrong.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            shape = _read_shape(file.read(4 * (1 + ndim)), ndim, path)
            content = file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is no complete gzip file: {error}") from error
    if len(content) != math.prod(shape):
        raise ValueError(
            f"{path} must hold {math.prod(shape)} bytes of data behind its header, for the "
            f"shape {shape}, but has {len(content)}."
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _read_shape(header: bytes, ndim: int, path: Path) -> tuple[int, ...]:
    magic = bytes([0, 0, _UNSIGNED_BYTE, ndim])
    if header[:4] != magic or len(header) < 4 * (1 + ndim):
        raise ValueError(
            f"{path} must be an idx file of bytes with {ndim} axes, which begins with "
            f"{magic.hex()} and {ndim} lengths, got {header.hex() or 'nothing'}."
        )
    return struct.unpack(f">{ndim}I", header[4:])
