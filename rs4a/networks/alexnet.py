"""AlexNet for 32x32 images."""

import torch
from torch import nn

__all__ = ["AlexNet"]


class AlexNet(nn.Module):
    """AlexNet with small kernels, for 32x32 images.

    Five convolutions and three layers of full width, in the sizes that the nets of Yang
    et al. have for CIFAR-10 [2]_. Inputs are taken as they are: standardise them in a layer
    before, behind the noise.

    Parameters
    ----------
    n_classes : int, default=10
        Number of outputs.

    n_channels : int, default=3
        Number of colours of an image.

    drop_rate : float, default=0.5
        Share of the inputs of the first two layers of full width that training leaves
        out.

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
            One output a class.
        """
        return self.classifier(self.features(X).flatten(1))
