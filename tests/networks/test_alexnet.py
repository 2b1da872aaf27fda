"""AlexNet for 32x32 images: its layers and what it does to an image."""

import torch
from torch.nn.functional import conv2d, max_pool2d, relu

from rs4a.networks import AlexNet

SHAPES = {
    "features.0": (64, 3, 3, 3),
    "features.3": (192, 64, 3, 3),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 1024),
    "classifier.4": (4096, 4096),
    "classifier.6": (10, 4096),
}


def test_state_is_that_of_published_nets():
    expected = {}
    for layer, shape in SHAPES.items():
        expected |= {f"{layer}.weight": shape, f"{layer}.bias": shape[:1]}
    state = AlexNet().state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == expected


def test_forward_pass():
    torch.manual_seed(0)
    net = AlexNet(n_classes=7, n_channels=1).eval()
    weights = dict(net.named_parameters())

    def convolved(planes, layer, stride=1):
        weight, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
        return relu(conv2d(planes, weight, bias, stride, padding=1))

    X = torch.randn(3, 1, 32, 32)
    planes = max_pool2d(convolved(X, "features.0", stride=2), 2)
    planes = max_pool2d(convolved(planes, "features.3"), 2)
    for layer in ("features.6", "features.8", "features.10"):
        planes = convolved(planes, layer)
    hidden = max_pool2d(planes, 2).flatten(1)
    for layer in ("classifier.1", "classifier.4"):
        hidden = relu(hidden @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"])
    logits = hidden @ weights["classifier.6.weight"].T + weights["classifier.6.bias"]
    torch.testing.assert_close(net(X), logits)


def test_inputs_are_left_out_in_training_only():
    X = torch.randn(2, 3, 32, 32)
    net = AlexNet(drop_rate=1.0)
    first, second = net(X)
    assert torch.equal(first, second)
    first, second = net.eval()(X)
    assert not torch.equal(first, second)
