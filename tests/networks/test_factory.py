"""Networks by name: what they consist of, for which inputs, and as modules of skorch."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import nn

from rs4a.networks import (
    MLP,
    NETWORKS,
    AlexNet,
    CifarResNet,
    LeNet,
    Linear,
    Normalize,
    ResNet110,
    WideResNet,
    make_network,
)
from rs4a.networks.dataset_shapes import DATASET_SHAPES

CLASSES = {
    "WideResNet": WideResNet,
    "ResNet110": ResNet110,
    "CifarResNet": CifarResNet,
    "AlexNet": AlexNet,
    "LeNet": LeNet,
    "MLP": MLP,
    "Linear": Linear,
}
#: What makes them small.
SMALL = {"WideResNet": {"depth": 10, "widen_factor": 1}, "CifarResNet": {"depth": 8}}


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        *((name, "cifar10") for name in CLASSES),
        *((name, "mnist") for name in CLASSES if name != "AlexNet"),
    ],
)
def test_a_network_is_norm_and_model(name, dataset):
    torch.manual_seed(0)
    network = make_network(name, dataset, **SMALL.get(name, {})).eval()
    assert [child for child, _ in network.named_children()] == ["norm", "model"]
    assert isinstance(network.norm, Normalize)
    assert isinstance(network.model, CLASSES[name])
    shape = DATASET_SHAPES[dataset]
    X = torch.rand(2, *shape.input_shape)
    mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (shape.mean, shape.std))
    logits = network(X)
    assert logits.shape == (2, 10)
    torch.testing.assert_close(logits, network.model((X - mean) / std))


def test_resnet50_is_torchvisions():
    network = make_network("ResNet50", "imagenet", n_classes=7)
    assert network.model.fc.weight.shape == (7, 2048)
    assert len(network.model.layer3) == 6
    assert network.norm.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_networks_are_all_names():
    assert set(NETWORKS) == {*CLASSES, "ResNet50"}


def test_wide_resnet_is_40_2_unless_told_otherwise():
    known = WideResNet(depth=40, widen_factor=2).state_dict()
    state = make_network("WideResNet", "cifar10").model.state_dict()
    assert {n: v.shape for n, v in state.items()} == {n: v.shape for n, v in known.items()}


def test_options_reach_the_network():
    assert make_network("MLP", "digits", hidden=(5, 6)).model.layers[2].out_features == 6
    assert make_network("AlexNet", "svhn", drop_rate=0.1).model.classifier[0].p == 0.1
    assert len(make_network("CifarResNet", "svhn", depth=14).model.layer1) == 2
    assert ResNet110(shortcut="convolution").layer2[0].downsample is not None
    with pytest.raises(TypeError, match="hidden"):
        make_network("Linear", "digits", hidden=(5,))


@pytest.mark.parametrize(
    ("dataset", "shape", "n_classes"),
    [
        ("mnist", (1, 28, 28), 10),
        ("fashion_mnist", (1, 28, 28), 10),
        ("cifar10", (3, 32, 32), 10),
        ("svhn", (3, 32, 32), 10),
        ("imagenet", (3, 224, 224), 1000),
        ("imagenet32", (3, 32, 32), 1000),
        ("tiny_images_500k", (3, 32, 32), 10),
        ("digits", (1, 8, 8), 10),
    ],
)
def test_data_sets(dataset, shape, n_classes):
    network = make_network("WideResNet", dataset, **SMALL["WideResNet"]).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, n_classes)
    assert network.norm.mean.shape == network.norm.std.shape == (shape[0], 1, 1)


def test_statistics_of_digits():
    values = load_digits().data / 16
    network = make_network("MLP", "digits")
    assert float(network.norm.mean) == pytest.approx(values.mean(), abs=5e-5)
    assert float(network.norm.std) == pytest.approx(values.std(), abs=5e-5)


def test_what_is_given_overrides_the_data_set():
    network = make_network(
        "MLP", "cifar10", input_shape=(1, 4, 4), n_classes=3, mean=0.5, std=(0.25,)
    )
    assert network(torch.zeros(2, 1, 4, 4)).shape == (2, 3)
    assert network.norm.mean == 0.5
    assert network.norm.std == 0.25


@pytest.mark.parametrize("shape", [(20,), (3, 4), np.zeros((1, 2, 4, 4)).shape[1:]])
def test_by_shape_inputs_are_taken_as_they_are(shape):
    network = make_network("MLP", input_shape=shape, n_classes=np.int64(3))
    X = torch.rand(5, *shape)
    assert torch.equal(network(X), network.model(X))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "VGG"}, "name must be one of .*'WideResNet'.*, got 'VGG'"),
        ({"name": "MLP", "dataset": "cifar"}, "dataset must be one of .*, got 'cifar'"),
        ({"name": "MLP"}, "input_shape and n_classes must be given .* None and None"),
        ({"name": "MLP", "input_shape": (4,)}, r"got \(4,\) and None"),
        ({"name": "LeNet", "dataset": "digits"}, r"at least 12, got \(1, 8, 8\)"),
        (
            {"name": "AlexNet", "dataset": "mnist"},
            r"must be \(channels, 32, 32\) for AlexNet, got \(1, 28, 28\)",
        ),
        (
            {"name": "ResNet50", "dataset": "mnist"},
            r"must be \(3, height, width\) for ResNet50, got \(1, 28, 28\)",
        ),
        (
            {"name": "WideResNet", "input_shape": (20,), "n_classes": 3},
            r"must be \(channels, height, width\) for WideResNet, got \(20,\)",
        ),
        ({"name": "MLP", "dataset": "digits", "input_shape": (0, 4)}, "ints >= 1, got"),
        ({"name": "MLP", "dataset": "digits", "input_shape": 64}, "ints >= 1, got 64"),
        ({"name": "MLP", "dataset": "digits", "n_classes": 1}, "int >= 2, got 1"),
        (
            {"name": "MLP", "dataset": "digits", "mean": (0.1, 0.2)},
            r"mean must be a float, or one for every channel .* got \(0.1, 0.2\)",
        ),
        (
            {"name": "MLP", "input_shape": (2,), "n_classes": 3, "std": (0.1, 0.2)},
            r"std must be a float, .* got \(0.1, 0.2\) for input_shape \(2,\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_network(**arguments)


def test_as_a_module_of_skorch(digits):
    X, _, y, _ = digits
    net = NeuralNetClassifier(
        make_network,
        module__name="WideResNet",
        module__dataset="digits",
        module__depth=10,
        criterion=nn.CrossEntropyLoss,
        max_epochs=1,
        train_split=None,
        verbose=0,
    )
    copy = clone(net)
    assert copy.module is make_network
    assert copy.get_params()["module__depth"] == 10
    copy.fit(X[:64], y[:64].astype(np.int64))
    assert len(copy.module_.model.block1.layer) == 1
    restored = pickle.loads(pickle.dumps(copy))
    np.testing.assert_array_equal(restored.predict_proba(X[:5]), copy.predict_proba(X[:5]))
    assert not hasattr(clone(copy), "module_")
    copy.set_params(module__widen_factor=1)
    assert copy.module_.model.fc.in_features == 64
