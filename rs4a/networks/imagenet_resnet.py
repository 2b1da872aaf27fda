"""ResNet-50, the usual net for ImageNet."""

from torch import nn

__all__ = ["resnet50"]


def resnet50(n_classes: int = 1000) -> nn.Module:
    """Residual network of 50 layers for colour images of 224x224, as torchvision has it.

    Inputs are taken as they are: standardise them in a layer before, behind the noise.

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
    # A second to import, which those who take another net need not spend.
    from torchvision.models import resnet50 as untrained

    return untrained(weights=None, num_classes=n_classes)
