"""Networks, as plain torch modules."""

from rs4a.networks.cifar_resnet import CifarResNet
from rs4a.networks.lenet import LeNet
from rs4a.networks.mlp import MLP
from rs4a.networks.normalize import Normalize
from rs4a.networks.wide_resnet import WideResNet

__all__ = ["MLP", "CifarResNet", "LeNet", "Normalize", "WideResNet"]
