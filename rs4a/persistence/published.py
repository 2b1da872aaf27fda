"""Published state dicts as arguments and state of `make_network`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike

from rs4a.networks.dataset_shapes import dataset_shape
from rs4a.persistence.tensors import State

__all__ = ["recognise"]

#: What DataParallel and torch.compile put before the names of a module.
_WRAPPERS = r"(?<![^.])(module|_orig_mod)\."
#: Names in the files of Yang et al. (`norm`, `model`) and of Cohen et al. (`0`, `1`), both
#: with or without the `module` of a DataParallel and the `_orig_mod` of torch.compile, and
#: what they are in `make_network`.
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
    tensors: State,
    *,
    name: str | None = None,
    dataset: str | None = None,
    input_shape: Sequence[int] | None = None,
    n_classes: int | None = None,
    arch: str | None = None,
) -> tuple[dict[str, Any], State]:
    """Tell network and sizes from the names and shapes of published weights.

    Parameters
    ----------
    tensors : dict of str to torch.Tensor
        State dict, as it was published.

    name, dataset, input_shape, n_classes : default=None
        Arguments of `make_network`. What is given is not read from the weights; with a
        `name` that is not what they look like, neither are its options.

    arch : str, default=None
        Network, as a file of Cohen et al. names it. Such files are known to lack the
        statistics of standardisation only where they are the usual ones.

    Returns
    -------
    arguments : dict
        Arguments of `make_network`.

    state : dict of str to torch.Tensor
        State dict in its names; not yet known to fit.

    Raises
    ------
    ValueError
        If the names are those of no network, sizes cannot be told from the shapes, or
        statistics are missing.
    """
    state = _renamed(tensors)
    found = _found(state)
    if name is not None and name != found.name:
        found = found._replace(name=name, options={})
    usual = dataset_shape(dataset or _usual_dataset(found))
    if _lacks_statistics(tensors):
        if arch is None and dataset is None:
            raise ValueError(
                "it has no mean and std to standardise inputs by, and does not say for "
                "what data it is. Give dataset=, whose mean and std are taken."
            )
        state["norm.mean"] = _per_channel(usual.mean)
        state["norm.std"] = _per_channel(usual.std)
    if dataset is None and input_shape is None:
        input_shape = _known_image_shape(found)
    if dataset is None and n_classes is None:
        n_classes = _length(state, found.last_weight, axis=0)
    shape = dataset_shape(
        dataset,
        input_shape=input_shape,
        n_classes=n_classes,
        mean=_channel_values(state, "norm.mean", usual.mean),
        std=_channel_values(state, "norm.std", usual.std),
    )
    arguments = {"name": found.name, "dataset": dataset, **shape._asdict()}
    return {**arguments, **found.options}, state


# Names and statistics


def _renamed(tensors: State) -> State:
    """State in the names of `make_network`, with the statistics as it keeps them."""
    state: State = {}
    inner = _inner_prefix(tensors)
    for published, value in tensors.items():
        name = re.sub(_WRAPPERS, "", published)
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
    return state


def _inner_prefix(tensors: State) -> str:
    """What the names of a network lack that stand beside `norm` without `model`."""
    names = [re.sub(_WRAPPERS, "", name) for name in tensors]
    firsts = {name.split(".")[0] for name in names}
    return "model." if "norm" in firsts and not firsts & {"model", "0", "1"} else ""


def _lacks_statistics(tensors: State) -> bool:
    """Whether they were plain attributes, outside the state, as in Cohen et al.'s files."""
    first_parts = {re.sub(_WRAPPERS, "", name).split(".")[0] for name in tensors}
    return "1" in first_parts and "0" not in first_parts


def _usual_dataset(found: _Found) -> str:
    return "imagenet" if found.name == "ResNet50" else "cifar10"


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


class _Found(NamedTuple):
    """What the names and shapes of weights tell."""

    name: str
    options: dict[str, Any]
    last_weight: str
    image_shape: tuple[int, ...] | None  # None: it cannot be told


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
    return _Found("AlexNet", {}, "model.classifier.6.weight", (n_channels, 32, 32))


def _wide_resnet(state: State, n_channels: int) -> _Found:
    options = {
        "depth": 6 * _n_children(state, "model.block1.layer.") + 4,
        "widen_factor": _length(state, "model.fc.weight", axis=1) // 64,
    }
    return _Found("WideResNet", options, "model.fc.weight", _small_image(n_channels))


def _resnet50(state: State, n_channels: int) -> _Found:
    return _Found("ResNet50", {}, "model.fc.weight", (n_channels, 224, 224))


def _cifar_resnet(state: State, n_channels: int) -> _Found:
    convolve = any(".downsample." in name for name in state)
    options: dict[str, Any] = {"shortcut": "convolution" if convolve else "pad"}
    depth = 6 * _n_children(state, "model.layer1.") + 2
    name = "ResNet110" if depth == 110 else "CifarResNet"
    if name == "CifarResNet":
        options["depth"] = depth
    return _Found(name, options, "model.fc.weight", _small_image(n_channels))


def _lenet(state: State, n_channels: int) -> _Found:
    # Published nets keep standardisation outside; here they can do it themselves too.
    _add_no_standardisation(state)
    pooled = _root(_length(state, "model.fc1.weight", axis=1) / 16)
    side = None if pooled is None else 4 * pooled + 8  # both convolutions and pools undone
    shape = None if side is None else (n_channels, side, side)
    return _Found("LeNet", {}, "model.fc3.weight", shape)


def _mlp(state: State, n_channels: int) -> _Found:
    _add_no_standardisation(state)
    n_layers = _n_children(state, "model.layers.")
    weights = [f"model.layers.{2 * i}.weight" for i in range(n_layers)]
    hidden = tuple(_length(state, weight, axis=0) for weight in weights[:-1])
    shape = _dense_image(state, weights[0], n_channels)
    return _Found("MLP", {"hidden": hidden}, weights[-1], shape)


def _linear(state: State, n_channels: int) -> _Found:
    weight = "model.layer.weight"
    return _Found("Linear", {}, weight, _dense_image(state, weight, n_channels))


#: How the names begin that only one network has, of those that come behind it.
_READERS: dict[str, Callable[[State, int], _Found]] = {
    "model.features.": _alexnet,
    "model.block1.": _wide_resnet,
    "model.layer4.": _resnet50,
    "model.layer1.": _cifar_resnet,
    "model.conv2.": _lenet,
    "model.layers.": _mlp,
    "model.layer.": _linear,
}


def _add_no_standardisation(state: State) -> None:
    state.setdefault("model.mean", torch.tensor(0.0))
    state.setdefault("model.std", torch.tensor(1.0))


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
    """As in MNIST or in CIFAR-10; the nets that this is for take images of any size."""
    return (1, 28, 28) if n_channels == 1 else (n_channels, 32, 32)


def _dense_image(state: State, weight: str, n_channels: int) -> tuple[int, ...] | None:
    side = _root(_length(state, weight, axis=1) / n_channels)
    return None if side is None else (n_channels, side, side)


def _root(square: float) -> int | None:
    root = math.isqrt(int(square))
    return root if root**2 == square else None


def _known_image_shape(found: _Found) -> tuple[int, ...]:
    if found.image_shape is None:
        raise ValueError(
            f"height and width of the images of a {found.name} cannot be told from its "
            "weights. Give input_shape= or dataset=."
        )
    return found.image_shape
