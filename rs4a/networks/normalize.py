"""Standardisation as a layer of the net."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import nn

__all__ = ["Normalize"]


class Normalize(nn.Module):
    """First layer of a net: (X - mean) / std, channel by channel.

    Noise is added before it, so that sigma and radii stay in the units of X.

    Parameters
    ----------
    mean, std : float or array-like of shape (n_channels,)
        Subtracted from every channel, and divided by. Saved with the weights, but not
        trained.

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
            # The values are needed even where the net is only planned, on "meta".
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
            Of the dtype of X.
        """
        return (X - self.mean) / self.std
