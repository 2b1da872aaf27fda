"""Networks, as torch modules, and the names of published checkpoints."""

from typing import Any

from rs4a.networks.alexnet import AlexNet
from rs4a.networks.cifar_resnet import CifarResNet, ResNet110
from rs4a.networks.factory import NETWORKS, make_network
from rs4a.networks.imagenet_resnet import resnet50
from rs4a.networks.lenet import LeNet
from rs4a.networks.mlp import MLP, Linear
from rs4a.networks.normalize import Normalize
from rs4a.networks.published_names import parse_checkpoint_name
from rs4a.networks.wide_resnet import WideResNet
from rs4a.utils.moved import moved

__all__ = [
    "MLP",
    "NETWORKS",
    "AlexNet",
    "CifarResNet",
    "LeNet",
    "Linear",
    "Normalize",
    "ResNet110",
    "WideResNet",
    "make_network",
    "parse_checkpoint_name",
    "resnet50",
]


def __getattr__(name: str) -> Any:
    return moved(__name__, name)
