"""Trained networks in files, as nets and as classifiers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from skorch import NeuralNetClassifier
from torch import nn

from rs4a.nets.fingerprint import remember_noise
from rs4a.networks import parse_checkpoint_name
from rs4a.networks.dataset_shapes import DatasetShape, dataset_shape
from rs4a.networks.factory import make_network
from rs4a.noises import Noise
from rs4a.noises.by_name import known_noises, make_noise
from rs4a.persistence.published import recognise
from rs4a.persistence.tensors import State, read_file, read_header
from rs4a.utils.params import from_json

__all__ = ["load_checkpoint", "net_from_checkpoint"]

#: Wrong entries that an error shows.
_N_SHOWN = 3


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

    Files are those that Yang et al. [2]_, Cohen et al. [1]_ and others in the same layout
    published, those that ``save_params`` of skorch writes of a net of `make_network`, and
    those of ``save_checkpoint`` in version 0.1.0. Network and sizes are recognised from the
    names and shapes of the weights, all of which must fit. No code from the file is run.

    Parameters
    ----------
    path : str or path-like
        File of torch or of safetensors.

    name : str, default=None
        One of `NETWORKS`. None: what the weights look like.

    dataset : str, default=None
        Data set, as in `make_network`, that says the shape of inputs and the number of
        classes, and the statistics where the file has none. None: they are told from the
        weights; only files of Cohen et al. may then lack the statistics, which are the
        usual ones of CIFAR-10 or ImageNet.

    input_shape : sequence of int, default=None
        Shape of one input, where the weights do not tell it. None: told from them; where
        they take any size, the one that is usual.

    n_classes : int, default=None
        Number of outputs. None: the weights'.

    device : str, default="cpu"
        Device of the net.

    **options
        Further parameters of the network. What is not given is told from the weights.

    Returns
    -------
    net : skorch.NeuralNetClassifier
        Initialised, with the weights of the file in float32. Its module is `make_network`,
        its classes are 0, 1, ..., or those that a file of version 0.1.0 states.

    Raises
    ------
    ValueError
        If the file is not a whole checkpoint, its weights are not finite or fit no network,
        or not the one that is asked for.

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
    if {"mean", "std"} & set(options):
        raise ValueError("mean and std are read from the file, or from dataset=.")
    path = Path(path)
    content = read_file(path)
    sizes = {"dataset": dataset, "input_shape": input_shape, "n_classes": n_classes}
    given: dict[str, Any] = {
        key: value for key, value in {"name": name, **sizes}.items() if value is not None
    }
    try:
        if content.header is None:
            arguments, state = recognise(content.tensors, arch=content.arch, **given)
        else:
            arguments, state = {**content.header["network"], **given}, content.tensors
        arguments = {**arguments, **options}
        _check_fits(_planned_state(arguments, len(state)), state)
        _check_finite(content.tensors)
        classes = None if content.header is None else content.header["classes"]
        labels = _labels_of_outputs(classes, arguments)
    except (OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be loaded: {error}") from error
    net = _untrained(arguments, labels, device)
    net.module_.load_state_dict(state, strict=True)
    return net


def net_from_checkpoint(
    path: str | os.PathLike[str],
    *,
    noise: Noise | None = None,
    network: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> tuple[NeuralNetClassifier, Noise, tuple[int, ...]]:
    """Trained net in a file, its noise, and the shape of its inputs.

    Parameters
    ----------
    path : str or path-like
        File of weights.

    noise : Noise, default=None
        Smoothing noise. None: the noise that the file states.

    network : dict, default=None
        Further arguments of `load_checkpoint`.

    device : str, default="cpu"
        Device of the net.

    Returns
    -------
    net : skorch.NeuralNetClassifier
        Initialised net.

    noise : Noise
        Its noise.

    input_shape : tuple of int
        Shape of one input.
    """
    net = load_checkpoint(path, device=device, **(network or {}))
    header = read_header(Path(path))
    metadata = {} if header is None else header["user"]
    stated = metadata.get("noise")
    if isinstance(stated, dict) and stated.get("class") == "Splitting":
        remember_noise(net, from_json(stated, known_noises()))
    noise = _noise_of_checkpoint(Path(path), metadata) if noise is None else noise
    arguments = net.get_params_for("module")
    names = ("input_shape", "n_classes")
    shape = dataset_shape(
        arguments.get("dataset"), **{name: arguments.get(name) for name in names}
    ).input_shape
    return net, noise, shape


def _noise_of_checkpoint(path: Path, metadata: dict[str, Any]) -> Noise:
    """Noise that the metadata of version 0.1.0, or the name of the file, says."""
    stored = metadata.get("noise")
    if isinstance(stored, dict):
        return from_json(stored, known_noises())
    if stored is not None:
        return make_noise(str(stored), sigma=metadata.get("sigma"))
    _, name, sigma = parse_checkpoint_name(path.absolute())
    return make_noise(name, sigma=sigma)


# Nets


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


def _planned_state(arguments: dict[str, Any], n_tensors: int) -> State:
    """State of a network in names, shapes and dtypes, without memory for it."""
    layers = arguments.get("depth", arguments.get("hidden"))
    n_layers = len(layers) if isinstance(layers, Sequence) else layers
    if isinstance(n_layers, int) and n_layers > n_tensors:  # every layer has a weight
        raise ValueError(
            f"a network of {n_layers} layers has more weights than the {n_tensors} in the "
            "file."
        )
    with torch.device("meta"):
        return make_network(**arguments).state_dict()


def _check_fits(expected: State, got: State) -> None:
    """Refuse a state that is not exactly the network's."""
    problems = [
        f"{name} {problem}"
        for name in {**expected, **got}
        if (problem := _problem(expected.get(name), got.get(name)))
    ]
    if problems:
        more = f"; and {len(problems) - _N_SHOWN} more" if problems[_N_SHOWN:] else ""
        raise ValueError(f"{'; '.join(problems[:_N_SHOWN])}{more}.")


def _problem(expected: torch.Tensor | None, got: torch.Tensor | None) -> str | None:
    if got is None:
        return None if expected is None else f"of shape {tuple(expected.shape)} is missing"
    if expected is None:
        return f"of shape {tuple(got.shape)} is not expected"
    if got.shape != expected.shape:
        return f"must have shape {tuple(expected.shape)}, got {tuple(got.shape)}"
    if got.is_floating_point() != expected.is_floating_point():
        return f"must be of dtype {expected.dtype}, got {got.dtype}"
    return None


def _check_finite(tensors: State) -> None:
    if bad := [name for name, each in tensors.items() if not each.isfinite().all()]:
        raise ValueError(f"it has weights that are not finite: {bad[:_N_SHOWN]}.")


def _shape(arguments: dict[str, Any]) -> DatasetShape:
    """Shape of inputs and outputs that arguments of `make_network` say."""
    fields = {name: arguments.get(name) for name in DatasetShape._fields}
    return dataset_shape(arguments.get("dataset"), **fields)


def _labels_of_outputs(classes: list[Any] | None, arguments: dict[str, Any]) -> list[Any]:
    n_outputs = _shape(arguments).n_classes
    labels = list(range(n_outputs)) if classes is None else classes
    if len(labels) != n_outputs or len(set(map(str, labels))) != n_outputs:
        raise ValueError(
            f"it must have a label of its own for each of {n_outputs} outputs, got "
            f"{labels!r:.100}."
        )
    return labels
