"""Objects described by all that they do: their values, and the code that is loaded.

Two descriptions are equal, in any process, only if the objects are: for votes and trainings
that are kept, a false match would be a wrong number that nobody notices.
"""

import contextvars
import copyreg
import dis
import functools
import hashlib
import inspect
import io
import logging
import os
import sys
import sysconfig
import threading
import types
import weakref
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["Description", "describe", "describe_plain", "installed_version", "reduced"]

#: Packages whose code is told by their version, which is part of every description.
_VERSIONED = (
    "torch", "torchvision", "skorch", "scikit-learn", "numpy", "scipy", "joblib",
    "safetensors",
)  # fmt: skip
_KNOWN_ROOTS = {"sklearn", "torchgen", *_VERSIONED}
#: Where Python's own modules lie, and those of them in C.
_STANDARD_FOLDERS = tuple(
    os.path.join(folder, "")
    for folder in (sysconfig.get_path("stdlib"), sysconfig.get_config_var("DESTSHARED"))
    if folder
)
#: What a class has besides what its author wrote.
_NOT_CODE = {
    "__dict__", "__weakref__", "__module__", "__doc__", "__annotations__", "__qualname__",
    "__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl",
    "__orig_bases__", "__parameters__", "__annotate_func__", "__annotations_cache__",
    "__slotnames__",
}  # fmt: skip
#: What changes no answer, and counts by its kind and name alone.
_LOGGERS = (logging.Filterer, logging.LoggerAdapter)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_HARMLESS = (*_LOCKS, io.IOBase)
_PROXIES = (weakref.ProxyType, weakref.CallableProxyType)
#: Instructions that look a name up among the globals.
_GLOBAL_LOOKUPS = {
    "LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "IMPORT_NAME",
}  # fmt: skip
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis))


def describe(*things: Any) -> str:
    """Digest of some objects, the functions and classes behind them, and their versions.

    Parameters
    ----------
    *things : object
        Anything; nets, noises, functions and arrays among it.

    Returns
    -------
    digest : str
        40 hexadecimal digits.

    Raises
    ------
    ValueError
        If an object, or one that it refers to, cannot be described.

    Examples
    --------
    >>> from rs4a.noises import Uniform
    >>> from rs4a.utils.describe import describe
    >>> describe(Uniform(sigma=0.5)) == describe(Uniform(sigma=0.5))
    True
    >>> describe(Uniform(sigma=0.5)) == describe(Uniform(sigma=1.0))
    False
    """
    description = Description()
    description.add(_versions())
    description.add(things)
    return description.hexdigest()


def describe_plain(identity: str, *parts: Any) -> str:
    """Digest of some objects beside what is described already, without the versions.

    Parameters
    ----------
    identity : str
        What `describe` said of the rest, or what they are.

    *parts : object
        Anything; numbers, strings, arrays and tuples of them take no time.

    Returns
    -------
    digest : str
        40 hexadecimal digits.
    """
    description = Description()
    description.add(identity)
    description.add(parts)
    return description.hexdigest()


@functools.cache
def installed_version(name: str) -> str | None:
    """Version of an installed package; None if there is no such package."""
    try:
        return version(name)
    except PackageNotFoundError:  # a checkout that is used as it lies there
        return None


@functools.cache
def _versions() -> list[Any]:
    """Python, the packages, and the source of this library."""
    digest = hashlib.blake2b(digest_size=16)
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    packages = [installed_version(name) for name in _VERSIONED]
    return [*sys.version_info[:2], *packages, digest.hexdigest()]


def _is_known(module: Any) -> bool:
    """Whether a module's code is told by a version."""
    root = str(module).partition(".")[0]
    if root in sys.stdlib_module_names:
        return _is_standard(root)
    return root in _KNOWN_ROOTS or root == "rs4a"


def _is_standard(root: str) -> bool:
    """Whether it is Python's own, and no file of the user's that has the name."""
    spec = getattr(sys.modules.get(root), "__spec__", None)
    origin = str(getattr(spec, "origin", None))
    if origin in ("built-in", "frozen"):
        return True
    return origin.startswith(_STANDARD_FOLDERS) and not any(
        f"{os.sep}{name}{os.sep}" in origin for name in ("site-packages", "dist-packages")
    )


class Description:
    """A digest that grows by all that an object refers to."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=20)
        #: Objects that were met, by id and with the object itself, lest the id be reused.
        self._met: dict[int, tuple[int, Any]] = {}
        #: Keys and attributes that led to the present object.
        self._path: list[str] = []

    def hexdigest(self) -> str:
        """Digest of all that was added."""
        return self._digest.hexdigest()

    def _write(self, *words: Any) -> None:
        for word in words:
            content = word if isinstance(word, bytes | memoryview) else str(word).encode()
            self._digest.update(len(content).to_bytes(8, "little"))
            self._digest.update(content)

    def add(self, thing: Any) -> None:
        """Describe one object, once."""
        if isinstance(thing, np.generic):
            thing = thing.item()
        if type(thing) in _PLAIN:
            self._write(type(thing).__name__, repr(thing))
            return
        if type(thing) is not tuple:  # whether equal ones are one is the compiler's choice
            if id(thing) in self._met:
                self._write("again", self._met[id(thing)][0])
                return
            self._met[id(thing)] = len(self._met), thing
        if type(thing) in _PROXIES:  # which take the class of what they stand for
            self.add(_behind(thing))
            return
        self._write(type(thing).__name__)
        self._add_new(thing)

    def _add_new(self, thing: Any) -> None:
        if isinstance(thing, torch.nn.Module):
            self._add_module(thing)
        elif isinstance(thing, torch.Tensor) or type(thing) is np.ndarray:
            self._add_array(thing)
        elif type(thing) in (dict, types.MappingProxyType):
            self._add_items(thing)
        elif type(thing) in (list, tuple):
            self._add_all(type(thing), thing)
        elif type(thing) in (set, frozenset):
            self._write(*sorted(map(self._digest_of, thing)))
        elif isinstance(thing, type):
            self._add_class(thing)
        elif isinstance(thing, types.CodeType):
            self._add_code(thing)
        elif isinstance(thing, types.ModuleType):
            self._write(thing.__name__)
        elif isinstance(thing, functools.partial):
            self._add_all(thing.func, thing.args, thing.keywords)
        else:
            self._add_function_or_object(thing)

    def _add_function_or_object(self, thing: Any) -> None:
        if isinstance(thing, types.FunctionType):
            self._add_function(thing)
        elif isinstance(thing, types.MethodType):
            self._add_all(thing.__func__, thing.__self__)
        elif isinstance(thing, staticmethod | classmethod):
            self.add(thing.__func__)
        elif isinstance(thing, property):
            self._add_all(thing.fget, thing.fset)
        elif isinstance(thing, functools.cached_property):
            self.add(thing.func)
        elif isinstance(thing, types.BuiltinFunctionType):
            self._add_all(thing.__module__, thing.__qualname__, thing.__self__)
        elif isinstance(thing, torch.dtype | torch.device | np.dtype):
            self._write(thing)
        else:
            self._add_special(thing)

    def _add_special(self, thing: Any) -> None:
        if isinstance(thing, _LOGGERS):
            self._write(_name_of_logger(thing))
        elif isinstance(thing, contextvars.ContextVar):
            self._add_all(thing.name, _present(thing))
        elif isinstance(thing, types.ClassMethodDescriptorType):
            self._write(thing.__objclass__.__module__, thing.__qualname__)
        else:
            self._add_object(thing)

    def _add_object(self, thing: Any) -> None:
        self._add_all(type(thing), getattr(thing, "__dict__", None))
        if isinstance(thing, weakref.ref):
            self.add(thing())
            return
        try:
            kept = reduced(thing)
        except ValueError as error:
            if isinstance(thing, _HARMLESS):
                self._write(*_seen_of_file(thing))
                return
            where = f" at {'.'.join(self._path)}" if self._path else ""
            name = type(thing).__name__
            raise ValueError(f"{name}{where} cannot be described.") from error
        self._add_all(*kept)

    def _digest_of(self, member: Any) -> str:
        """Digest of a member of a set, whose members have no order."""
        description = type(self)()
        description._met = dict(self._met)
        description._path = list(self._path)
        description.add(member)
        return description.hexdigest()

    def _add_all(self, *things: Any) -> None:
        for thing in things:
            if isinstance(thing, list | tuple) and type(thing) in (list, tuple):
                self._write(len(thing))
                for each in thing:
                    self.add(each)
            else:
                self.add(thing)

    def _add_items(self, items: Any) -> None:
        self._write(len(items))
        # Other objects may have their address in their repr.
        is_sklearn_classifier = all(type(key) in _PLAIN for key in items)
        for key in sorted(items, key=repr) if is_sklearn_classifier else items:
            self.add(key)
            self._path.append(str(key))
            self.add(items[key])
            self._path.pop()

    def _add_array(self, values: Any) -> None:
        if isinstance(values, torch.Tensor):
            self.add(getattr(values, "__dict__", None) or None)
            values = values.detach()
            self._write(tuple(values.shape), values.dtype)
            if values.layout != torch.strided:
                self._add_all(*reduced(values))
            elif not values.is_meta:  # which has no content
                values = values.cpu().contiguous().reshape(-1)
                self._write(values.view(torch.uint8).numpy().data)
        elif values.dtype == object:
            self._add_all(values.shape, values.tolist())
        else:
            self._write(values.shape, values.dtype.descr)
            self._write(np.ascontiguousarray(values).tobytes())

    def _add_module(self, module: torch.nn.Module) -> None:
        """Code, weights, settings, hooks, and whether it is in training."""
        self.add(type(module))
        state = dict(vars(module))
        for name in ("_parameters", "_buffers", "_modules", *_HOOKS):
            state[name] = (
                list(state.get(name, {}).items())
                if name[-5:] != "hooks"
                else list(state.get(name, {}).values())
            )
        self._add_items(state)

    def _add_class(self, kind: type) -> None:
        self._write(kind.__module__, kind.__qualname__)
        for each in kind.__mro__:
            self._write(each.__module__, each.__qualname__)
            if not _is_known(each.__module__):
                written = {
                    name: value
                    for name, value in vars(each).items()
                    # Cython's own, which only C can read.
                    if name not in _NOT_CODE and not name.startswith("__pyx_")
                }
                self._add_items({k: v for k, v in written.items() if not _is_slot(v)})

    def _add_function(self, function: types.FunctionType) -> None:
        self._write(function.__module__, function.__qualname__)
        if _is_known(function.__module__):
            return
        self._add_all(function.__code__, function.__defaults__, function.__kwdefaults__)
        self.add(vars(function))
        for cell in function.__closure__ or ():
            try:
                self.add(cell.cell_contents)
            except ValueError as error:
                if "Cell is empty" not in str(error):
                    raise
        names = _names(function.__code__)
        # An attribute's name may also be that of a global, which the function never sees.
        looked_up = _global_names(function.__code__)
        for name in sorted(looked_up & set(function.__globals__)):
            self._write(name)
            self._add_global(function.__globals__[name], names)

    def _add_global(self, thing: Any, names: set[str]) -> None:
        """What a function finds in its module; of another module what it may look up."""
        if not isinstance(thing, types.ModuleType):
            self.add(thing)
            return
        self._write(thing.__name__)
        if not _is_known(thing.__name__):
            for name in sorted(names & set(vars(thing))):
                self._write(name)
                self._add_global(vars(thing)[name], names)

    def _add_code(self, code: types.CodeType) -> None:
        self._write(code.co_name, code.co_code, code.co_names, code.co_varnames)
        self._write(code.co_freevars, code.co_cellvars, code.co_flags)
        for constant in code.co_consts:
            self.add(constant)


#: Where a module keeps its hooks.
_HOOKS = tuple(name for name in vars(torch.nn.Module()) if name.endswith("_hooks"))


def reduced(thing: Any) -> list[Any]:
    """What pickle would keep: also slots, items, and what C code has to itself.

    Parameters
    ----------
    thing : object
        Anything.

    Returns
    -------
    kept : list
        The name of a global and its module; or what makes the object, its arguments, and
        the state and items that the object then gets, where it gets any.

    Raises
    ------
    ValueError
        If it cannot be pickled.
    """
    reduce = copyreg.dispatch_table.get(type(thing))
    try:
        kept = thing.__reduce_ex__(4) if reduce is None else reduce(thing)
    except Exception as error:  # what cannot be pickled fails in many ways
        raise ValueError(f"{type(thing).__name__} cannot be pickled.") from error
    if isinstance(kept, str):
        return [getattr(thing, "__module__", None), kept]
    make, arguments, *rest = kept
    if rest:
        rest[0] = _without_counters(thing, rest[0])
    # Iterators over items come fourth and fifth.
    items = [
        list(each) if i in (1, 2) and each is not None else each
        for i, each in enumerate(rest)
    ]
    return [make, arguments, *items]


def _names(code: types.CodeType) -> set[str]:
    """Names that a function, and those inside it, look up."""
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


@functools.cache
def _global_names(code: types.CodeType) -> frozenset[str]:
    """Names that a function, and those inside it, look up among the globals."""
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    own = {
        str(step.argval)
        for step in dis.get_instructions(code)
        if step.opname in _GLOBAL_LOOKUPS
    }
    return frozenset(own).union(*map(_global_names, inner))


def _behind(proxy: Any) -> Any:
    """What a weak proxy stands for; None if it is gone."""
    try:
        return proxy.__repr__.__self__
    except ReferenceError:
        return None


def _present(variable: contextvars.ContextVar[Any]) -> list[Any]:
    """Value that a variable has here, if it has any."""
    try:
        return [variable.get()]
    except LookupError:
        return []


def _name_of_logger(thing: Any) -> str:
    return str(getattr(getattr(thing, "logger", thing), "name", None))


def _seen_of_file(file: Any) -> list[Any]:
    """Name of a file, or none of a lock; of a file that is only read, size and time too."""
    if not isinstance(file, io.IOBase):
        return []
    name = getattr(file, "name", None)
    if file.closed or not file.readable() or file.writable():
        return [name]
    try:
        status = os.fstat(file.fileno())
    except OSError:  # nothing that lies on a disk
        return [name]
    return [name, status.st_size, status.st_mtime_ns]


def _without_counters(thing: Any, state: Any) -> Any:
    """State of a search tree of scikit-learn's but for what it counts while it is asked."""
    if not hasattr(type(thing), "get_tree_stats"):
        return state
    counters = (*thing.get_tree_stats(), thing.get_n_calls())
    first, last = 7, 7 + len(counters)
    if not isinstance(state, tuple) or state[first:last] != counters:
        return state
    return state[:first] + state[last:]


def _is_slot(value: Any) -> bool:
    return inspect.isgetsetdescriptor(value) or inspect.ismemberdescriptor(value)
