"""Residual networks for 32x32 images, such as ResNet-110."""

import torch
from torch import nn
from torch.nn.functional import pad, relu

__all__ = ["CifarResNet", "ResNet110"]


class CifarResNet(nn.Module):
    """Residual network for 32x32 images: three groups of 16, 32 and 64 planes.

    The net of Cohen et al. and many others for CIFAR-10 is that of depth 110 [1]_. Inputs
    are taken as they are: standardise them in a layer before, behind the noise.

    Parameters
    ----------
    depth : int, default=110
        Number of layers with weights, 6 k + 2: a first convolution, three groups of k
        blocks of two, and the last layer.

    n_classes : int, default=10
        Number of outputs.

    n_channels : int, default=3
        Number of colours of an image.

    shortcut : {"pad", "convolution"}, default="pad"
        What stands beside the first block of a group, which halves height and width and
        doubles the planes: every second pixel and planes of zeros, without weights, or a
        normalised 1x1 convolution.

    References
    ----------
    .. [1] He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
       section 4.2, arXiv:1512.03385.

    Examples
    --------
    >>> import torch
    >>> from rs4a.networks import CifarResNet
    >>> CifarResNet(depth=20)(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        depth: int = 110,
        n_classes: int = 10,
        n_channels: int = 3,
        shortcut: str = "pad",
    ):
        super().__init__()
        n_blocks = _blocks_a_group(depth)
        if shortcut not in ("pad", "convolution"):
            raise ValueError(f"shortcut must be 'pad' or 'convolution', got {shortcut!r}.")
        convolve = shortcut == "convolution"
        self.conv1 = nn.Conv2d(n_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _group(n_blocks, 16, 16, 1, convolve)
        self.layer2 = _group(n_blocks, 16, 32, 2, convolve)
        self.layer3 = _group(n_blocks, 32, 64, 2, convolve)
        self.fc = nn.Linear(64, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

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
        planes = relu(self.bn1(self.conv1(X)))
        planes = self.layer3(self.layer2(self.layer1(planes)))
        return self.fc(planes.mean(dim=(2, 3)))


class ResNet110(CifarResNet):
    """The `CifarResNet` of depth 110.

    Parameters
    ----------
    n_classes : int, default=10
        Number of outputs.

    n_channels : int, default=3
        Number of colours of an image.

    shortcut : {"pad", "convolution"}, default="pad"
        What stands beside the first block of a group: in the checkpoints of Yang et al.
        [2]_ the former, in those of Cohen et al. [1]_ the latter.

    References
    ----------
    .. [1] Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized
       Smoothing", ICML 2019, arXiv:1902.02918.
    .. [2] Yang, Duan, Hu, Salman, Razenshteyn, Li, "Randomized Smoothing of All Shapes and
       Sizes", ICML 2020, arXiv:2002.08118.

    Examples
    --------
    >>> import torch
    >>> from rs4a.networks import ResNet110
    >>> ResNet110()(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 10])
    """

    def __init__(self, n_classes: int = 10, n_channels: int = 3, shortcut: str = "pad"):
        super().__init__(110, n_classes, n_channels, shortcut)


class _Block(nn.Module):
    """Two normalised convolutions beside a shortcut."""

    def __init__(self, n_in: int, n_out: int, stride: int, convolve: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.stride = stride
        self.n_new = n_out - n_in
        self.downsample = None
        if convolve and stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        residual = self.bn2(self.conv2(relu(self.bn1(self.conv1(X)))))
        return relu(residual + self._shortcut(X))

    def _shortcut(self, X: torch.Tensor) -> torch.Tensor:
        if self.downsample is not None:
            return self.downsample(X)
        if self.stride == 1:
            return X
        # Half of the new planes before the old ones, half behind.
        half = self.n_new // 2
        return pad(X[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))


def _group(
    n_blocks: int, n_in: int, n_out: int, stride: int, convolve: bool
) -> nn.Sequential:
    blocks = [_Block(n_in, n_out, stride, convolve)]
    blocks += [_Block(n_out, n_out, 1, convolve) for _ in range(n_blocks - 1)]
    return nn.Sequential(*blocks)


def _blocks_a_group(depth: int) -> int:
    """Blocks in each of the three groups of a net of this depth."""
    if not isinstance(depth, int) or depth < 8 or depth % 6 != 2:
        raise ValueError(
            "depth must be 6 k + 2 with an int k >= 1, such as 8, 20, 56 or 110, got "
            f"{depth!r}."
        )
    return (depth - 2) // 6
