"""Small nets for any tabular or image-shaped input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from numpy.typing import ArrayLike
from torch import nn

__all__ = ["MLP", "Linear"]


class MLP(nn.Module):
    """Multilayer perceptron that standardises its inputs itself.

    Standardisation is part of the net, behind the noise, so that sigma and radii stay in
    the units of X.

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

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        input_shape: Sequence[int],
        n_classes: int,
        hidden: Sequence[int] = (128,),
        mean: ArrayLike = 0.0,
        std: ArrayLike = 1.0,
    ):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32))
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
            Inputs; all axes but the first are flattened.

        Returns
        -------
        logits : torch.Tensor of shape (n, n_classes)
            One output a class.
        """
        return self.layers(((X - self.mean) / self.std).flatten(1))


class Linear(nn.Module):
    """Linear classifier of inputs that it flattens.

    Inputs are taken as they are: standardise them in a layer before, behind the noise.

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
            Inputs; all axes but the first are flattened.

        Returns
        -------
        logits : torch.Tensor of shape (n, n_classes)
            One output a class.
        """
        return self.layer(X.flatten(1))
