"""Plain data from a pickle file, without running what the file says."""

import mmap
import os
import pickletools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rs4a.datasets.pickled_numpy import (
    Arguments,
    ArrayStub,
    DTypeStub,
    Symbol,
    as_text,
    call,
    describe,
    is_helper,
)

__all__ = ["read_plain_pickle"]


def read_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle of plain data; nothing in the file is imported, called or run.

    The opcodes are read one by one, and those that build plain data are followed: None,
    booleans, numbers, strings, bytes, lists, tuples, dicts, and numpy arrays and scalars
    of booleans, integers and floats. Everything else is refused.

    Parameters
    ----------
    path : path-like
        File that Python 2 or 3 wrote, in any protocol up to 5.

    Returns
    -------
    data : object
        The data. Strings of Python 2 become bytes, since they may be either; but those that
        are keys of a dict become strings, as keys of bytes do. Arrays may be read-only.

    Raises
    ------
    ValueError
        If the file is not plain data, or cut short. A list, tuple or dict that occurs
        twice or in itself is refused too: a small file could make it endless.

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
    path = Path(path)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is not plain data: it is empty.")
    with (
        path.open("rb") as file,
        # A mapped file is not copied as a whole, and never reads beyond its end.
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        operations = pickletools.genops(content)  # type: ignore[arg-type]
        try:
            return _Machine().run(operations)
        except ValueError as error:
            raise ValueError(f"{path} is not plain data: {error}") from error


class _Machine:
    """Pickle's stack machine, reduced to what builds plain data."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below_marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.recoded: dict[Any, Any] = {}

    def run(self, operations: Iterable[tuple[Any, Any, Any]]) -> Any:
        """Return what the operations build."""
        for opcode, argument, _ in operations:
            if opcode.name in _CONSTANTS:
                self.stack.append(argument)
            elif opcode.name in _ACTIONS:
                _ACTIONS[opcode.name](self, argument)
            else:
                detail = "" if argument is None else f" {argument!r:.100}"
                raise ValueError(f"it uses the opcode {opcode.name}{detail}.")
        (value,) = self._checked([self.pop()])
        if self.stack or self.below_marks:
            raise ValueError("something is left when it stops.")
        return value

    def pop(self) -> Any:
        """Remove the top of the stack."""
        return self.pop_last(1)[0]

    def pop_last(self, count: int) -> list[Any]:
        """Remove so many values; none from below a mark."""
        if len(self.stack) < count:
            raise ValueError("it takes values that it never gave.")
        start = len(self.stack) - count
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def mark(self, _: None) -> None:
        """Begin a group of values."""
        self.below_marks.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list[Any]:
        """Remove the group of values that began with the last mark."""
        if not self.below_marks:
            raise ValueError("it ends a group of values that it never began.")
        values, self.stack = self.stack, self.below_marks.pop()
        return values

    def push_tuple(self, values: list[Any]) -> None:
        """Push a tuple; one with helpers in it can only be passed to a call."""
        kind = Arguments if any(map(is_helper, values)) else tuple
        self.stack.append(kind(values))

    def extend(self, values: list[Any]) -> None:
        """Append to the list at the top."""
        self._top(list).extend(self._checked(values))

    def update(self, values: list[Any]) -> None:
        """Set items of the dict at the top: keys and values in turn."""
        if len(values) % 2:
            raise ValueError("a dict has a key without a value.")
        items = self._checked(values)
        self._top(dict).update(zip(map(self._as_key, items[::2]), items[1::2], strict=True))

    def new_list(self, _: None) -> None:
        """Push a list of the last group of values."""
        values = self._checked(self.pop_to_mark())
        self.stack.append(values)

    def new_dict(self, _: None) -> None:
        """Push a dict of the last group of values."""
        values = self.pop_to_mark()
        self.stack.append({})
        self.update(values)

    def recode(self, value: Any) -> Any:
        """Return text as Latin-1 bytes and bytes as text; once for each, for the memory."""
        if value not in self.recoded:
            is_text = isinstance(value, str)
            self.recoded[value] = value.encode("latin-1") if is_text else as_text(value)
        return self.recoded[value]

    def store(self, index: int | None) -> None:
        """Remember the top of the stack."""
        index = len(self.memo) if index is None else index
        self.memo[index] = self._top(object)

    def fetch(self, index: int) -> None:
        """Push what was remembered, if it is no container."""
        if index not in self.memo:
            raise ValueError("it recalls what it never stored.")
        value = self.memo[index]
        if isinstance(value, ArrayStub):
            value = value.array
        if isinstance(value, list | tuple | dict):
            raise ValueError("a list, tuple or dict occurs twice, or in itself.")
        self.stack.append(value)

    def name_global(self, name: Any) -> None:
        """Push the symbol of a function or class of numpy."""
        self.stack.append(Symbol(name.replace(" ", ".", 1)))

    def name_global_from_stack(self, _: None) -> None:
        """Push the symbol whose module and name lie on the stack."""
        module, name = map(as_text, self.pop_last(2))
        self.stack.append(Symbol(f"{module}.{name}"))

    def reduce(self, _: None) -> None:
        """Push the result of a function of numpy, as our own code finds it."""
        symbol, arguments = self.pop_last(2)
        self.stack.append(call(symbol, arguments, self.recode))

    def build(self, _: None) -> None:
        """Complete a dtype or an array."""
        stub, state = self.pop_last(2)
        if not isinstance(stub, ArrayStub | DTypeStub):
            raise ValueError(f"it sets the state of a {type(stub).__name__}.")
        self.stack.append(stub.build(state))

    def _top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise ValueError(f"it expects a {kind.__name__} where there is none.")
        return self.stack[-1]

    def _as_key(self, key: Any) -> Any:
        if isinstance(key, bytes):
            return self.recode(key)
        if key is None or isinstance(key, str | int | float):
            return key
        raise ValueError(f"a key of a dict is a {type(key).__name__}.")

    @staticmethod
    def _checked(values: list[Any]) -> list[Any]:
        """Refuse to let helpers into the data."""
        for value in filter(is_helper, values):
            raise ValueError(f"it holds {describe(value)}.")
        return values


#: Opcodes whose argument is the value.
_CONSTANTS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip


def _push_bytes(machine: _Machine, text: str) -> None:
    machine.stack.append(text.encode("latin-1"))  # as pickletools decoded it


def _ignore(machine: _Machine, argument: Any) -> None:
    """Protocol numbers and frames say nothing about the data."""


_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _ignore,
    "FRAME": _ignore,
    "STOP": _ignore,
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "STRING": _push_bytes,
    "SHORT_BINSTRING": _push_bytes,
    "BINSTRING": _push_bytes,
    "MARK": _Machine.mark,
    "EMPTY_TUPLE": lambda machine, _: machine.push_tuple([]),
    "TUPLE1": lambda machine, _: machine.push_tuple(machine.pop_last(1)),
    "TUPLE2": lambda machine, _: machine.push_tuple(machine.pop_last(2)),
    "TUPLE3": lambda machine, _: machine.push_tuple(machine.pop_last(3)),
    "TUPLE": lambda machine, _: machine.push_tuple(machine.pop_to_mark()),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "LIST": _Machine.new_list,
    "APPEND": lambda machine, _: machine.extend(machine.pop_last(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "DICT": _Machine.new_dict,
    "SETITEM": lambda machine, _: machine.update(machine.pop_last(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.pop_to_mark()),
    "PUT": _Machine.store,
    "BINPUT": _Machine.store,
    "LONG_BINPUT": _Machine.store,
    "MEMOIZE": _Machine.store,
    "GET": _Machine.fetch,
    "BINGET": _Machine.fetch,
    "LONG_BINGET": _Machine.fetch,
    "GLOBAL": _Machine.name_global,
    "STACK_GLOBAL": _Machine.name_global_from_stack,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
