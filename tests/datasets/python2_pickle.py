"""Pickles as Python 2 wrote them: strings are bytes, and numpy's data is a string."""

import struct

import numpy as np


def dumps(value):
    """Pickle dicts, lists, ints, strings (given as bytes) and arrays of bytes."""
    return b"\x80\x02" + _operations(value) + b"."


def _operations(value):
    match value:
        case dict():
            items = b"".join(_operations(k) + _operations(v) for k, v in value.items())
            return b"}q\x00(" + items + b"u"
        case list():
            return b"]q\x01(" + b"".join(map(_operations, value)) + b"e"
        case int():
            return b"J" + struct.pack("<i", value)
        case bytes() if len(value) < 256:
            return b"U" + bytes([len(value)]) + value
        case bytes():
            return b"T" + struct.pack("<i", len(value)) + value
        case np.ndarray():
            return _array(value)
    raise TypeError(type(value))


def _array(value):
    assert value.dtype == np.uint8
    shape = b"(" + b"".join(map(_operations, value.shape)) + b"t"
    state = b"(K\x03U\x01|NNN" + _operations(-1) + _operations(-1) + b"K\x00tb"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R" + state
    new = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return new + b"(K\x01" + shape + dtype + b"\x89" + _operations(value.tobytes()) + b"tb"
