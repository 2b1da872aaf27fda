"""Networks by name, behind the layer that standardises."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike
from torch import nn

from rs4a.networks.alexnet import AlexNet
from rs4a.networks.cifar_resnet import CifarResNet, ResNet110
from rs4a.networks.dataset_shapes import dataset_shape
from rs4a.networks.imagenet_resnet import resnet50
from rs4a.networks.lenet import LeNet
from rs4a.networks.mlp import MLP, Linear
from rs4a.networks.normalize import Normalize
from rs4a.networks.wide_resnet import WideResNet

__all__ = ["NETWORKS", "make_network"]

_BY_CHANNELS: dict[str, type[nn.Module]] = {
    "WideResNet": WideResNet,
    "ResNet110": ResNet110,
    "CifarResNet": CifarResNet,
    "AlexNet": AlexNet,
}
_BY_INPUT_SHAPE: dict[str, type[nn.Module]] = {"LeNet": LeNet, "MLP": MLP, "Linear": Linear}

#: Shapes of images that only some networks want.
_WANTED: dict[str, tuple[str | int, ...]] = {
    "AlexNet": ("channels", 32, 32),
    "ResNet50": (3, "height", "width"),
}

#: Names that `make_network` knows.
NETWORKS = (*_BY_CHANNELS, "ResNet50", *_BY_INPUT_SHAPE)


def make_network(
    name: str,
    dataset: str | None = None,
    *,
    input_shape: Sequence[int] | None = None,
    n_classes: int | None = None,
    mean: ArrayLike | None = None,
    std: ArrayLike | None = None,
    **options: Any,
) -> nn.Sequential:
    """Build a network for a data set, with standardisation as its first layer.

    It is behind the noise, so that sigma and radii stay in the units of X. skorch takes
    the function as a module: ``NeuralNetClassifier(make_network, module__name=...)``.

    Parameters
    ----------
    name : str
        One of `NETWORKS`: "WideResNet" (of depth 40 and factor 2), "ResNet110",
        "CifarResNet", "AlexNet", "ResNet50", "LeNet", "MLP" or "Linear".

    dataset : str, default=None
        What says all that follows: "mnist", "fashion_mnist", "cifar10", "svhn",
        "imagenet", "imagenet32", "tiny_images_500k" or "digits", with values in [0, 1].
        None: `input_shape` and `n_classes` are given.

    input_shape : sequence of int, default=None
        Shape of one input: channels, height and width of an image. None: the data set's.

    n_classes : int, default=None
        Number of outputs. None: the data set's.

    mean, std : float or array-like of shape (n_channels,), default=None
        Subtracted from every channel, and divided by. None: the data set's, or 0 and 1.

    **options
        Further parameters of the network, such as ``depth=28`` or ``hidden=(64,)``.

    Returns
    -------
    network : torch.nn.Sequential
        Untrained, of two children: `norm`, which standardises, and `model`.

    Raises
    ------
    ValueError
        If the name or the data set is unknown, or the network cannot take such inputs.

    Examples
    --------
    >>> import torch
    >>> from rs4a.networks import make_network
    >>> network = make_network("WideResNet", "cifar10", depth=10, widen_factor=1)
    >>> network(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 10])
    """
    if name not in NETWORKS:
        raise ValueError(f"name must be one of {list(NETWORKS)}, got {name!r}.")
    shape = dataset_shape(
        dataset, input_shape=input_shape, n_classes=n_classes, mean=mean, std=std
    )
    _check_takes(name, shape.input_shape)
    if name in _BY_INPUT_SHAPE:
        model = _BY_INPUT_SHAPE[name](shape.input_shape, shape.n_classes, **options)
    elif name in _BY_CHANNELS:
        channels = shape.input_shape[0]
        model = _BY_CHANNELS[name](
            n_classes=shape.n_classes, n_channels=channels, **options
        )
    else:
        model = resnet50(n_classes=shape.n_classes, **options)
    norm = Normalize(shape.mean, shape.std)
    return nn.Sequential(OrderedDict(norm=norm, model=model))


def _check_takes(name: str, input_shape: tuple[int, ...]) -> None:
    """Refuse inputs that a network cannot take, where it does not do so itself."""
    if name in ("MLP", "Linear"):
        return
    wanted = _WANTED.get(name, ("channels", "height", "width"))
    fits = len(input_shape) == 3 and all(
        isinstance(length, str) or length == given
        for length, given in zip(wanted, input_shape, strict=True)
    )
    if not fits:
        lengths = ", ".join(map(str, wanted))
        raise ValueError(f"input_shape must be ({lengths}) for {name}, got {input_shape}.")
