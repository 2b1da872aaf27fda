"""Parts of a skorch net on which votes depend."""

import types
from collections import OrderedDict
from functools import partial
from inspect import signature
from typing import Any

import torch
from skorch import NeuralNet, NeuralNetClassifier

#: Attributes of a module that are not settings: its parts, its mode, and torch's own.
NO_SETTINGS = {name for name in vars(torch.nn.Module()) if not name.endswith("_hooks")}
#: Attributes of a net that are skorch's or this library's, and change no vote.
_WITHOUT_EFFECT = {
    *signature(NeuralNet).parameters, *signature(NeuralNetClassifier).parameters,
    "_modules", "_criteria", "_optimizers", "_params_to_validate", "callbacks_",
    "classes_inferred_", "cuda_dependent_attributes_", "history_", "init_context_",
    "initialized_", "prefixes_", "smoothing_", "trained_under_", "virtual_params_",
}  # fmt: skip
#: Kinds of objects that may hold modules that torch does not know.
_MAY_HOLD = (
    torch.nn.Module, dict, list, tuple, set, frozenset, types.MethodType, partial,
)  # fmt: skip


def roots(net: Any) -> list[torch.nn.Module]:
    """Modules of a skorch net, which may have more than one."""
    return [getattr(net, f"{name}_") for name in net._modules]


def own_state(net: Any) -> dict[str, Any]:
    """State of a net besides skorch's own: of its class, of its user, or of its fit.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    Returns
    -------
    state : dict
        Attributes by name, on which votes may depend.
    """
    parts = {f"{name}_" for name in (*net._modules, *net._criteria, *net._optimizers)}
    of_parts = tuple(f"{prefix}__" for prefix in net.prefixes_)
    state = {
        name: value
        for name, value in sorted(vars(net).items())
        if name not in _WITHOUT_EFFECT | parts and not name.startswith(of_parts)
    }
    if callable(getattr(net, "predict_nonlinearity", None)):
        state["predict_nonlinearity"] = net.predict_nonlinearity
    return state


def all_modules(net: Any) -> list[torch.nn.Module]:
    """Modules of a net, also those that lists, attributes and methods hide from torch."""
    return modules_in([*roots(net), own_state(net), learned_criteria(net)])


def hidden_modules(net: Any) -> list[torch.nn.Module]:
    """Modules that a net may call, though neither it nor its modules register them.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    Returns
    -------
    modules : list of torch.nn.Module
        torch does not train, save or move them, nor does it change their mode.
    """
    parts = (*roots(net), *learned_criteria(net).values())
    known = {id(module) for part in parts for module in part.modules()}
    return [module for module in all_modules(net) if id(module) not in known]


def learned_criteria(net: Any) -> dict[str, torch.nn.Module]:
    """Criteria of a net that have weights, which its own `infer` may use.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    Returns
    -------
    criteria : dict of torch.nn.Module
        By name.
    """
    criteria = {name: getattr(net, f"{name}_") for name in net._criteria}
    return {
        name: each
        for name, each in criteria.items()
        if isinstance(each, torch.nn.Module) and each.state_dict()
    }


def modules_in(thing: Any) -> list[torch.nn.Module]:
    """Modules that an object refers to, each once, always in the same order."""
    modules, waiting = [], [thing]
    met: dict[int, Any] = {}  # with the objects, so that no id returns
    while waiting:
        each = waiting.pop()
        if id(each) in met:
            continue
        met[id(each)] = each
        if isinstance(each, torch.nn.Module):
            modules.append(each)
        inner = [part for part in _referred(each) if isinstance(part, _MAY_HOLD)]
        waiting.extend(reversed(inner))
    return modules


def _referred(holder: Any) -> list[Any]:
    if isinstance(holder, torch.nn.Module):
        own = (each for name, each in vars(holder).items() if name not in NO_SETTINGS)
        # A module has a dozen kinds of hooks, and mostly no hook.
        filled = (each for each in own if type(each) is not OrderedDict or each)
        return [*holder.children(), *filled]
    if isinstance(holder, dict):
        return list(holder.values())
    if isinstance(holder, types.MethodType):
        return [holder.__self__]
    if isinstance(holder, partial):
        return [holder.func, *holder.args, *holder.keywords.values()]
    return list(holder)
