"""Digests of objects: of their values, and of the code that is loaded behind them.

Two objects have one digest, in any process, only if they do the same. The digest names
votes and trainings in a folder: a false match would be a wrong number that nobody notices.
"""

import contextvars
import copyreg
import dis
import functools
import hashlib
import io
import logging
import os
import sys
import sysconfig
import threading
import types
import weakref
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib.hashing import Hasher

#: Packages whose versions are part of every digest, in place of their code.
_VERSIONED = (
    "torch", "torchvision", "skorch", "scikit-learn", "numpy", "scipy", "joblib",
    "safetensors",
)  # fmt: skip
_KNOWN_ROOTS = {"sklearn", "torchgen", "rs4a", *_VERSIONED}
#: Where the modules of Python lie, and those of them in C.
_STANDARD_FOLDERS = tuple(
    os.path.join(folder, "")
    for folder in (sysconfig.get_path("stdlib"), sysconfig.get_config_var("DESTSHARED"))
    if folder
)
#: Attributes of a class that Python adds to those that its author wrote.
_NOT_CODE = {
    "__dict__", "__weakref__", "__module__", "__doc__", "__annotations__", "__qualname__",
    "__firstlineno__", "__static_attributes__", "__abstractmethods__", "_abc_impl",
    "__orig_bases__", "__parameters__", "__annotate_func__", "__annotations_cache__",
    "__slotnames__",
}  # fmt: skip
#: Objects that change no answer: only their class and name are described.
_LOGGERS = (logging.Filterer, logging.LoggerAdapter)
_COUNTED_BY_NAME = (
    type(threading.Lock()), type(threading.RLock()), io.IOBase,
    types.MemberDescriptorType, types.GetSetDescriptorType, types.ClassMethodDescriptorType,
)  # fmt: skip
#: Instructions that look up a name among the globals.
_GLOBAL_LOOKUPS = {
    "LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "IMPORT_NAME",
}  # fmt: skip
_NUMBERS_AND_TEXT = (bool, int, float, str, bytes, type(None))
#: Objects that joblib's hasher takes apart by itself.
_KNOWN_TO_JOBLIB = (*_NUMBERS_AND_TEXT, list, tuple, dict, types.BuiltinFunctionType)
_CONTAINERS = (dict, list, tuple, set, frozenset)


def describe(*things: Any) -> str:
    """Digest of some objects, of the functions and classes behind them, and of versions.

    Parameters
    ----------
    *things : object
        Objects of any kind: nets, noises, functions, arrays.

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
    return Describer().digest(_versions(), *things)


@functools.cache
def installed_version(name: str) -> str | None:
    """Version of an installed package; None if there is no such package."""
    try:
        return version(name)
    except PackageNotFoundError:  # a checkout that is used without an installation
        return None


@functools.cache
def _versions() -> str:
    """Digest of Python's version, those of the packages, and the source of the library."""
    packages = [installed_version(name) for name in _VERSIONED]
    digest = hashlib.blake2b(f"{sys.version_info[:2]} {packages}".encode())
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _is_known(module: str | None) -> bool:
    """Whether a version tells the code of a module."""
    root = str(module).partition(".")[0]
    if root not in sys.stdlib_module_names:
        return root in _KNOWN_ROOTS
    # A file of the user may have the name of a module of Python.
    spec = getattr(sys.modules.get(root), "__spec__", None)
    place = str(getattr(spec, "origin", None))
    return place in ("built-in", "frozen") or (
        place.startswith(_STANDARD_FOLDERS) and "-packages" not in place
    )


class Describer(Hasher):
    """joblib's hasher, which also takes code, weights and unpicklable objects apart.

    The hasher writes the first meeting with an object, and a number at each further one.
    The parts of an object follow when those before it are complete: long chains of
    references need no deep recursion.
    """

    #: Whether an object that cannot be taken apart is an error.
    strict = True

    def __init__(self) -> None:
        super().__init__()
        self._hash = hashlib.blake2b(digest_size=20)
        #: Objects whose parts are to be written, with the class that each was met in.
        self._waiting: list[tuple[Any, str]] = []
        self._holder = ""

    def digest(self, *things: Any) -> str:
        """Digest of some objects; another digest needs another describer."""
        return str(self.hash(things))

    def dump(self, thing: Any) -> None:
        """Write an object, and all objects that it refers to."""
        super().dump(thing)
        for each, holder in self._waiting:  # the list grows meanwhile
            self._holder = type(each).__name__
            super().dump(self._all_parts(each, holder))

    def save(self, thing: Any) -> None:
        """Write a value, or the class of an object whose parts follow later."""
        if issubclass(type(thing), np.generic):  # isinstance would ask behind a proxy
            thing = thing.item()
        if type(thing) in _KNOWN_TO_JOBLIB or id(thing) in self.memo:
            super().save(thing)
            return
        self.memoize(thing)
        self._waiting.append((thing, self._holder))
        super().save(type(thing).__name__)

    def memoize(self, thing: Any) -> None:
        """Number an object; Python decides whether equal tuples or texts are one object."""
        if type(thing) not in (tuple, str, bytes):
            super(Hasher, self).memoize(thing)

    def _batch_setitems(self, items: Any, *args: Any) -> None:
        """Write the items of a dict, in the order of their keys."""
        ordered = sorted(items, key=lambda item: self._sort_key(item[0]))
        super(Hasher, self)._batch_setitems(iter(ordered), *args)

    def _sort_key(self, thing: Any) -> str:
        """Text by which members of a set and keys of a dict are in the same order."""
        if type(thing) in _NUMBERS_AND_TEXT:
            return repr(thing)
        describer = type(self)()
        describer.memo = dict(self.memo)  # a member may refer to its set
        return describer.digest(thing)

    def _all_parts(self, thing: Any, holder: str) -> Any:
        try:
            return self._parts(thing)
        except Exception as error:  # objects without pickle fail in many ways
            kind = type(thing)
            if issubclass(kind, _COUNTED_BY_NAME):
                return getattr(thing, "name", getattr(thing, "__qualname__", None))
            if self.strict:
                name = kind.__name__ + (f" in {holder}" if holder else "")
                raise ValueError(f"{name} cannot be described.") from error
            inner = [each(thing) for each in _CONTAINERS if issubclass(kind, each)]
            return kind, object.__getstate__(thing), inner

    def _parts(self, thing: Any) -> Any:
        """Parts of an object, of simpler kinds."""
        if isinstance(thing, torch.nn.Module):
            return self._module(thing)
        if isinstance(thing, torch.Tensor):
            return self._tensor(thing), vars(thing) if self.strict else None
        if isinstance(thing, type):
            return self._class(thing)
        if isinstance(thing, types.FunctionType):
            return self._function(thing)
        if type(thing) in (set, frozenset):
            return sorted(map(self._sort_key, thing))
        for kind, parts in _PARTS.items():
            if isinstance(thing, kind):
                return parts(thing)
        return type(thing), object.__getstate__(thing), _reduced(thing)

    def _module(self, module: torch.nn.Module) -> Any:
        """Code, weights, settings, hooks, and whether the module is in training."""
        torchs = vars(torch.nn.Module()).keys()
        # Hooks are under numbers that differ from process to process.
        return type(module), {
            name: [each if "hook" in name else (key, each) for key, each in value.items()]
            if name in torchs and isinstance(value, dict)
            else value
            for name, value in vars(module).items()
        }

    def _tensor(self, tensor: torch.Tensor) -> Any:
        tensor = tensor.detach()
        if tensor.layout != torch.strided:
            return _reduced(tensor)
        described = str(tensor.dtype), tuple(tensor.shape)
        if tensor.is_meta:  # without content
            return described
        content = tensor.cpu().contiguous().reshape(-1).view(torch.uint8)
        return *described, hashlib.blake2b(content.numpy().data).digest()

    def _class(self, kind: type) -> Any:
        return [
            (each.__module__, each.__qualname__, _written_in(each)) for each in kind.__mro__
        ]

    def _function(self, function: types.FunctionType) -> Any:
        name = function.__module__, function.__qualname__
        if _is_known(function.__module__):
            return name
        defaults = function.__defaults__, function.__kwdefaults__
        inner = vars(function), closed_over(function), _globals_of(function)
        return name, function.__code__, defaults, inner


def _written_in(kind: type) -> dict[str, Any]:
    """Attributes that the author of a class gave it."""
    if _is_known(kind.__module__):
        return {}
    return {
        name: value
        for name, value in vars(kind).items()
        if name not in _NOT_CODE and not name.startswith("__pyx_")  # only C can read these
    }


def closed_over(function: types.FunctionType) -> list[Any]:
    """Values that a function has from the one that made it."""
    values = []
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # an empty cell
            values.append(cell.cell_contents)
    return values


def codes_in(code: types.CodeType) -> Iterator[types.CodeType]:
    """Code of a function, and of those inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_in(constant)


def _globals_of(function: types.FunctionType) -> list[Any]:
    """Globals that a function looks up, and those of modules that it may look up there."""
    codes = list(codes_in(function.__code__))
    names = {
        str(step.argval)
        for code in codes
        for step in dis.get_instructions(code)
        # The name of an attribute may also be that of a global that stays unread.
        if step.opname in _GLOBAL_LOOKUPS
    }
    attributes = {name for code in codes for name in code.co_names}
    found = _named(names, function.__globals__)
    modules: list[types.ModuleType] = []
    for _, thing in found:  # the list grows meanwhile
        if isinstance(thing, types.ModuleType) and thing not in modules:
            modules.append(thing)
            if not _is_known(thing.__name__):
                found += _named(attributes, vars(thing))
    return found


def _named(names: set[str], namespace: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, namespace[name]) for name in sorted(names & namespace.keys())]


def _parts_of_code(code: types.CodeType) -> Any:
    variables = code.co_varnames, code.co_freevars, code.co_cellvars
    instructions = code.co_code, code.co_exceptiontable, code.co_flags
    return code.co_name, instructions, code.co_names, variables, code.co_consts


def _parts_of_array(values: np.ndarray) -> Any:
    if type(values) is not np.ndarray:
        return type(values), _reduced(values), object.__getstate__(values)
    if values.dtype.hasobject:
        return values.shape, values.tolist()
    content = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    return values.shape, values.dtype.descr, hashlib.blake2b(content.data).digest()


def _value_of(variable: contextvars.ContextVar[Any]) -> Any:
    with suppress(LookupError):  # without a value
        return variable.get()


#: Parts of objects that pickle refuses, or keeps by name.
_PARTS: dict[Any, Any] = {
    np.ndarray: _parts_of_array,
    types.CodeType: _parts_of_code,
    types.MethodType: lambda method: (method.__func__, method.__self__),
    types.ModuleType: lambda module: module.__name__,
    types.MappingProxyType: dict,
    (staticmethod, classmethod): lambda method: method.__func__,
    property: lambda each: (each.fget, each.fset),
    _LOGGERS: lambda logger: logger.name,
    contextvars.ContextVar: lambda variable: (variable.name, _value_of(variable)),
    weakref.ref: lambda reference: reference(),
}


def _reduced(thing: Any) -> Any:
    """What pickle would keep: also slots, items, and the data of C code."""
    reduce = copyreg.dispatch_table.get(type(thing))
    kept = thing.__reduce_ex__(4) if reduce is None else reduce(thing)
    if isinstance(kept, str):
        return getattr(thing, "__module__", None), kept
    rest: list[Any]
    make, arguments, *rest = kept
    if hasattr(type(thing), "get_tree_stats"):  # a search tree of scikit-learn
        # The tree counts how often it is asked, which changes no answer.
        counters = (*thing.get_tree_stats(), thing.get_n_calls())
        if rest[0][7:11] == counters:
            rest[0] = rest[0][:7] + rest[0][11:]
    return (
        make,
        arguments,
        [list(each) if isinstance(each, Iterator) else each for each in rest],
    )
