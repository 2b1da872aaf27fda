"""A digest of a net, the same wherever the net is."""

import hashlib
import types
from collections.abc import Iterable
from typing import Any

import torch

from rs4a.net_parts import (
    NO_SETTINGS,
    hidden_modules,
    learned_criteria,
    modules_in,
    own_state,
    roots,
)
from rs4a.utils.description import describe_plain

__all__ = ["fingerprint"]


def fingerprint(net: Any) -> str:
    """Digest of a net: its modules' classes, what they learned, and their settings.

    Settings are the attributes and arguments of the modules, and what the net's own class
    or its user adds to it. Classes and functions with a name count by it, without their
    code, and of hooks there is the number.

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


def _add_tensors(digest: Any, named: Iterable[tuple[str, Any]]) -> None:
    for name, value in named:
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            if not value.is_meta:  # which has no content
                content = value.detach().cpu().contiguous().reshape(-1)
                digest.update(content.view(torch.uint8).numpy().data)


def _plain_attributes(module: torch.nn.Module) -> list[tuple[str, str]]:
    if type(module).__module__.startswith("torch._dynamo"):
        return []  # what is compiled is within; the wrapper has addresses of memory
    settings = {
        name: len(value) if name.endswith("_hooks") else value
        for name, value in vars(module).items()
        if name not in NO_SETTINGS
    }
    if isinstance(module, torch.jit.ScriptModule):
        settings["code"] = getattr(module, "code", "")  # its class is that of all
    return _plain_items(settings)


def _plain_items(settings: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((name, _plain(value)) for name, value in settings.items())


def _plain(value: Any) -> str:
    """A setting as text that is the same wherever the net is."""
    if isinstance(value, bool | int | float | str | bytes | torch.dtype | None):
        return repr(value)
    if isinstance(value, dict):
        return str({str(key): _plain(each) for key, each in value.items()})
    if isinstance(value, list | tuple):
        return str([_plain(each) for each in value])
    if isinstance(value, set | frozenset):
        return str(sorted(_plain(each) for each in value))
    if isinstance(value, types.MethodType):
        return _plain(value.__func__)
    name = str(getattr(value, "__qualname__", type(value).__qualname__))
    return name if _is_told_by_name(value, name) else _described(value, name)


def _is_told_by_name(value: Any, name: str) -> bool:
    """Modules are met elsewhere, and what torch keeps in them depends on the machine."""
    if isinstance(value, types.FunctionType):
        return "<" not in name  # not a lambda, nor made by a function
    if isinstance(value, torch.Tensor):
        return False
    is_torch = type(value).__module__.partition(".")[0] == "torch"
    return is_torch or isinstance(value, type | torch.nn.Module | types.BuiltinFunctionType)


def _described(value: Any, name: str) -> str:
    try:
        return describe_plain("setting", value)
    except (RuntimeError, ValueError):  # a lock, say, or a tensor that is not dense
        return name
