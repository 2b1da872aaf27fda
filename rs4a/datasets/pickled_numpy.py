"""What pickled numpy arrays name and call, done by our own code instead."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Arguments",
    "ArrayStub",
    "DTypeStub",
    "Symbol",
    "as_text",
    "call",
    "describe",
    "is_helper",
]

_KNOWN = {
    "_codecs.encode",
    "builtins.bytes",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.core.numeric._frombuffer",
    "numpy.dtype",
    "numpy.ndarray",
}
_DTYPE = re.compile("b1|[iu][1248]|f[248]")
_BYTE_ORDERS = ("|", "<", ">", "=")
_MAX_NDIM = 32


def as_text(value: Any) -> str:
    """Return a string, also of what Python 2 wrote, which is bytes."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    raise ValueError(f"a string was expected, got a {type(value).__name__}.")


class Symbol:
    """Name of a function or class, which is never looked up.

    Parameters
    ----------
    name : str
        Module and name, as the pickle gives them.

    Raises
    ------
    ValueError
        If it is none of those that numpy's arrays need.
    """

    def __init__(self, name: str):
        # numpy 2 moved its modules; Python 3 renamed its own.
        current = name.replace("numpy._core.", "numpy.core.")
        self.name = current.replace("__builtin__.", "builtins.")
        if self.name not in _KNOWN:
            raise ValueError(f"it names {name}.")


class DTypeStub:
    """A dtype of booleans, integers or floats, whose byte order comes later.

    Parameters
    ----------
    code : str
        Kind and size in bytes, as in "f8".
    """

    name = "a dtype"

    def __init__(self, code: Any):
        if not _DTYPE.fullmatch(as_text(code)):
            raise ValueError(f"it has the dtype {code!r:.100}.")
        self.dtype = np.dtype(as_text(code))

    def build(self, state: Any) -> "DTypeStub":
        """Set the byte order; dtypes with fields or metadata are refused."""
        match state:
            case (3, order, None, None, None, -1, -1, 0) if as_text(order) in _BYTE_ORDERS:
                self.dtype = self.dtype.newbyteorder(as_text(order))  # type: ignore[arg-type]
                return self
        raise ValueError("a dtype has fields, metadata or an unknown state.")


class ArrayStub:
    """An array whose shape and data come later."""

    name = "an array without data"

    def __init__(self) -> None:
        self.array: Any = self

    def build(self, state: Any) -> NDArray:
        """Return the array, from its state."""
        match state:
            case (1, shape, DTypeStub() as stub, is_fortran, data):
                self.array = _new_array(data, stub.dtype, shape, "F" if is_fortran else "C")
                return self.array
        raise ValueError("an array has an unknown state.")


class Arguments(tuple):
    """A tuple with symbols or stubs in it."""

    __slots__ = ()
    name = "a tuple of functions or classes"


def is_helper(value: Any) -> bool:
    """Whether a value only helps to build data."""
    return isinstance(value, Symbol | DTypeStub | ArrayStub | Arguments)


def describe(value: Any) -> str:
    """Name of a value, for errors; its repr might be endless."""
    return value.name if is_helper(value) else f"a {type(value).__name__}"


def call(symbol: Any, arguments: Any, encode: Callable[[str], bytes]) -> Any:
    """Return what the named function would, for arguments as numpy writes them.

    Parameters
    ----------
    symbol : Symbol
        The function.

    arguments : tuple
        What it is called with.

    encode : callable
        Encodes text as Latin-1.

    Returns
    -------
    value : object
        A value or stub.

    Raises
    ------
    ValueError
        If it is no function, or the arguments are others.
    """
    if not isinstance(symbol, Symbol) or not isinstance(arguments, tuple):
        raise ValueError(f"it calls {describe(symbol)}.")
    match (symbol.name.rsplit(".", 1)[-1], *arguments):
        case ("encode", str() as text, encoding) if as_text(encoding) == "latin1":
            return encode(text)
        case ("bytes",):
            return b""
        case ("dtype", code, _, _):
            return DTypeStub(code)
        case ("_reconstruct", Symbol(name="numpy.ndarray"), (0,), b"b" | "b"):
            return ArrayStub()
        case ("_frombuffer", data, DTypeStub() as stub, shape, "C" | "F" as order):
            return _new_array(data, stub.dtype, shape, order)
        case ("scalar", DTypeStub() as stub, data):
            return _new_array(data, stub.dtype, (), "C")[()]
    raise ValueError(f"it calls {symbol.name} in another way than numpy does.")


def _new_array(data: Any, dtype: np.dtype, shape: Any, order: Any) -> NDArray:
    """Return an array on the memory of `data`, which must be of the right length."""
    if not _is_shape(shape):
        raise ValueError("an array has an impossible shape.")
    size = math.prod(shape) * dtype.itemsize
    if not isinstance(data, bytes | bytearray) or len(data) != size:
        raise ValueError(f"an array of shape {shape} does not have {size} bytes of data.")
    return np.ndarray(shape, dtype, buffer=data, order=order)


def _is_shape(shape: Any) -> bool:
    if not isinstance(shape, tuple) or len(shape) > _MAX_NDIM:
        return False
    return all(type(n) is int and 0 <= n < 2**31 for n in shape)
