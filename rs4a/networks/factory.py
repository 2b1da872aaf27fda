"""Networks by name, behind the layer that standardises."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import nn

from rs4a.networks.dataset_shapes import dataset_shape
from rs4a.networks.feed_forward import MLP, AlexNet, LeNet, Linear
from rs4a.networks.residual import CifarResNet, ResNet110, WideResNet, resnet50

_BY_CHANNELS: dict[str, type[nn.Module]] = {
    "WideResNet": WideResNet,
    "ResNet110": ResNet110,
    "CifarResNet": CifarResNet,
    "AlexNet": AlexNet,
}
_BY_INPUT_SHAPE: dict[str, type[nn.Module]] = {"LeNet": LeNet, "MLP": MLP, "Linear": Linear}

#: Names that `make_network` knows.
NETWORKS = (*_BY_CHANNELS, "ResNet50", *_BY_INPUT_SHAPE)


class Normalize(nn.Module):
    """First layer of a net: (X - mean) / std, channel by channel.

    Noise is added before it, so that sigma and radii stay in the units of X.

    Parameters
    ----------
    mean, std : float or array-like of shape (n_channels,)
        The layer subtracts `mean` and divides by `std`. They are saved with the weights,
        but not trained.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from rs4a.networks import Normalize, WideResNet
    >>> net = nn.Sequential(
    ...     Normalize(mean=(0.491, 0.482, 0.447), std=(0.247, 0.243, 0.262)),
    ...     WideResNet(depth=10, widen_factor=1),
    ... )
    >>> net(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 10])
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: ArrayLike, std: ArrayLike):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            # The check needs values, also where the net is made without memory, on "meta".
            channels = torch.as_tensor(values, dtype=torch.float32, device="cpu")
            if channels.ndim > 1 or not channels.isfinite().all():
                raise ValueError(
                    f"{name} must be a finite float or one for every channel, got "
                    f"{values!r}."
                )
            if name == "std" and not (channels > 0.0).all():
                raise ValueError(f"std must be above 0, got {std!r}.")
            shape = (-1, 1, 1) if channels.ndim else ()
            self.register_buffer(name, torch.as_tensor(channels.reshape(shape)).clone())

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Standardise images.

        Parameters
        ----------
        X : torch.Tensor of shape (n, n_channels, height, width)
            Images.

        Returns
        -------
        standardised : torch.Tensor of shape (n, n_channels, height, width)
            Images of the dtype of X.
        """
        return (X - self.mean) / self.std


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

    The layer is behind the noise, so that sigma and radii stay in the units of X. skorch
    takes the function as a module: ``NeuralNetClassifier(make_network, module__name=...)``.

    Parameters
    ----------
    name : str
        One of `NETWORKS`: "WideResNet" (of depth 40 and factor 2), "ResNet110",
        "CifarResNet", "AlexNet", "ResNet50", "LeNet", "MLP" or "Linear".

    dataset : str, default=None
        Data set that gives the parameters below: "mnist", "fashion_mnist", "cifar10",
        "svhn", "imagenet", "imagenet32", "tiny_images_500k" or "digits", with values in
        [0, 1]. None: `input_shape` and `n_classes` must be given.

    input_shape : sequence of int, default=None
        Shape of one input: channels, height and width of an image. None: the data set's.

    n_classes : int, default=None
        Number of outputs. None: the data set's.

    mean, std : float or array-like of shape (n_channels,), default=None
        The first layer subtracts `mean` and divides by `std`. None: the data set's, or 0
        and 1.

    **options
        Further parameters of the network, such as ``depth=28`` or ``hidden=(64,)``.

    Returns
    -------
    network : torch.nn.Sequential
        Untrained network of two children: `norm`, which standardises, and `model`.

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
    sizes, n_outputs = shape.input_shape, shape.n_classes
    if name not in ("MLP", "Linear"):
        _check_image(name, sizes)
    if name in _BY_INPUT_SHAPE:
        model = _BY_INPUT_SHAPE[name](sizes, n_outputs, **options)
    elif name in _BY_CHANNELS:
        model = _BY_CHANNELS[name](n_classes=n_outputs, n_channels=sizes[0], **options)
    else:
        model = resnet50(n_classes=n_outputs, **options)
    norm = Normalize(shape.mean, shape.std)
    return nn.Sequential(OrderedDict(norm=norm, model=model))


def _check_image(name: str, sizes: tuple[int, ...]) -> None:
    """Refuse images that a network cannot take."""
    wanted, fits = "(channels, height, width)", len(sizes) == 3
    if name == "AlexNet":
        wanted, fits = "(channels, 32, 32)", fits and sizes[1:] == (32, 32)
    elif name == "ResNet50":
        wanted, fits = "(3, height, width)", fits and sizes[0] == 3
    if not fits:
        raise ValueError(f"input_shape must be {wanted} for {name}, got {sizes}.")
