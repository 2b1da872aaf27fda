"""Plain data from a pickle file, without running what the file says."""

import mmap
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_plain_pickle"]

#: The names in pickles of numpy's arrays.
_NAMES = {
    "_codecs.encode", "builtins.bytes", "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar", "numpy.core.numeric._frombuffer", "numpy.dtype",
    "numpy.ndarray",
}  # fmt: skip
_DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


def read_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle of plain data; nothing that the file names is imported or called.

    Plain data are None, booleans, numbers, strings, bytes, lists, tuples, dicts, and numpy
    arrays and scalars of booleans, integers and floats. Everything else is refused.

    Parameters
    ----------
    path : path-like
        File that Python 2 or 3 wrote, in any protocol up to 5.

    Returns
    -------
    data : object
        The data. Strings of Python 2 become bytes, since they may be either; but keys of
        a dict become strings. Arrays may be read-only.

    Raises
    ------
    ValueError
        If the file is not plain data, is cut short, or nests lists, tuples and dicts
        hundreds deep. A list, tuple or dict that occurs twice or in itself is refused
        too: a small file could make it endless.

    Examples
    --------
    >>> import pickle, tempfile
    >>> from pathlib import Path
    >>> from rs4a.datasets.plain_pickle import read_plain_pickle
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "batch"
    ...     _ = path.write_bytes(pickle.dumps({"labels": [3, 1], b"name": "train"}))
    ...     read_plain_pickle(path)
    {'labels': [3, 1], 'name': 'train'}
    """
    with Path(path).open("rb") as file:
        try:
            # A mapped file takes no memory for bytes beyond its end.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _PlainData().of(_Unpickler(content, encoding="bytes").load())
        except ValueError as error:
            raise ValueError(f"{path} is not plain data: {error}") from error
        except Exception as error:  # a damaged pickle leads to any error
            raise ValueError(
                f"{path} is not plain data, or is cut short: {error!r:.200}"
            ) from error


class _Call:
    """A name, or the call of a name, that the file has; nothing makes the call.

    To call numpy's own functions would be unsafe. The state of a dtype comes from the
    file, and numpy takes a dtype of objects that claims to have none: the bytes of the
    file become pointers.
    """

    def __init__(self, name: str, arguments: tuple | None = None):
        self.name = name
        self.arguments = arguments
        self.state: Any = None
        self.value: Any = None

    def __call__(self, *arguments: Any) -> "_Call":
        if len(arguments) > 4:  # a long string, say, as so many letters
            raise ValueError(f"it calls {self.name} with {len(arguments)} arguments.")
        return _Call(self.name, arguments)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Tuple(tuple):
    """A tuple that is no key of a dict: the hash of a nested one may never end."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]


def _unhashable(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def load_tuple(unpickler: Any) -> None:
        load(unpickler)
        unpickler.stack[-1] = _Tuple(unpickler.stack[-1])

    return load_tuple


_LOAD = pickle._Unpickler.dispatch
_TUPLES = (pickle.TUPLE[0], pickle.TUPLE1[0], pickle.TUPLE2[0], pickle.TUPLE3[0])


class _Unpickler(pickle._Unpickler):
    """Pickle's reader in Python: unlike that in C, it takes no memory for empty places."""

    dispatch: ClassVar = {
        **_LOAD,
        **{code: _unhashable(_LOAD[code]) for code in _TUPLES},
        # A bytearray would be filled with zeros before the file is seen to be too short.
        pickle.BYTEARRAY8[0]: _LOAD[pickle.BINBYTES8[0]],
    }

    def find_class(self, module: str, name: str) -> _Call:
        """Return a stand-in for a name of numpy, which is never looked up."""
        # numpy 2 moved its modules; Python 3 renamed its own.
        full = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        full = full.replace("__builtin__.", "builtins.")
        if full not in _NAMES:
            raise ValueError(f"it names {module}.{name}.")
        return _Call(full)

    def get_extension(self, code: int) -> None:
        """Refuse classes that the running program has given a number."""
        raise ValueError(f"it names the class of number {code}.")


class _PlainData:
    """Plain data of an unpickled file: arrays in place of calls, strings as keys."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.recoded: dict[Any, Any] = {}

    def of(self, value: Any) -> Any:
        """Return the plain data of a value."""
        if value is None or isinstance(value, int | float | str | bytes):
            return value
        if isinstance(value, _Call):
            if value.value is None:
                value.value = self.result(value)
            return value.value
        if not isinstance(value, list | tuple | dict):
            raise ValueError(f"it holds a {type(value).__name__}.")
        if value and id(value) in self.seen:
            raise ValueError("a list, tuple or dict occurs twice, or in itself.")
        self.seen.add(id(value))
        if isinstance(value, dict):
            return {self.key(key): self.of(each) for key, each in value.items()}
        return (list if isinstance(value, list) else tuple)(map(self.of, value))

    def key(self, key: Any) -> Any:
        """Return a key of a dict; bytes become a string."""
        plain = self.of(key)
        return self.recode(plain) if isinstance(plain, bytes) else plain

    def recode(self, value: Any) -> Any:
        """Return text as Latin-1 bytes and bytes as text; once for each, for the memory."""
        if value not in self.recoded:
            is_text = isinstance(value, str)
            self.recoded[value] = (str.encode if is_text else bytes.decode)(
                value, "latin-1"
            )
        return self.recoded[value]

    def result(self, call: _Call) -> Any:
        """Return the result of a call, in the form in which numpy writes it."""
        match (call.name.rpartition(".")[2], call.arguments, call.state):
            case ("encode", (str() as text, b"latin1" | "latin1"), None):
                return self.recode(text)
            case ("bytes", (), None):
                return b""
            case ("scalar", (dtype, data), None):
                return self.array(data, dtype, (), "C")[()]
            case ("_frombuffer", (data, dtype, shape, "C" | "F" as order), None):
                return self.array(data, dtype, shape, order)
            case (
                "_reconstruct",
                (_Call(name="numpy.ndarray"), (0,), _),
                (1, shape, dtype, is_fortran, data),
            ):
                return self.array(data, dtype, shape, "F" if is_fortran else "C")
        raise ValueError(f"it uses {call.name} otherwise than for an array of numbers.")

    def array(self, data: Any, dtype: Any, shape: Any, order: Any) -> NDArray:
        """Return an array on the memory of the data, which must be of the right length."""
        content = self.of(data)
        array: NDArray = np.ndarray(shape, self.dtype(dtype), buffer=content, order=order)
        if array.nbytes != len(content):
            raise ValueError(
                f"an array of shape {shape} does not have {array.nbytes} bytes of data."
            )
        return array

    def dtype(self, call: Any) -> np.dtype:
        """Return a dtype of booleans, integers or floats."""
        match call:
            case _Call(
                name="numpy.dtype",
                arguments=(code, _, _),
                state=(3, order, None, None, None, -1, -1, 0),
            ) if self.key(code) in _DTYPES:
                return np.dtype(self.key(code)).newbyteorder(self.key(order))
        raise ValueError("an array has a dtype that is not one of plain numbers.")
