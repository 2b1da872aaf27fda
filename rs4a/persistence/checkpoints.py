"""Trained networks in files, as nets and as classifiers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from skorch import NeuralNetClassifier
from torch import nn

from rs4a.nets.trained_under import remember_noise
from rs4a.networks import parse_checkpoint_name
from rs4a.networks.dataset_shapes import DatasetShape, dataset_shape
from rs4a.networks.factory import make_network
from rs4a.noises import Noise
from rs4a.noises.by_name import known_noises, make_noise
from rs4a.persistence.files import State, read_weights
from rs4a.persistence.published import recognise
from rs4a.utils.params import from_json

__all__ = ["load_checkpoint", "net_from_checkpoint"]


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
    sizes = {"dataset": dataset, "input_shape": input_shape, "n_classes": n_classes}
    return _load(Path(path), device, name=name, **sizes, **options)[0]


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
    content = read_weights(path)
    asked = {name: value for name, value in asked.items() if value is not None}
    try:
        if content.header is None:
            arguments, state = recognise(content.tensors, content.arch, asked)
        else:
            arguments, state = {**content.header["network"], **asked}, content.tensors
        _check_fits(arguments, state)
        n_outputs = _shape(arguments).n_classes
        labels = content.header["classes"] if content.header else list(range(n_outputs))
        if len(labels) != n_outputs or len(set(map(str, labels))) != n_outputs:
            raise ValueError(
                f"it must have a label of its own for each of {n_outputs} outputs, got "
                f"{labels!r:.100}."
            )
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        message = " ".join(str(error).split())  # torch names all wrong weights in lines
        raise ValueError(f"{path.name} cannot be loaded: {message:.400}") from error
    net = _untrained(arguments, labels, device)
    net.module_.load_state_dict(state, strict=True)
    return net, content.header["user"] if content.header else {}


def _untrained(
    arguments: dict[str, Any], classes: list[Any], device: str
) -> NeuralNetClassifier:
    return NeuralNetClassifier(
        make_network,
        criterion=nn.CrossEntropyLoss,
        classes=classes,
        train_split=None,
        verbose=0,
        device=device,
        **{f"module__{name}": value for name, value in arguments.items()},
    ).initialize()


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


def _shape(arguments: dict[str, Any]) -> DatasetShape:
    """Shape of inputs and outputs that arguments of `make_network` say."""
    fields = {name: arguments.get(name) for name in DatasetShape._fields}
    return dataset_shape(arguments.get("dataset"), **fields)
