"""A digest of a net, the same on every machine, and the noise that belongs to a net."""

import dis
import re
import types
from collections.abc import Iterator
from typing import Any

import torch
from skorch import NeuralNet
from torch.distributions import Distribution
from torch.utils.data import Dataset, Sampler

from rs4a.nets.modules import NO_SETTINGS, learned_criteria, own_state, roots
from rs4a.noises import Noise
from rs4a.utils.describe import Describer, closed_over, codes_in


def fingerprint(net: Any) -> str:
    """Digest of a net: its modules' classes, weights and settings.

    Settings are the attributes and arguments of the modules, and attributes that the class
    of the net, or its user, adds to the net. The digest depends on the class's name and all
    values of an object; on the name of a class or function, not on its code; on the
    values that a function closes over; and on the number of hooks. A lambda, or a function
    that another function makes, adds its defaults, and the names, constants and operators
    in its code.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    Returns
    -------
    digest : str
        40 hexadecimal digits.
    """
    return digest_of_values(net)


def digest_of_values(*things: Any) -> str:
    """Digest of objects by their values, without the code of classes and functions.

    Parameters
    ----------
    *things : object
        Objects of any kind. Of one that cannot be described, only the class is known.

    Returns
    -------
    digest : str
        40 hexadecimal digits, the same for other versions of Python and of packages.
    """
    return _Values().digest(*things)


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
    ours, theirs = _digests_of_settings(net), _digests_of_settings(other)
    return sorted({name for name, _ in {*ours.items()} ^ {*theirs.items()}})


def remember_noise(net: NeuralNet, noise: Noise) -> None:
    """Let a net remember the template that it was trained under, for later uses.

    Parameters
    ----------
    net : skorch.NeuralNet
        Trained net.

    noise : Noise
        Noise of its training; only deterministic noise has a template.
    """
    if noise.deterministic:
        net.trained_under_ = noise, fingerprint(net)


def noise_of_training(net: Any) -> Noise | None:
    """Noise whose template a net belongs to.

    Parameters
    ----------
    net : skorch.NeuralNet or object
        Any net.

    Returns
    -------
    noise : Noise or None
        None if there is none, or the net's weights have changed since.
    """
    noise, digest = getattr(net, "trained_under_", (None, None))
    return noise if digest is not None and digest == fingerprint(net) else None


def _digests_of_settings(net: Any) -> dict[str, str]:
    """Digests of the settings of modules, by the paths of module and setting."""
    return {
        ".".join(filter(None, (f"{prefix}_", path, name))): _WithoutModules().digest(value)
        for prefix in net._modules
        for path, module in getattr(net, f"{prefix}_").named_modules()
        for name, value in _settings(module).items()
    }


class _Values(Describer):
    """A describer of values, without code."""

    strict = False

    def _parts(self, thing: Any) -> Any:
        if isinstance(thing, NeuralNet):
            arguments = {name: thing.get_params_for(name) for name in thing._modules}
            own = own_state(thing), learned_criteria(thing)
            return type(thing), arguments, roots(thing), own
        return None if _is_torchs_own(thing) else super()._parts(thing)

    def _module(self, module: torch.nn.Module) -> Any:
        kind = type(module)
        children = list(module._modules.items())
        if kind.__module__.startswith("torch._dynamo"):
            return children  # other attributes of compiled nets depend on the machine
        tensors = list(module._parameters.items()), list(module._buffers.items())
        return kind, _settings(module), tensors, children

    def _class(self, kind: type) -> Any:
        return kind.__qualname__

    def _function(self, function: types.FunctionType) -> Any:
        # A decorator may have copied the name of the function that it closes over.
        told = function.__qualname__, closed_over(function)
        if "<" not in function.__qualname__:  # neither a lambda nor made by a function
            return told
        defaults = function.__defaults__, function.__kwdefaults__
        return told, defaults, list(_words(function.__code__))


class _WithoutModules(_Values):
    """A describer of settings, which takes no modules apart."""

    def _module(self, module: torch.nn.Module) -> Any:
        return type(module)


#: Objects of torch that are the same on every machine.
_VALUES = (
    torch.nn.Module, torch.Tensor, torch.dtype, tuple, Distribution, Dataset, Sampler,
)  # fmt: skip


def _is_torchs_own(thing: Any) -> bool:
    """Whether an object is of torch, and depends on the machine."""
    return _package(type(thing)) == "torch" and not isinstance(thing, _VALUES)


def _package(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]


def _settings(module: torch.nn.Module) -> dict[str, Any]:
    """Attributes of a module that are neither weights nor parts nor of torch alone."""
    recomputed = _recomputed_attributes(module)
    settings: dict[str, Any] = {
        f"hook of {name}": (
            type(hook).__qualname__,
            {k: v for k, v in vars(hook).items() if type(v) in (bool, int, float)},
        )
        for name, hook in recomputed.items()
    }
    for name, value in vars(module).items():
        if re.fullmatch("_.*_hooks", name) and isinstance(value, dict):
            if value:  # a later release of torch may have other kinds of hooks
                settings[name] = len(value)
        elif name not in {*NO_SETTINGS, *recomputed} and not _is_set_by_torch(
            type(module), name
        ):
            settings[name] = value
    if isinstance(module, torch.fx.GraphModule):
        settings["code"] = module.code  # all graphs have one class
    if isinstance(module, torch.jit.ScriptModule) and hasattr(module, "_c"):
        settings["script"] = _script(module)
    return settings


def _recomputed_attributes(module: torch.nn.Module) -> dict[str, Any]:
    """Hooks of torch that recompute attributes from weights, by the attributes' names.

    A module that is pruned has them, or one with the weight_norm or spectral_norm of
    `torch.nn.utils`.
    """
    hooks = {
        str(getattr(hook, "_tensor_name", getattr(hook, "name", None))): hook
        for hook in module._forward_pre_hooks.values()
        if type(hook).__module__.startswith("torch.nn.utils.")
    }
    return {name: hook for name, hook in hooks.items() if name not in module._parameters}


def _script(module: Any) -> list[Any]:
    """Code of a module in TorchScript, the constants in it, and the module's attributes."""
    script = module._c
    methods = [script._get_method(name) for name in sorted(script._method_names())]
    names = set(re.findall(r"\w+(?= = )", script.dump_to_str(False, False, False)))
    own = {name for name in names - NO_SETTINGS if script.hasattr(name)}
    values = {name: getattr(module, name) for name in own}
    return [values, *(each.code_with_constants for each in methods)]


def _is_set_by_torch(kind: type, name: str) -> bool:
    """Whether the code of torch sets a private attribute in objects of a class."""
    return name.startswith("_") and any(
        step.opname == "STORE_ATTR" and step.argval == name
        for base in kind.__mro__
        if _package(base) == "torch"
        for each in vars(base).values()
        if isinstance(each, types.FunctionType) and name in each.__code__.co_names
        for step in dis.get_instructions(each)
    )


#: Instructions of operators, in every release of Python.
_OPERATORS = {
    "BINARY_OP", "COMPARE_OP", "CONTAINS_OP", "IS_OP", "UNARY_INVERT", "UNARY_NEGATIVE",
    "UNARY_NOT",
}  # fmt: skip


def _words(code: types.CodeType) -> Iterator[Any]:
    """Names, constants and operators in code; all else differs between Pythons."""
    for each in codes_in(code):
        for step in dis.get_instructions(each):
            if step.opcode in dis.hasconst:  # 3.11 does not know the argval of some
                constant = each.co_consts[step.arg or 0]
                yield None if isinstance(constant, types.CodeType) else constant
            elif step.opcode in dis.hasname or step.opname == "LOAD_SMALL_INT":
                yield step.argval
            elif step.opname in _OPERATORS:
                yield step.opname, step.argval
