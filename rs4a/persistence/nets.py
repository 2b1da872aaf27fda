"""Skorch nets for files: how they were made, and what they learned."""

from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.history import History
from torch.nn.parameter import is_lazy

from rs4a.nets.fingerprint import fingerprint, noise_of_training
from rs4a.persistence.tensors import State
from rs4a.persistence.values import (
    JsonReader,
    JsonWriter,
    in_words,
    unknown_names,
)

__all__ = [
    "available_device",
    "build_net",
    "check_agrees",
    "describe_net",
    "needed_of_net",
    "restore_net",
    "state_of_net",
    "weights_of_net",
]

#: Parameters, besides those of modules and criteria, that say what outputs are.
_OF_OUTPUTS = ("class", "classes", "compile", "predict_nonlinearity")


# How a net was made


def describe_net(net: NeuralNet, writer: JsonWriter) -> dict[str, Any]:
    """Class and parameters of a net, plain."""
    params = {
        name: value
        for name, value in net.get_params(deep=False).items()
        if not name.startswith("_")
    }
    device = None if net.device is None else str(net.device)
    plain = {name: writer.write(value) for name, value in params.items()}
    return {"class": writer.write(type(net)), **plain, "device": device}


def needed_of_net(description: dict[str, Any]) -> list[str]:
    """Parameters that the file alone does not give, each with the name of its class."""
    return [
        f"{name}={unknown}"
        for name, plain in description.items()
        for unknown in unknown_names(plain)[:1]
    ]


def build_net(description: dict[str, Any], reader: JsonReader) -> NeuralNet:
    """Net without weights, from its description alone."""
    params = {name: reader.read(plain) for name, plain in description.items()}
    return params.pop("class")(**params)


def check_agrees(
    net: NeuralNet, description: dict[str, Any], parts: list[str], writer: JsonWriter
) -> None:
    """Refuse a net that computes something else than the one that was described.

    How it trains may differ.
    """
    given = describe_net(net, writer)
    prefixes = tuple(f"{part}__" for part in parts)
    for name in sorted({*given, *description}):
        decides = name in (*_OF_OUTPUTS, *parts) or name.startswith(prefixes)
        if decides and given.get(name) != description.get(name):
            raise ValueError(
                f"estimator must be the net that the file states, with {name}="
                f"{in_words(description.get(name)):.200}, got {name}="
                f"{in_words(given.get(name)):.200}."
            )


def available_device(stated: str | None, device: str | torch.device | None) -> str | None:
    """Device that was asked for; or else the stated one, and the CPU where it lacks."""
    if device is None:
        return stated if stated is None or _exists(stated) else "cpu"
    if not _exists(device):
        raise ValueError(f"device must be one that this machine has, got {device!r}.")
    return str(device)


def _exists(device: str | torch.device) -> bool:
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError):
        return False
    return True


# What it learned


def state_of_net(net: NeuralNet, writer: JsonWriter) -> dict[str, Any]:
    """What a net knows besides parameters and weights, plain."""
    return {
        "parts": [name for name, _ in _parts(net)],
        "fixed": {
            name: [key for key, each in part.named_parameters() if not each.requires_grad]
            for name, part in _parts(net)
        },
        "history": [_plain_epoch(epoch, writer) for epoch in net.history],
        "labels": writer.write(getattr(net, "classes_inferred_", None)),
        "trained_under": writer.write(noise_of_training(net)),
        "net_digest": fingerprint(net),
    }


def _plain_epoch(epoch: dict[str, Any], writer: JsonWriter) -> dict[str, Any]:
    """An epoch's numbers; those of its batches would be most of the file."""
    plain = {
        name: writer.write(value.item() if isinstance(value, np.generic) else value)
        for name, value in epoch.items()
    }
    known = {name: value for name, value in plain.items() if not unknown_names(value)}
    return {**known, "batches": []}


def weights_of_net(net: NeuralNet) -> State:
    """Parameters and buffers of a net's modules and criteria, by name."""
    return {
        f"{name}/{key}": _checked_weight(f"{name}_.{key}", each)
        for name, part in _parts(net)
        for key, each in (*part.state_dict().items(), *part.named_buffers())
    }


def _checked_weight(name: str, value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor) and value.layout == torch.strided:
        return value
    raise TypeError(
        f"The net's {name} cannot be saved: only dense tensors can, got "
        f"{type(value).__name__}."
    )


def restore_net(
    net: NeuralNet, state: dict[str, Any], tensors: State, reader: JsonReader
) -> None:
    """Initialise a net, and give it the weights and the state that were saved.

    Raises
    ------
    ValueError
        If it then is not the net that was saved.
    """
    with torch.random.fork_rng(devices=[]):
        net.initialize()
    if (parts := [name for name, _ in _parts(net)]) != state["parts"]:
        raise ValueError(f"the net must have the parts {state['parts']}, got {parts}.")
    _check_sizes(net)
    for name, part in _parts(net):
        prefix = f"{name}/"
        weights = {
            key.removeprefix(prefix): each
            for key, each in tensors.items()
            if key.startswith(prefix)
        }
        _load_weights(part, weights)
        for key, each in part.named_parameters():
            each.requires_grad_(key not in state["fixed"][name])
    net.history = History(
        {name: reader.read(value) for name, value in epoch.items()}
        for epoch in state["history"]
    )
    if state["labels"] is not None:
        net.classes_inferred_ = reader.read(state["labels"])
    # Files of 0.1.0 have a fingerprint of another kind.
    if state.get("net_digest") not in (None, fingerprint(net)):
        raise ValueError(
            "the net that was built has the weights of the saved one, but other layers or "
            "settings: its classes have changed, or attributes of its modules were set "
            "that their parameters do not say."
        )


def _check_sizes(net: NeuralNet) -> None:
    for name, part in _parts(net):
        lazy = [key for key, each in part.named_parameters() if is_lazy(each)]
        lazy += [key for key, each in part.named_buffers() if is_lazy(each)]
        if lazy:
            raise ValueError(
                f"{name}_.{lazy[0]} is of a lazy layer, whose size only inputs give: make "
                "the net with the layer that has a size, as Linear for LazyLinear."
            )


def _load_weights(part: torch.nn.Module, weights: State) -> None:
    buffers = dict(part.named_buffers())
    persistent = part.state_dict().keys()
    for name, each in (*part.named_parameters(), *buffers.items()):
        each.data = each.data.to(weights[name].dtype)
    # Non-persistent buffers are no part of a state dict, but of what is computed.
    beside = buffers.keys() - persistent
    part.load_state_dict({k: v for k, v in weights.items() if k not in beside})
    for name in beside:
        buffers[name].copy_(weights[name])


def _parts(net: NeuralNet) -> list[tuple[str, torch.nn.Module]]:
    """Modules and criteria; a criterion may also be a function."""
    parts = [(name, getattr(net, f"{name}_")) for name in (*net._modules, *net._criteria)]
    return [(name, part) for name, part in parts if isinstance(part, torch.nn.Module)]
