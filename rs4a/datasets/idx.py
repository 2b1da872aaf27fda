"""The idx format of MNIST."""

import gzip
import math
import struct
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_idx"]

_UNSIGNED_BYTE = 0x08
_PIECE_BYTES = 2**20


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
            size = math.prod(shape)
            content = _read_at_most(size + 1, file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is no complete gzip file: {error}") from error
    if len(content) != size:
        got = "more" if len(content) > size else len(content)
        raise ValueError(
            f"{path} must hold {size} bytes of data behind its header, for the shape "
            f"{shape}, but has {got}."
        )
    values = np.frombuffer(content, dtype=np.uint8).reshape(shape)
    values.flags.writeable = False
    return values


def _read_at_most(n_bytes: int, file: gzip.GzipFile | BufferedReader) -> bytearray:
    """Read piece by piece: memory is taken for what there is, not for what may be read."""
    content = bytearray()
    while piece := file.read(min(n_bytes - len(content), _PIECE_BYTES)):
        content += piece
    return content


def _read_shape(header: bytes, ndim: int, path: Path) -> tuple[int, ...]:
    magic = bytes([0, 0, _UNSIGNED_BYTE, ndim])
    if header[:4] != magic or len(header) < 4 * (1 + ndim):
        raise ValueError(
            f"{path} must be an idx file of bytes with {ndim} axes, which begins with "
            f"{magic.hex()} and {ndim} lengths, got {header.hex() or 'nothing'}."
        )
    return struct.unpack(f">{ndim}I", header[4:])
