"""LeNet, a small convolutional net for small images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike
from torch import nn

__all__ = ["LeNet"]


class LeNet(nn.Module):
    """LeNet-5 with rectifiers and max pooling, which standardises its inputs itself.

    Two convolutions of 6 and 16 planes with 5x5 kernels, the first of which keeps height
    and width, each followed by a 2x2 pool; then layers of 120, 84 and `n_classes` [1]_.
    Standardisation is part of the net, behind the noise, so that sigma and radii stay in
    the units of X.

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

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        input_shape: Sequence[int] = (1, 28, 28),
        n_classes: int = 10,
        mean: ArrayLike = 0.0,
        std: ArrayLike = 1.0,
    ):
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[1:]) < 12:
            raise ValueError(
                "input_shape must be (channels, height, width) with height and width of at "
                f"least 12, got {tuple(input_shape)}."
            )
        n_channels, height, width = input_shape
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32))
        self.conv1 = nn.Conv2d(n_channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * _pooled(height) * _pooled(width), 120)
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
            One output a class.
        """
        hidden = (X - self.mean) / self.std
        hidden = self.pool(torch.relu(self.conv1(hidden)))
        hidden = self.pool(torch.relu(self.conv2(hidden)))
        hidden = torch.relu(self.fc1(hidden.flatten(1)))
        return self.fc3(torch.relu(self.fc2(hidden)))


def _pooled(length: int) -> int:
    """Length of an axis after both convolutions and pools."""
    return (length // 2 - 4) // 2
