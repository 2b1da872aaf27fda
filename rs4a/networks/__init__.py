"""Networks, as torch modules, and the names of published checkpoints."""

from typing import Any

from rs4a.networks.factory import NETWORKS, Normalize, make_network
from rs4a.networks.feed_forward import MLP, AlexNet, LeNet, Linear
from rs4a.networks.published_names import parse_checkpoint_name
from rs4a.networks.residual import CifarResNet, ResNet110, WideResNet, resnet50
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
