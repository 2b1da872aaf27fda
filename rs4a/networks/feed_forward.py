"""Networks without shortcuts, from a linear classifier to AlexNet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from numpy.typing import ArrayLike
from torch import nn


class AlexNet(nn.Module):
    """AlexNet with small kernels, for 32x32 images.

    Five convolutions and three dense layers, with the sizes of Yang et al.'s nets for
    CIFAR-10 [2]_. The net does not standardise its inputs: put a layer that standardises in
    front, behind the noise.

    Parameters
    ----------
    n_classes : int, default=10
        Number of outputs.

    n_channels : int, default=3
        Number of colours of an image.

    drop_rate : float, default=0.5
        Share of the inputs of the first two dense layers that training leaves out.

    References
    ----------
    .. [1] Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional
       Neural Networks", NeurIPS 2012.
    .. [2] Yang, Duan, Hu, Salman, Razenshteyn, Li, "Randomized Smoothing of All Shapes and
       Sizes", ICML 2020, arXiv:2002.08118.

    Examples
    --------
    >>> import torch
    >>> from rs4a.networks import AlexNet
    >>> AlexNet()(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 10])
    """

    def __init__(self, n_classes: int = 10, n_channels: int = 3, drop_rate: float = 0.5):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(n_channels, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 192, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(drop_rate),
            nn.Linear(256 * 2 * 2, 4096),
            nn.ReLU(),
            nn.Dropout(drop_rate),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, n_classes),
        )

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Compute the logits.

        Parameters
        ----------
        X : torch.Tensor of shape (n, n_channels, 32, 32)
            Images.

        Returns
        -------
        logits : torch.Tensor of shape (n, n_classes)
            One output per class.
        """
        return self.classifier(self.features(X).flatten(1))


class _Standardising(nn.Module):
    """Network that standardises its inputs itself, by buffers."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: ArrayLike, std: ArrayLike):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32))

    def _standardised(self, X: torch.Tensor) -> torch.Tensor:
        return (X - self.mean) / self.std


class LeNet(_Standardising):
    """LeNet-5 with rectifiers and max pooling, which standardises its inputs itself.

    Two convolutions of 6 and 16 planes with 5x5 kernels, the first of which keeps height
    and width, each followed by a 2x2 pool; then layers of 120, 84 and `n_classes` [1]_.
    The net itself standardises, behind the noise, so that sigma and radii stay in the units
    of X.

    Parameters
    ----------
    input_shape : sequence of int, default=(1, 28, 28)
        Channels, height and width of an image; both at least 12.

    n_classes : int, default=10
        Number of outputs.

    mean, std : float or array-like, default=0.0 and 1.0
        Subtracted from every input, and divided by: numbers, or arrays that broadcast
        against an image, as (n_channels, 1, 1) does.

    References
    ----------
    .. [1] LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document
       Recognition", Proceedings of the IEEE, 1998.

    Examples
    --------
    >>> import torch
    >>> from rs4a.networks import LeNet
    >>> LeNet((1, 28, 28), n_classes=10)(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (1, 28, 28),
        n_classes: int = 10,
        mean: ArrayLike = 0.0,
        std: ArrayLike = 1.0,
    ):
        super().__init__(mean, std)
        if len(input_shape) != 3 or min(input_shape[1:]) < 12:
            raise ValueError(
                "input_shape must be (channels, height, width) with height and width of at "
                f"least 12, got {tuple(input_shape)}."
            )
        n_channels, height, width = input_shape
        self.conv1 = nn.Conv2d(n_channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        pooled = [(length // 2 - 4) // 2 for length in (height, width)]
        self.fc1 = nn.Linear(16 * math.prod(pooled), 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, n_classes)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Compute the logits.

        Parameters
        ----------
        X : torch.Tensor of shape (n, n_channels, height, width)
            Images.

        Returns
        -------
        logits : torch.Tensor of shape (n, n_classes)
            One output per class.
        """
        hidden = self.pool(torch.relu(self.conv1(self._standardised(X))))
        hidden = self.pool(torch.relu(self.conv2(hidden)))
        hidden = torch.relu(self.fc1(hidden.flatten(1)))
        return self.fc3(torch.relu(self.fc2(hidden)))


class MLP(_Standardising):
    """Multilayer perceptron that standardises its inputs itself.

    The net itself standardises, behind the noise, so that sigma and radii stay in the units
    of X.

    Parameters
    ----------
    input_shape : sequence of int
        Shape of one input, without the batch axis.

    n_classes : int
        Number of outputs.

    hidden : sequence of int, default=(128,)
        Widths of the hidden layers.

    mean, std : float or array-like of shape `input_shape`, default=0.0 and 1.0
        Subtracted from every input, and divided by.

    Examples
    --------
    >>> import torch
    >>> from rs4a.networks import MLP
    >>> MLP((1, 28, 28), n_classes=10)(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        n_classes: int,
        hidden: Sequence[int] = (128,),
        mean: ArrayLike = 0.0,
        std: ArrayLike = 1.0,
    ):
        super().__init__(mean, std)
        widths = [math.prod(input_shape), *hidden]
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], n_classes))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Compute the logits.

        Parameters
        ----------
        X : torch.Tensor of shape (n, ...)
            Inputs; the net flattens all axes but the first.

        Returns
        -------
        logits : torch.Tensor of shape (n, n_classes)
            One output per class.
        """
        return self.layers(self._standardised(X).flatten(1))


class Linear(nn.Module):
    """Linear classifier of flattened inputs.

    The net does not standardise its inputs: put a layer that standardises in front, behind
    the noise.

    Parameters
    ----------
    input_shape : sequence of int
        Shape of one input, without the batch axis.

    n_classes : int
        Number of outputs.

    Examples
    --------
    >>> import torch
    >>> from rs4a.networks import Linear
    >>> Linear((1, 28, 28), n_classes=10)(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 10])
    """

    def __init__(self, input_shape: Sequence[int], n_classes: int):
        super().__init__()
        self.layer = nn.Linear(math.prod(input_shape), n_classes)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Compute the logits.

        Parameters
        ----------
        X : torch.Tensor of shape (n, ...)
            Inputs; the net flattens all axes but the first.

        Returns
        -------
        logits : torch.Tensor of shape (n, n_classes)
            One output per class.
        """
        return self.layer(X.flatten(1))
