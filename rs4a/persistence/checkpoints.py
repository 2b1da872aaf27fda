"""Trained networks in files, as nets and as classifiers."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from skorch import NeuralNetClassifier
from torch import nn

from rs4a.nets.fingerprint import remember_noise
from rs4a.networks import make_network, parse_checkpoint_name
from rs4a.networks.dataset_shapes import DatasetShape, dataset_shape
from rs4a.noises import Noise
from rs4a.noises.by_name import known_noises, make_noise
from rs4a.persistence.files import State, read_weights
from rs4a.utils.params import from_json

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
#: By the first names of a network, which no later network has: its name and last weight.
_NETWORKS = {
    "model.features.": ("AlexNet", "model.classifier.6.weight"),
    "model.block1.": ("WideResNet", "model.fc.weight"),
    "model.layer4.": ("ResNet50", "model.fc.weight"),
    "model.layer1.": ("CifarResNet", "model.fc.weight"),
    "model.conv2.": ("LeNet", "model.fc3.weight"),
    "model.layers.": ("MLP", ""),
    "model.layer.": ("Linear", "model.layer.weight"),
}


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    dataset: str | None = None,
    input_shape: Sequence[int] | None = None,
    n_classes: int | None = None,
    device: str = "cpu",
    **options: Any,
) -> NeuralNetClassifier:
    """Read a trained network as a skorch net.

    The function reads files that Yang et al. [2]_, Cohen et al. [1]_ and others in the same
    layout published, files that ``save_params`` of skorch writes of a net of
    `make_network`, and files of ``save_checkpoint`` in version 0.1.0. The names and shapes
    of the weights tell the network and its sizes, and all of them must fit. No code from
    the file is run.

    Parameters
    ----------
    path : str or path-like
        File of torch or of safetensors.

    name : str, default=None
        One of `NETWORKS`. None: the weights tell the network.

    dataset : str, default=None
        Data set, as in `make_network`. It gives the shape of inputs, the number of classes,
        and the statistics if the file has none. None: the weights tell them; only files of
        Cohen et al. may then lack the statistics, which are those of CIFAR-10 or ImageNet.

    input_shape : sequence of int, default=None
        Shape of one input. None: the weights tell the shape; if the network takes images of
        any size, the usual size.

    n_classes : int, default=None
        Number of outputs. None: the weights tell the number.

    device : str, default="cpu"
        Device of the net.

    **options
        Further parameters of the network. None given: the weights tell the parameters.

    Returns
    -------
    net : skorch.NeuralNetClassifier
        Initialised, with the weights of the file in float32. Its module is `make_network`,
        its classes are 0, 1, ..., or the classes that a file of version 0.1.0 states.

    Raises
    ------
    ValueError
        If the file is not a whole checkpoint, or its weights are not finite, or do not fit
        the network.

    References
    ----------
    .. [1] Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized
       Smoothing", ICML 2019, arXiv:1902.02918.
    .. [2] Yang, Duan, Hu, Salman, Razenshteyn, Li, "Randomized Smoothing of All Shapes and
       Sizes", ICML 2020, arXiv:2002.08118.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import torch
    >>> from rs4a.networks import LeNet
    >>> from rs4a.persistence import load_checkpoint
    >>> weights = LeNet().state_dict()  # trained elsewhere
    >>> state = {
    ...     f"model.{name}": value for name, value in weights.items()
    ...     if name not in ("mean", "std")}
    >>> state["norm.mu"] = torch.full((1, 1, 1), 0.1307)
    >>> state["norm.log_sig"] = torch.full((1, 1, 1), 0.3081).log()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "mnist_uniform_050.pt")
    ...     torch.save(state, path)
    ...     net = load_checkpoint(path)
    >>> net.module__name, net.module__input_shape
    ('LeNet', (1, 28, 28))
    """
    sizes = {"input_shape": input_shape, "n_classes": n_classes}
    return _load(Path(path), device, name=name, dataset=dataset, **sizes, **options)[0]


def net_from_checkpoint(
    path: str | os.PathLike[str],
    noise: Noise | None,
    network: Mapping[str, Any] | None,
    device: str,
) -> tuple[NeuralNetClassifier, Noise, tuple[int, ...]]:
    """Trained net in a file, its noise, and the shape of its inputs.

    Parameters are those of :meth:`rs4a.SmoothedClassifier.from_checkpoint`.
    """
    path = Path(path)
    net, stated = _load(path, device, **(network or {}))
    described = stated.get("noise")
    if isinstance(described, dict) and described.get("class") == "Splitting":
        remember_noise(net, from_json(described, known_noises()))
    if noise is None and isinstance(described, dict):
        noise = from_json(described, known_noises())
    elif noise is None and described is not None:
        noise = make_noise(str(described), sigma=stated.get("sigma"))
    elif noise is None:
        _, name, sigma = parse_checkpoint_name(path.absolute())
        noise = make_noise(name, sigma=sigma)
    return net, noise, _shape(net.get_params_for("module")).input_shape


def _load(
    path: Path, device: str, **asked: Any
) -> tuple[NeuralNetClassifier, dict[str, Any]]:
    """Net in a file, and the metadata that version 0.1.0 wrote."""
    if {"mean", "std"} & set(asked):
        raise ValueError("mean and std are read from the file, or from dataset=.")
    tensors, header, arch = read_weights(path)
    asked = {name: value for name, value in asked.items() if value is not None}
    try:
        if header is None:
            arguments, state = _recognise(tensors, arch, asked)
        else:
            arguments, state = {**header["network"], **asked}, tensors
        _check_fits(arguments, state)
        n_outputs = _shape(arguments).n_classes
        labels = header["classes"] if header else list(range(n_outputs))
        if len(labels) != n_outputs or len(set(map(str, labels))) != n_outputs:
            raise ValueError(
                f"it must have a label of its own for each of {n_outputs} outputs, got "
                f"{labels!r:.100}."
            )
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        message = " ".join(str(error).split())  # torch names all wrong weights in lines
        raise ValueError(f"{path.name} cannot be loaded: {message:.400}") from error
    net = NeuralNetClassifier(
        make_network,
        criterion=nn.CrossEntropyLoss,
        classes=labels,
        train_split=None,
        verbose=0,
        device=device,
        **{f"module__{name}": value for name, value in arguments.items()},
    ).initialize()
    net.module_.load_state_dict(state, strict=True)
    return net, header["user"] if header else {}


def _check_fits(arguments: dict[str, Any], state: State) -> None:
    """Refuse a state that is not exactly the state of the network, or not finite."""
    layers = arguments.get("depth", arguments.get("hidden"))
    n_layers = len(layers) if isinstance(layers, Sequence) else layers
    if isinstance(n_layers, int) and n_layers > len(state):  # every layer has a weight
        raise ValueError(
            f"a network of {n_layers} layers has more weights than the {len(state)} in the "
            "file."
        )
    with torch.device("meta"):  # which needs no memory
        network = make_network(**arguments)
    network.load_state_dict(state, strict=True, assign=True)
    if bad := [name for name, each in state.items() if not each.isfinite().all()]:
        raise ValueError(f"it has weights that are not finite: {bad[:3]}.")
    if bad := [name for name, each in state.items() if each.is_complex()]:
        raise ValueError(f"it has weights that are complex: {bad[:3]}.")


def _shape(arguments: dict[str, Any]) -> DatasetShape:
    """Shape of inputs and outputs that arguments of `make_network` say."""
    fields = {name: arguments.get(name) for name in DatasetShape._fields}
    return dataset_shape(arguments.get("dataset"), **fields)


# Published layouts


def _recognise(
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
    options, last_weight = _network(state)
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
        sizes["input_shape"] = _image_shape(options["name"], state)
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


def _network(state: State) -> tuple[dict[str, Any], str]:
    """Name and options of a network, and the name of its last weight."""
    marks = [mark for mark in _NETWORKS if any(name.startswith(mark) for name in state)]
    if not marks:
        raise ValueError(
            f"its names, {list(state)[:3]} and so on, are those of no network that was "
            "published."
        )
    name, last_weight = _NETWORKS[marks[0]]
    options: dict[str, Any] = {"name": name}
    if name == "WideResNet":
        options["depth"] = 6 * _n_children(state, "model.block1.layer.") + 4
        options["widen_factor"] = _length(state, last_weight, axis=1) // 64
    elif name == "CifarResNet":
        convolve = any(".downsample." in name for name in state)
        options["shortcut"] = "convolution" if convolve else "pad"
        options["depth"] = 6 * _n_children(state, "model.layer1.") + 2
        if options["depth"] == 110:
            options = {"name": "ResNet110", "shortcut": options["shortcut"]}
    elif name == "MLP":
        n_layers = _n_children(state, "model.layers.")
        *weights, last_weight = [f"model.layers.{2 * i}.weight" for i in range(n_layers)]
        options["hidden"] = tuple(_length(state, each, axis=0) for each in weights)
    return options, last_weight


def _image_shape(network: str, state: State) -> tuple[int, ...]:
    """Shape of an image from weights; the usual one if a network takes any size."""
    n_channels = _length(state, "norm.mean", axis=0) if "norm.mean" in state else 3
    side = {"ResNet50": 224, "AlexNet": 32}.get(network, 28 if n_channels == 1 else 32)
    if network in ("LeNet", "MLP", "Linear"):
        places = {"LeNet": ("fc1", 16), "Linear": ("layer", n_channels)}
        layer, n_planes = places.get(network, ("layers.0", n_channels))
        pixels = _length(state, f"model.{layer}.weight", axis=1) / n_planes
        side = math.isqrt(int(pixels))
        if side**2 != pixels:
            raise ValueError(
                f"height and width of the images of a {network} cannot be told from its "
                "weights. Give input_shape= or dataset=."
            )
        if network == "LeNet":
            side = 4 * side + 8  # before both convolutions and pools
    return n_channels, side, side


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
