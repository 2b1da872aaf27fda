"""Skorch nets for files: how they were made, and what they learned."""

from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.history import History
from torch.nn.parameter import is_lazy

from rs4a.nets.fingerprint import fingerprint, noise_of_training
from rs4a.persistence.files import State
from rs4a.persistence.values import JsonReader, JsonWriter, in_words, unknown_names

#: Parameters, besides those of modules and criteria, on which outputs depend.
_OF_OUTPUTS = ("class", "classes", "compile", "predict_nonlinearity")


# How a net was made


def describe(net: NeuralNet, writer: JsonWriter) -> dict[str, Any]:
    """Class and parameters of a net, as JSON can hold them."""
    params = {
        name: writer.write(value)
        for name, value in net.get_params(deep=False).items()
        if not name.startswith("_")
    }
    device = None if net.device is None else str(net.device)
    return {"class": writer.write(type(net)), **params, "device": device}


def needed(description: dict[str, Any]) -> list[str]:
    """Parameters that the file alone does not give, each with the name of its class."""
    return [
        f"{name}={unknown}"
        for name, stored in description.items()
        for unknown in unknown_names(stored)[:1]
    ]


def build(description: dict[str, Any], reader: JsonReader) -> NeuralNet:
    """Net without weights, from its description alone."""
    if names := needed(description):
        raise ValueError(
            "The file names parts of the net that it cannot hold, "
            f"{', '.join(names)}: give load the net that the classifier was made with, as "
            "estimator=."
        )
    params = {name: reader.read(stored) for name, stored in description.items()}
    return params.pop("class")(**params)


def check(net: NeuralNet, description: dict[str, Any], parts: list[str]) -> None:
    """Refuse a net with other outputs than the described net. The training may differ."""
    given = describe(net, JsonWriter())
    prefixes = tuple(f"{part}__" for part in parts)
    for name in sorted({*given, *description}):
        decides = name in (*_OF_OUTPUTS, *parts) or name.startswith(prefixes)
        if decides and given.get(name) != description.get(name):
            raise ValueError(
                f"estimator must be the net that the file states, with {name}="
                f"{in_words(description.get(name)):.200}, got {name}="
                f"{in_words(given.get(name)):.200}."
            )


def device_of(stated: str | None, device: str | torch.device | None) -> str | None:
    """Device that the user asks for; else the stated device, or the CPU if it lacks."""
    try:
        torch.empty(0, device=stated if device is None else device)
    except (AssertionError, RuntimeError) as error:
        if device is None:
            return "cpu"
        raise ValueError(
            f"device must be one that this machine has, got {device!r}."
        ) from error
    return stated if device is None else str(device)


# What it learned


def state_of(net: NeuralNet, writer: JsonWriter) -> dict[str, Any]:
    """State of a net besides parameters and weights, as JSON can hold it."""
    return {
        "parts": [name for name, _ in _parts(net)],
        "fixed": {
            name: [key for key, each in part.named_parameters() if not each.requires_grad]
            for name, part in _parts(net)
        },
        "history": [_write_epoch(epoch, writer) for epoch in net.history],
        "labels": writer.write(getattr(net, "classes_inferred_", None)),
        "trained_under": writer.write(noise_of_training(net)),
        "net_digest": fingerprint(net),
    }


def _write_epoch(epoch: dict[str, Any], writer: JsonWriter) -> dict[str, Any]:
    """Numbers of an epoch; the numbers of its batches would be most of the file."""
    stored = {
        name: writer.write(value.item() if isinstance(value, np.generic) else value)
        for name, value in epoch.items()
    }
    known = {name: value for name, value in stored.items() if not unknown_names(value)}
    return {**known, "batches": []}


def weights_of(net: NeuralNet) -> State:
    """Parameters and buffers of a net's modules and criteria, by name."""
    weights = {
        f"{name}/{key}": each
        for name, part in _parts(net)
        for key, each in (*part.state_dict().items(), *part.named_buffers())
    }
    for name, each in weights.items():
        if not isinstance(each, torch.Tensor) or each.layout != torch.strided:
            raise TypeError(
                f"The net's {name} cannot be saved: only dense tensors can, got "
                f"{type(each).__name__}."
            )
    return weights


def restore(
    net: NeuralNet, state: dict[str, Any], tensors: State, reader: JsonReader
) -> None:
    """Initialise a net, and give it the weights and the state that were saved.

    Raises
    ------
    ValueError
        If the result is not the net that was saved.
    """
    with torch.random.fork_rng(devices=[]):
        net.initialize()
    if (parts := [name for name, _ in _parts(net)]) != state["parts"]:
        raise ValueError(f"the net must have the parts {state['parts']}, got {parts}.")
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


def _load_weights(part: torch.nn.Module, weights: State) -> None:
    buffers = dict(part.named_buffers())
    for name, each in (*part.named_parameters(), *buffers.items()):
        if is_lazy(each):
            raise ValueError(
                f"{name} is of a lazy layer, whose size only inputs give: make the net "
                "with the layer that has a size, as Linear for LazyLinear."
            )
        each.data = each.data.to(weights[name].dtype)
    # A non-persistent buffer is no part of a state dict, but outputs depend on it.
    beside = buffers.keys() - part.state_dict().keys()
    part.load_state_dict({k: v for k, v in weights.items() if k not in beside})
    for name in beside:
        buffers[name].copy_(weights[name])


def _parts(net: NeuralNet) -> list[tuple[str, torch.nn.Module]]:
    """Modules and criteria; a criterion may also be a function."""
    parts = [(name, getattr(net, f"{name}_")) for name in (*net._modules, *net._criteria)]
    return [(name, part) for name, part in parts if isinstance(part, torch.nn.Module)]
