import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import relu

from rs4a.networks import WideResNet

STATE = Path(__file__).parent.parent / "data" / "wide_resnet_40_2_state.json"


@pytest.fixture
def net():
    """A small net whose normalisations do something."""
    torch.manual_seed(0)
    net = WideResNet(depth=16, widen_factor=2)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return net.eval()


def test_state_is_that_of_published_checkpoints():
    known = json.loads(STATE.read_text())
    state = WideResNet(depth=40, widen_factor=2).state_dict()
    assert [(name, list(value.shape)) for name, value in state.items()] == list(
        known.items()
    )


@pytest.mark.parametrize(
    ("depth", "widen_factor", "n_layers"), [(10, 1, 1), (16, 4, 2), (28, 1, 4)]
)
def test_depth_and_width(depth, widen_factor, n_layers):
    net = WideResNet(depth, widen_factor)
    weights = [
        name
        for name, value in net.named_parameters()
        if value.ndim > 1 and "Shortcut" not in name
    ]
    assert len(weights) == depth - 2  # the three shortcuts count, the last layer does not
    assert len(net.block2.layer) == n_layers
    assert net.fc.in_features == 64 * widen_factor


def test_first_group_has_a_shortcut_only_where_it_widens():
    assert WideResNet(10, widen_factor=1).block1.layer[0].convShortcut is None
    assert WideResNet(10, widen_factor=2).block1.layer[0].convShortcut is not None


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 28, 28), (1, 8, 12), (3, 5, 7)])
def test_any_height_and_width(shape):
    net = WideResNet(10, 1, n_classes=7, n_channels=shape[0])
    assert net(torch.zeros(2, *shape)).shape == (2, 7)


def test_identity_passes_the_input_on(net):
    layer, X = net.block2.layer[1], torch.randn(2, 64, 8, 8)
    torch.nn.init.zeros_(layer.conv2.weight)
    torch.testing.assert_close(layer(X), X)


def test_shortcut_convolves_what_was_normalised(net):
    layer, X = net.block2.layer[0], torch.randn(2, 32, 8, 8)
    torch.nn.init.zeros_(layer.conv2.weight)
    weight = layer.convShortcut.weight[:, :, 0, 0]
    expected = torch.einsum("oi,nihw->nohw", weight, relu(layer.bn1(X))[:, :, ::2, ::2])
    torch.testing.assert_close(layer(X), expected)


def test_residual_normalises_before_each_convolution(net):
    layer, X = net.block3.layer[1], torch.randn(2, 128, 4, 4)
    hidden = layer.conv1(relu(normalised(layer.bn1, X)))
    residual = layer.conv2(relu(normalised(layer.bn2, hidden)))
    torch.testing.assert_close(layer(X), X + residual)


def test_forward_pools_what_was_normalised(net):
    X = torch.randn(2, 3, 16, 16)
    planes = net.block3(net.block2(net.block1(net.conv1(X))))
    assert planes.shape == (2, 128, 4, 4)
    pooled = relu(normalised(net.bn1, planes)).flatten(2).mean(dim=2)
    torch.testing.assert_close(net(X), pooled @ net.fc.weight.T + net.fc.bias)


def normalised(norm, X):
    """Batch normalisation in evaluation mode, by hand."""
    mean, var, scale, shift = (
        values[:, None, None]
        for values in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    )
    return (X - mean) / torch.sqrt(var + norm.eps) * scale + shift


def test_gradients_reach_every_parameter(net):
    X = torch.randn(4, 3, 8, 8)
    net.train()(X).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())


@pytest.mark.parametrize("depth", [4, 39, 42, 0, -2, 40.0, "40", None])
def test_wrong_depth(depth):
    with pytest.raises(ValueError, match=r"depth must be 6 k \+ 4 .*, got "):
        WideResNet(depth)


@pytest.mark.parametrize("factor", [0, -1, 1.5])
def test_wrong_widen_factors(factor):
    with pytest.raises(ValueError, match=f"widen_factor must be an int >= 1, got {factor}"):
        WideResNet(widen_factor=factor)
