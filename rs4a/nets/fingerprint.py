"""A digest of a net, the same wherever the net is."""

import dis
import hashlib
import re
import types
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import torch
from skorch import NeuralNet
from torch.distributions import Distribution

from rs4a.nets.modules import (
    NO_SETTINGS,
    hidden_modules,
    learned_criteria,
    modules_in,
    own_state,
    recomputed_attributes,
    roots,
)
from rs4a.utils.describe import Description, reduced

__all__ = ["different_settings", "fingerprint"]


def fingerprint(net: Any) -> str:
    """Digest of a net: its modules' classes, what they learned, and their settings.

    Settings are the attributes and arguments of the modules, and what the net's own class
    or its user adds to it. Objects among them count by their class's name and all their
    values. Classes and functions with a name count by it, without their code; a lambda, or
    a function that another one makes, by its name, its defaults, and the names, constants
    and operators in it. What a function closes over counts too. Of hooks there is the
    number.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    Returns
    -------
    digest : str
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for prefix, root in zip(net._modules, roots(net), strict=True):
        kinds = [type(module).__qualname__ for module in root.modules()]
        arguments = _plain_items(net.get_params_for(prefix))
        plain = [_plain_attributes(module) for module in root.modules()]
        digest.update(f"{kinds} {arguments} {plain}".encode())
        _add_tensors(digest, (*root.state_dict().items(), *root.named_buffers()))
    if own := own_state(net):
        digest.update(str(_plain_items(own)).encode())
    for module in (*modules_in(learned_criteria(net)), *hidden_modules(net)):
        digest.update(f"{type(module).__qualname__} {_plain_attributes(module)}".encode())
        _add_tensors(digest, (*module._parameters.items(), *module._buffers.items()))
    return digest.hexdigest()


def different_settings(net: Any, other: Any) -> list[str]:
    """Attributes of modules by which two nets of one architecture differ.

    Parameters
    ----------
    net, other : skorch.NeuralNet
        Initialised nets.

    Returns
    -------
    names : list of str
        As in "module_.0.scale".
    """
    ours, theirs = _all_settings(net), _all_settings(other)
    return sorted(
        f"{path}.{name}"
        for path in ours.keys() & theirs.keys()
        for name in {*ours[path], *theirs[path]}
        if ours[path].get(name) != theirs[path].get(name)
    )


def _all_settings(net: Any) -> dict[str, dict[str, str]]:
    """Settings of modules by the path of the module."""
    return {
        f"{prefix}_.{path}".rstrip("."): dict(_plain_attributes(module))
        for prefix, root in zip(net._modules, roots(net), strict=True)
        for path, module in root.named_modules()
    }


def _add_tensors(digest: Any, named: Iterable[tuple[str, Any]]) -> None:
    for name, value in named:
        if isinstance(value, torch.Tensor):
            value = value.detach()  # from what else a parameter may carry
        digest.update(f"{name} {_plain(value)}".encode())


def _plain_attributes(module: torch.nn.Module) -> list[tuple[str, str]]:
    kind = type(module)
    if kind.__module__.startswith("torch._dynamo"):
        return []  # what is compiled is within; the wrapper has addresses of memory
    settings: dict[str, Any] = _of_recomputed(module)
    recomputed = recomputed_attributes(module)
    for name, value in vars(module).items():
        if re.fullmatch("_.*_hooks", name) and isinstance(value, dict):
            if value:  # lest a new release, with new kinds of hooks, differ
                settings[name] = len(value)
        elif name not in {*NO_SETTINGS, *recomputed} and not _is_torchs_own(kind, name):
            settings[name] = value
    if isinstance(module, torch.fx.GraphModule):
        settings["code"] = module.code  # its class is that of all
    if isinstance(module, torch.jit.ScriptModule) and hasattr(module, "_c"):
        settings["script"] = _script(module)
    return _plain_items(settings)


def _of_recomputed(module: torch.nn.Module) -> dict[str, Any]:
    """Settings of the hooks that recompute attributes: the rest is in the weights."""
    return {
        f"hook of {name}": (
            type(hook).__qualname__,
            {k: v for k, v in sorted(vars(hook).items()) if type(v) in (bool, int, float)},
        )
        for name, hook in recomputed_attributes(module).items()
    }


def _script(module: Any) -> list[Any]:
    """Code of a module in TorchScript, the constants in it, and the module's attributes."""
    script = module._c
    methods = [script._get_method(name) for name in sorted(script._method_names())]
    names = set(re.findall(r"\w+(?= = )", script.dump_to_str(False, False, False)))
    own = sorted(name for name in names - NO_SETTINGS if script.hasattr(name))
    return [
        [each.code_with_constants for each in methods],
        [(name, getattr(module, name)) for name in own],
    ]


def _is_torchs_own(kind: type, name: str) -> bool:
    """Whether it is a private attribute that the code of torch sets."""
    return name.startswith("_") and any(
        isinstance(each, types.FunctionType)
        and name in each.__code__.co_names
        and any(
            step.opname == "STORE_ATTR" and step.argval == name
            for step in dis.get_instructions(each)
        )
        for base in kind.__mro__
        if _package(base) == "torch"
        for each in vars(base).values()
    )


def _package(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]


def _plain_items(settings: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((name, _plain(value)) for name, value in settings.items())


def _plain(value: Any) -> str:
    """Digest of a setting that is the same wherever the net is."""
    values = _Values()
    values.add(value)
    return values.hexdigest()


class _Values(Description):
    """A description by values, without code."""

    def _add_new(self, thing: Any) -> None:
        if not _is_told_by_name(thing):
            super()._add_new(thing)

    def _add_module(self, module: torch.nn.Module) -> None:
        """Modules are met elsewhere."""
        self._add_class(type(module))

    def _add_class(self, kind: type) -> None:
        self._write(kind.__qualname__)

    def _add_function(self, function: types.FunctionType) -> None:
        self._write(function.__qualname__)
        if "<" in function.__qualname__:  # a lambda, or made by a function
            self._add_all(list(_words(function.__code__)))
            self._add_all(function.__defaults__, function.__kwdefaults__)
        # Also with a name, which a decorator may have copied.
        self._add_all([_content(cell) for cell in function.__closure__ or ()])

    def _add_function_or_object(self, thing: Any) -> None:
        if not isinstance(thing, types.BuiltinFunctionType):
            super()._add_function_or_object(thing)
            return
        self._write(thing.__name__)
        owner = thing.__self__
        if not isinstance(owner, type | types.ModuleType | None):  # a value
            self.add(owner)

    def _add_object(self, thing: Any) -> None:
        self.add(type(thing))
        kept = None
        with suppress(ValueError):  # of a lock, say, its name is all there is
            kept = reduced(thing)
        if kept is None or len(kept) > 2:  # not remade of its arguments alone
            self.add(object.__getstate__(thing))  # whatever its own method leaves out
        if kept is None:
            for container in (dict, list, tuple, set, frozenset):
                if isinstance(thing, container):
                    kept = [container(thing)]
        self._add_all(*(kept or ()))


def _is_told_by_name(thing: Any) -> bool:
    """What torch keeps, but for values, depends on the machine."""
    if isinstance(thing, torch.Tensor | torch.dtype | tuple | Distribution):
        return False
    return _package(type(thing)) == "torch" or isinstance(thing, NeuralNet)


#: Instructions of operators, in every release of Python.
_OPERATORS = {
    "BINARY_OP", "COMPARE_OP", "CONTAINS_OP", "IS_OP", "UNARY_INVERT", "UNARY_NEGATIVE",
    "UNARY_NOT",
}  # fmt: skip


def _words(code: types.CodeType) -> Iterator[Any]:
    """Names, constants and operators in code; all else differs between Pythons."""
    for step in dis.get_instructions(code):
        if isinstance(step.argval, types.CodeType):
            yield from _words(step.argval)
        elif step.opcode in dis.hasconst:  # not argval, which 3.11 does not know of some
            yield code.co_consts[step.arg or 0]
        elif step.opcode in dis.hasname or step.opname == "LOAD_SMALL_INT":
            yield step.argval
        elif step.opname in _OPERATORS:
            yield step.opname, step.argval


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None
