"""Residual networks: ResNet-110 and its like, wide ones, and ResNet-50."""

import torch
from torch import nn
from torch.nn.functional import pad, relu


class CifarResNet(nn.Module):
    """Residual network for 32x32 images: three groups of 16, 32 and 64 planes.

    Cohen et al. and many others used depth 110 for CIFAR-10 [1]_. The net does not
    standardise its inputs: put a layer that standardises in front, behind the noise.

    Parameters
    ----------
    depth : int, default=110
        Number of layers with weights, 6 k + 2: a first convolution, three groups of k
        blocks with two layers each, and the last layer.

    n_classes : int, default=10
        Number of outputs.

    n_channels : int, default=3
        Number of colours of an image.

    shortcut : {"pad", "convolution"}, default="pad"
        Shortcut of the first block of a group, which halves height and width and doubles
        the planes: every second pixel and planes of zeros, without weights, or a normalised
        1x1 convolution.

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
        n_blocks = _blocks_per_group(depth, 2)
        if shortcut not in ("pad", "convolution"):
            raise ValueError(f"shortcut must be 'pad' or 'convolution', got {shortcut!r}.")
        self.conv1 = _conv3x3(n_channels, 16)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _group(n_blocks, 16, 16, shortcut)
        self.layer2 = _group(n_blocks, 16, 32, shortcut)
        self.layer3 = _group(n_blocks, 32, 64, shortcut)
        self.fc = nn.Linear(64, n_classes)
        _initialise(self)

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
        Shortcut of the first block of a group: "pad" in the checkpoints of Yang et al.
        [2]_, "convolution" in those of Cohen et al. [1]_.

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


class _Pad(nn.Module):
    """Shortcut without weights: every second pixel, between as many planes of zeros."""

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        half = X.shape[1] // 2
        return pad(X[:, :, ::2, ::2], (0, 0, 0, 0, half, half))


def _group(n_blocks: int, n_in: int, n_out: int, shortcut: str) -> nn.Sequential:
    from torchvision.models.resnet import BasicBlock  # its import takes a second

    stride = n_out // n_in
    beside: nn.Module | None = None
    if stride > 1 and shortcut == "pad":
        beside = _Pad()
    elif stride > 1:
        convolution = nn.Conv2d(n_in, n_out, 1, stride, bias=False)
        beside = nn.Sequential(convolution, nn.BatchNorm2d(n_out))
    blocks = [BasicBlock(n_in, n_out, stride, beside)]
    blocks += [BasicBlock(n_out, n_out) for _ in range(n_blocks - 1)]
    return nn.Sequential(*blocks)


class WideResNet(nn.Module):
    """Wide residual network with pre-activation, for images of any height and width.

    A convolution, three groups of residual layers, of which the second and third halve
    the height and width, and a global average pool. The net does not standardise its
    inputs: put a layer that standardises in front, behind the noise.

    Parameters
    ----------
    depth : int, default=40
        Number of convolutions, 6 k + 4: a first convolution, and in each of three groups a
        shortcut and k layers with two convolutions each.

    widen_factor : int, default=2
        The groups have 16, 32 and 64 times this number of planes.

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
        if not isinstance(widen_factor, int) or widen_factor < 1:
            raise ValueError(f"widen_factor must be an int >= 1, got {widen_factor!r}.")
        n_layers = _blocks_per_group(depth, 4)
        widths = [16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
        self.conv1 = _conv3x3(n_channels, 16)
        self.block1 = _Group(n_layers, 16, widths[0], stride=1)
        self.block2 = _Group(n_layers, widths[0], widths[1], stride=2)
        self.block3 = _Group(n_layers, widths[1], widths[2], stride=2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], n_classes)
        _initialise(self)
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
            One output per class.
        """
        planes = self.block3(self.block2(self.block1(self.conv1(X))))
        return self.fc(relu(self.bn1(planes)).mean(dim=(2, 3)))


# Attributes have the names of published checkpoints, as block1.layer.0.convShortcut.weight,
# which are not all snake_case.


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
        # The identity takes X itself, a convolution takes the normalised X.
        shortcut = X if self.convShortcut is None else self.convShortcut(active)
        return shortcut + residual


def resnet50(n_classes: int = 1000) -> nn.Module:
    """Residual network of 50 layers for colour images of 224x224, as torchvision has it.

    The net does not standardise its inputs: put a layer that standardises in front, behind
    the noise.

    Parameters
    ----------
    n_classes : int, default=1000
        Number of outputs.

    Returns
    -------
    net : torch.nn.Module
        Untrained.

    References
    ----------
    .. [1] He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
       arXiv:1512.03385.

    Examples
    --------
    >>> from rs4a.networks import resnet50
    >>> resnet50(n_classes=10).fc
    Linear(in_features=2048, out_features=10, bias=True)
    """
    from torchvision.models import resnet50 as untrained  # its import takes a second

    return untrained(weights=None, num_classes=n_classes)


# Parts


def _conv3x3(n_in: int, n_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)


def _blocks_per_group(depth: int, extra: int) -> int:
    """Blocks in each of the three groups of a net with this depth."""
    if not isinstance(depth, int) or depth < 6 + extra or depth % 6 != extra:
        raise ValueError(
            f"depth must be 6 k + {extra} with an int k >= 1, such as {6 + extra}, "
            f"{12 + extra} or {36 + extra}, got {depth!r}."
        )
    return (depth - extra) // 6


def _initialise(net: nn.Module) -> None:
    """Let convolutions keep the variance of gradients (He et al. 2015)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
