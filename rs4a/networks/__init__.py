"""Networks, as plain torch modules, and checkpoints of them."""

from rs4a.networks.alexnet import AlexNet
from rs4a.networks.published_names import parse_checkpoint_name
from rs4a.persistence.checkpoints import (
    load_checkpoint,
    read_checkpoint_metadata,
    save_checkpoint,
)
from rs4a.networks.cifar_resnet import CifarResNet, ResNet110
from rs4a.networks.factory import NETWORKS, make_network
from rs4a.networks.imagenet_resnet import resnet50
from rs4a.networks.lenet import LeNet
from rs4a.networks.mlp import MLP, Linear
from rs4a.networks.normalize import Normalize
from rs4a.networks.wide_resnet import WideResNet

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
    "load_checkpoint",
    "make_network",
    "parse_checkpoint_name",
    "read_checkpoint_metadata",
    "resnet50",
    "save_checkpoint",
]
