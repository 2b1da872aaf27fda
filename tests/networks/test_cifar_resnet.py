"""Residual nets for 32x32 images: published state, depth, and what shortcuts do."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import relu

from rs4a.networks import CifarResNet

STATES = Path(__file__).parent.parent / "data" / "cifar_resnet110_states.json"


@pytest.mark.parametrize("shortcut", ["pad", "convolution"])
def test_state_is_that_of_published_checkpoints(shortcut):
    """Those without weights in the shortcut, and those of Cohen et al. with them."""
    known = json.loads(STATES.read_text())[shortcut]
    state = CifarResNet(depth=110, shortcut=shortcut).state_dict()
    assert [(name, list(value.shape)) for name, value in state.items()] == list(
        known.items()
    )


def by_hand(net, X):
    """The forward pass of section 4.2, a block at a time."""
    planes = relu(net.bn1(net.conv1(X)))
    for group in (net.layer1, net.layer2, net.layer3):
        for block in group:
            residual = block.bn2(block.conv2(relu(block.bn1(block.conv1(planes)))))
            beside = planes
            if isinstance(block.downsample, torch.nn.Sequential):
                beside = block.downsample(planes)
            elif residual.shape != planes.shape:
                beside = torch.zeros_like(residual)
                n_old, n_new = planes.shape[1], residual.shape[1]
                first = (n_new - n_old) // 2
                beside[:, first : first + n_old] = planes[:, :, ::2, ::2]
            planes = relu(residual + beside)
    return net.fc(planes.flatten(2).mean(dim=2))


@pytest.mark.parametrize("shortcut", ["pad", "convolution"])
def test_forward_pass(shortcut):
    torch.manual_seed(0)
    net = CifarResNet(depth=14, n_classes=7, n_channels=2, shortcut=shortcut).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    X = torch.randn(3, 2, 32, 32)
    torch.testing.assert_close(net(X), by_hand(net, X))


@pytest.mark.parametrize(("depth", "n_blocks"), [(8, 1), (20, 3), (110, 18)])
def test_depth_is_the_number_of_layers_with_weights(depth, n_blocks):
    net = CifarResNet(depth)
    weights = [name for name, p in net.named_parameters() if p.ndim in (2, 4)]
    assert len(weights) == depth
    assert len(net.layer1) == len(net.layer2) == len(net.layer3) == n_blocks


@pytest.mark.parametrize("depth", [2, 9, 110.0, "110", None])
def test_other_depths_are_refused(depth):
    with pytest.raises(ValueError, match=r"depth must be 6 k \+ 2"):
        CifarResNet(depth)


def test_other_shortcuts_are_refused():
    with pytest.raises(ValueError, match="must be 'pad' or 'convolution', got 'A'"):
        CifarResNet(8, shortcut="A")
