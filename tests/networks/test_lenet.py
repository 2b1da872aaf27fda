"""LeNet: its layers, its shapes, and standardisation inside."""

import pytest
import torch

from rs4a.networks import LeNet


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 12, 13), (2, 31, 64)])
def test_every_image_gets_one_output_a_class(shape):
    assert LeNet(shape, n_classes=7)(torch.zeros(3, *shape)).shape == (3, 7)


def test_layers_are_those_of_lenet_5():
    """As published for 32x32 images; the padding makes up for 28x28 ones."""
    shapes = {name: tuple(p.shape) for name, p in LeNet((1, 28, 28)).named_parameters()}
    assert shapes == {
        "conv1.weight": (6, 1, 5, 5), "conv1.bias": (6,),
        "conv2.weight": (16, 6, 5, 5), "conv2.bias": (16,),
        "fc1.weight": (120, 400), "fc1.bias": (120,),
        "fc2.weight": (84, 120), "fc2.bias": (84,),
        "fc3.weight": (10, 84), "fc3.bias": (10,),
    }  # fmt: skip


def test_inputs_are_standardised():
    torch.manual_seed(0)
    plain = LeNet((3, 28, 28))
    mean, std = torch.rand(3, 1, 1), torch.rand(3, 1, 1) + 0.5
    scaled = LeNet((3, 28, 28), mean=mean, std=std)
    scaled.load_state_dict({**plain.state_dict(), "mean": mean, "std": std}, strict=True)
    X = torch.rand(4, 3, 28, 28)
    torch.testing.assert_close(scaled(X), plain((X - mean) / std))


@pytest.mark.parametrize("shape", [(1, 11, 28), (28, 28), (784,)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"input_shape must be .* got \("):
        LeNet(shape)
