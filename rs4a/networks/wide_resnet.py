"""The wide residual network, the usual net for 32x32 images."""

import torch
from torch import nn
from torch.nn.functional import relu

__all__ = ["WideResNet"]


class WideResNet(nn.Module):
    """Wide residual network with pre-activation, for images of any height and width.

    A convolution, three groups of residual layers, of which the second and third halve
    the height and width, and a global average pool. Inputs are taken as they are:
    standardise them in a layer before, behind the noise.

    Parameters
    ----------
    depth : int, default=40
        Number of convolutions, 6 k + 4: a first one, and in each of three groups k layers
        of two and a shortcut.

    widen_factor : int, default=2
        The groups have 16, 32 and 64 times as many planes.

    n_classes : int, default=10
        Number of outputs.

    n_channels : int, default=3
        Number of colours of an image.

    References
    ----------
    .. [1] Zagoruyko, Komodakis, "Wide Residual Networks", BMVC 2016, arXiv:1605.07146.

    Examples
    --------
    >>> import torch
    >>> from rs4a.networks import WideResNet
    >>> WideResNet(depth=10, widen_factor=1)(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        depth: int = 40,
        widen_factor: int = 2,
        n_classes: int = 10,
        n_channels: int = 3,
    ):
        super().__init__()
        _check_positive(
            widen_factor=widen_factor, n_classes=n_classes, n_channels=n_channels
        )
        n_layers = _layers_a_group(depth)
        widths = [16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
        self.conv1 = _conv3x3(n_channels, 16)
        self.block1 = _Group(n_layers, 16, widths[0], stride=1)
        self.block2 = _Group(n_layers, widths[0], widths[1], stride=2)
        self.block3 = _Group(n_layers, widths[1], widths[2], stride=2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], n_classes)
        self._initialise()

    def _initialise(self) -> None:
        """Convolutions keep the variance of gradients (He et al. 2015), biases are 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

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
        planes = self.block3(self.block2(self.block1(self.conv1(X))))
        return self.fc(relu(self.bn1(planes)).mean(dim=(2, 3)))


# The names of attributes are those of the checkpoints that were published for this net:
# block1.layer.0.convShortcut.weight and so on. That is why they are not all snake_case.


class _Group(nn.Module):
    """Residual layers of one width; the first takes the stride."""

    def __init__(self, n_layers: int, n_in: int, n_out: int, stride: int):
        super().__init__()
        layers = [_Layer(n_in, n_out, stride)]
        layers += [_Layer(n_out, n_out, 1) for _ in range(n_layers - 1)]
        self.layer = nn.Sequential(*layers)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.layer(X)


class _Layer(nn.Module):
    """Two convolutions, each behind its normalisation, beside a shortcut."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_in)
        self.conv1 = _conv3x3(n_in, n_out, stride)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.conv2 = _conv3x3(n_out, n_out)
        self.convShortcut = (
            None if n_in == n_out else nn.Conv2d(n_in, n_out, 1, stride, bias=False)
        )

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        active = relu(self.bn1(X))
        residual = self.conv2(relu(self.bn2(self.conv1(active))))
        # The identity passes X on as it came, a convolution what was normalised.
        shortcut = X if self.convShortcut is None else self.convShortcut(active)
        return shortcut + residual


def _conv3x3(n_in: int, n_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)


def _layers_a_group(depth: int) -> int:
    """Residual layers in each of the three groups of a net of this depth."""
    if not isinstance(depth, int) or depth < 10 or depth % 6 != 4:
        raise ValueError(
            f"depth must be 6 k + 4 with an int k >= 1, such as 10, 16, 28 or 40, got "
            f"{depth!r}."
        )
    return (depth - 4) // 6


def _check_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be an int >= 1, got {size!r}.")
