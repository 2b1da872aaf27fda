"""Published state dicts as arguments and state of `make_network`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import ArrayLike

from rs4a.networks.dataset_shapes import dataset_shape
from rs4a.persistence.files import State

__all__ = ["recognise"]

#: What DataParallel and torch.compile put before the names of a module.
_WRAPPERS = r"(?<![^.])(module|_orig_mod)\."
#: Names in the files of Yang et al. (`norm`, `model`) and of Cohen et al. (`0`, `1`), and
#: the names in `make_network`.
_RENAMES = (
    (r"^norm\.mu$", "norm.mean"),
    (r"^norm\.log_sig$", "norm.std"),
    (r"^0\.means$", "norm.mean"),
    (r"^0\.sds$", "norm.std"),
    (r"^1\.", "model."),
    (r"^model\.linear\.", "model.fc."),
    (r"^model\.(\d+)\.", r"model.layers.\1."),
    (r"^model\.(weight|bias)$", r"model.layer.\1"),
)


def recognise(
    tensors: State, arch: str | None, asked: dict[str, Any]
) -> tuple[dict[str, Any], State]:
    """Tell network and sizes from the names and shapes of published weights.

    Parameters
    ----------
    tensors : dict of str to torch.Tensor
        State dict, as it was published.

    arch : str or None
        Network, as a file of Cohen et al. names it. Only such files may lack the statistics
        of standardisation: theirs are the usual ones.

    asked : dict
        Arguments of `make_network` that are not read from the weights. With a `name` of
        another network than the weights suggest, the weights give no options.

    Returns
    -------
    arguments : dict
        Arguments of `make_network`.

    state : dict of str to torch.Tensor
        State dict in the names of `make_network`; it may not fit.

    Raises
    ------
    ValueError
        If the names fit no network, the shapes do not tell the sizes, or statistics are
        missing.
    """
    state = _renamed(tensors)
    options, last_weight, image_shape = _found(state)
    dataset = asked.get("dataset")
    usual = dataset_shape(
        dataset or ("imagenet" if options["name"] == "ResNet50" else "cifar10")
    )
    first_parts = {name.split(".")[0] for name in _without_wrappers(tensors)}
    if "1" in first_parts and "0" not in first_parts:  # Cohen et al.'s, by an attribute
        if arch is None and dataset is None:
            raise ValueError(
                "it has no mean and std to standardise inputs by, and does not say for "
                "what data it is. Give dataset=, whose mean and std are taken."
            )
        state["norm.mean"], state["norm.std"] = map(_per_channel, (usual.mean, usual.std))
    name = asked.get("name", options["name"])
    sizes = {key: asked.get(key) for key in ("input_shape", "n_classes")}
    if dataset is None and sizes["input_shape"] is None:
        if image_shape is None:
            raise ValueError(
                f"height and width of the images of a {name} cannot be told from its "
                "weights. Give input_shape= or dataset=."
            )
        sizes["input_shape"] = image_shape
    if dataset is None and sizes["n_classes"] is None:
        sizes["n_classes"] = _length(state, last_weight, axis=0)
    shape = dataset_shape(
        dataset,
        **sizes,
        mean=_channel_values(state, "norm.mean", usual.mean),
        std=_channel_values(state, "norm.std", usual.std),
    )
    told = options if name == options["name"] else {}
    return {**told, "dataset": dataset, **asked, "name": name, **shape._asdict()}, state


def _without_wrappers(names: Any) -> list[str]:
    return [re.sub(_WRAPPERS, "", name) for name in names]


def _renamed(tensors: State) -> State:
    """State in the names of `make_network`, with the statistics in its form."""
    state: State = {}
    names = _without_wrappers(tensors)
    firsts = {name.split(".")[0] for name in names}
    # The names of a network may stand beside `norm` without `model`.
    inner = "model." if "norm" in firsts and not firsts & {"model", "0", "1"} else ""
    for name, (published, value) in zip(names, tensors.items(), strict=True):
        name = name if name.startswith("norm.") else inner + name
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        if name in state:
            raise ValueError(f"it has two entries for {name}, one of them {published}.")
        if published.endswith(".log_sig"):
            value = value.exp()
        elif published.endswith((".means", ".sds")) and value.ndim == 1:
            value = _per_channel(value)
        state[name] = value
    if any(name.startswith(("model.conv2.", "model.layers.")) for name in state):
        # LeNet and MLP can standardise themselves, but published nets did so outside.
        state.setdefault("model.mean", torch.tensor(0.0))
        state.setdefault("model.std", torch.tensor(1.0))
    return state


def _per_channel(values: ArrayLike) -> torch.Tensor:
    return torch.as_tensor(values).reshape(-1, 1, 1)


def _channel_values(state: State, name: str, default: ArrayLike) -> ArrayLike:
    if name not in state:
        return default
    shape = tuple(state[name].shape)
    if len(shape) != 3 or shape[1:] != (1, 1):
        raise ValueError(f"{name} must have shape (channels, 1, 1), got {shape}.")
    return tuple(state[name].flatten().tolist())


# Networks

#: Name and options of a network, its last weight, and the shape of an image, if known.
_Found = tuple[dict[str, Any], str, tuple[int, ...] | None]


def _found(state: State) -> _Found:
    n_channels = _length(state, "norm.mean", axis=0) if "norm.mean" in state else 3
    for mark, read in _READERS.items():
        if any(name.startswith(mark) for name in state):
            return read(state, n_channels)
    raise ValueError(
        f"its names, {list(state)[:3]} and so on, are those of no network that was "
        "published."
    )


def _alexnet(state: State, n_channels: int) -> _Found:
    return {"name": "AlexNet"}, "model.classifier.6.weight", (n_channels, 32, 32)


def _wide_resnet(state: State, n_channels: int) -> _Found:
    options = {
        "name": "WideResNet",
        "depth": 6 * _n_children(state, "model.block1.layer.") + 4,
        "widen_factor": _length(state, "model.fc.weight", axis=1) // 64,
    }
    return options, "model.fc.weight", _small_image(n_channels)


def _resnet50(state: State, n_channels: int) -> _Found:
    return {"name": "ResNet50"}, "model.fc.weight", (n_channels, 224, 224)


def _cifar_resnet(state: State, n_channels: int) -> _Found:
    convolve = any(".downsample." in name for name in state)
    depth = 6 * _n_children(state, "model.layer1.") + 2
    options: dict[str, Any] = {"shortcut": "convolution" if convolve else "pad"}
    options |= (
        {"name": "ResNet110"} if depth == 110 else {"name": "CifarResNet", "depth": depth}
    )
    return options, "model.fc.weight", _small_image(n_channels)


def _lenet(state: State, n_channels: int) -> _Found:
    pooled = _square_root(_length(state, "model.fc1.weight", axis=1) / 16)
    side = None if pooled is None else 4 * pooled + 8  # before convolutions and pools
    return {"name": "LeNet"}, "model.fc3.weight", _square_image(n_channels, side)


def _mlp(state: State, n_channels: int) -> _Found:
    n_layers = _n_children(state, "model.layers.")
    *weights, last = [f"model.layers.{2 * i}.weight" for i in range(n_layers)]
    hidden = tuple(_length(state, weight, axis=0) for weight in weights)
    first = "model.layers.0.weight"
    return {"name": "MLP", "hidden": hidden}, last, _dense_image(state, first, n_channels)


def _linear(state: State, n_channels: int) -> _Found:
    weight = "model.layer.weight"
    return {"name": "Linear"}, weight, _dense_image(state, weight, n_channels)


#: By the first names of a network; no later network has them.
_READERS: dict[str, Callable[[State, int], _Found]] = {
    "model.features.": _alexnet,
    "model.block1.": _wide_resnet,
    "model.layer4.": _resnet50,
    "model.layer1.": _cifar_resnet,
    "model.conv2.": _lenet,
    "model.layers.": _mlp,
    "model.layer.": _linear,
}


# Sizes


def _length(state: State, name: str, axis: int) -> int:
    if name not in state:
        raise ValueError(f"{name} is missing.")
    shape = tuple(state[name].shape)
    if len(shape) <= axis:
        raise ValueError(f"{name} must have more than {axis} axes, got shape {shape}.")
    return shape[axis]


def _n_children(state: State, prefix: str) -> int:
    """Number of layers of a Sequential."""
    return len(
        {n.removeprefix(prefix).split(".")[0] for n in state if n.startswith(prefix)}
    )


def _small_image(n_channels: int) -> tuple[int, ...]:
    """Shape as in MNIST or in CIFAR-10, for networks that take images of any size."""
    return (1, 28, 28) if n_channels == 1 else (n_channels, 32, 32)


def _dense_image(state: State, weight: str, n_channels: int) -> tuple[int, ...] | None:
    side = _square_root(_length(state, weight, axis=1) / n_channels)
    return _square_image(n_channels, side)


def _square_image(n_channels: int, side: int | None) -> tuple[int, ...] | None:
    return None if side is None else (n_channels, side, side)


def _square_root(square: float) -> int | None:
    root = math.isqrt(int(square))
    return root if root**2 == square else None
