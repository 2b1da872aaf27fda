"""Trained networks in files: published layouts, what is refused, and older files."""

import json
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.networks import (
    NETWORKS,
    AlexNet,
    CifarResNet,
    LeNet,
    WideResNet,
    make_network,
    resnet50,
)
from rs4a.networks.dataset_shapes import dataset_shape
from rs4a.noises import Splitting, Uniform
from rs4a.persistence import load_checkpoint
from rs4a.persistence.checkpoints import _recognise

DATA = Path(__file__).parent.parent / "data"
MEAN, STD = (0.41, 0.52, 0.33), (0.21, 0.32, 0.13)
CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def known_names(file, key=None):
    """Names and shapes in a published file, without the prefix of the backbone."""
    names = json.loads((DATA / file).read_text())
    return names if key is None else names[key]


def randomised(backbone):
    """A backbone whose normalisations do something, in evaluation mode."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    return backbone.eval()


def weights(backbone, names=None):
    """State of a backbone under published names, whose shapes it must have."""
    state = backbone.state_dict()
    if names is None:
        return {n: v for n, v in state.items() if n not in ("mean", "std")}
    assert [list(value.shape) for value in state.values()] == list(names.values())
    return dict(zip(names, state.values(), strict=True))


def yang(backbone_state, mean=MEAN, std=STD, parallel=".module"):
    """As `torch.save(model.state_dict())` of Yang et al. has it."""
    mu = torch.tensor(mean).reshape(-1, 1, 1)
    log_sig = torch.tensor(std).log().reshape(-1, 1, 1)
    state = {f"norm{parallel}.mu": mu, f"norm{parallel}.log_sig": log_sig}
    return state | {f"model{parallel}.{n}": v for n, v in backbone_state.items()}


def cohen(backbone_state, arch, statistics=True, parallel=""):
    """As the training script of Cohen et al. has it."""
    state = OrderedDict()
    if statistics:
        state |= {"0.means": torch.tensor(MEAN), "0.sds": torch.tensor(STD)}
    state |= {f"1.{parallel}{n}": value for n, value in backbone_state.items()}
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1).state_dict()
    return {"epoch": 90, "arch": arch, "state_dict": state, "optimizer": optimizer}


def standardised(X, mean=MEAN, std=STD):
    """What the normalisation layer of Yang et al. does."""
    return by_sds(X, mean, torch.exp(torch.tensor(std).log()))


def by_sds(X, mean=MEAN, std=STD):
    """What that of Cohen et al. does."""
    means, sds = (torch.as_tensor(each).reshape(-1, 1, 1) for each in (mean, std))
    return (X - means) / sds


def logits(net, X):
    with torch.no_grad():
        return net.module_.eval()(X)


@pytest.fixture
def small():
    """A small trained net and its state as Yang et al. would have published it."""
    torch.manual_seed(0)
    backbone = randomised(WideResNet(depth=10, widen_factor=1))
    return backbone, yang(weights(backbone))


@pytest.fixture
def saved(small, tmp_path):
    path = tmp_path / "cifar_uniform_050.pt"
    torch.save(small[1], path)
    return path


# Published layouts


def wide_resnet():
    backbone = randomised(WideResNet(depth=40, widen_factor=2))
    return backbone, weights(backbone, known_names("wide_resnet_40_2_state.json"))


def resnet110(shortcut):
    backbone = randomised(CifarResNet(depth=110, shortcut=shortcut))
    names = known_names("cifar_resnet110_states.json", shortcut)
    if shortcut == "pad":  # Yang et al.'s name of the last layer
        names = {name.replace("fc.", "linear."): shape for name, shape in names.items()}
    return backbone, weights(backbone, names)


@pytest.mark.parametrize(
    ("make", "name", "options", "parallel"),
    [
        (wide_resnet, "WideResNet", {"depth": 40, "widen_factor": 2}, ".module"),
        (lambda: resnet110("pad"), "ResNet110", {"shortcut": "pad"}, ""),
    ],
    ids=["WideResNet", "ResNet110"],
)
def test_convolutional_nets_of_yang_et_al(make, name, options, parallel, tmp_path):
    torch.manual_seed(0)
    backbone, state = make()
    path = tmp_path / "cifar_uniform_0.5" / "model_ckpt.torch"
    path.parent.mkdir()
    torch.save(yang(state, parallel=parallel), path)
    net = load_checkpoint(path)
    X = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = backbone(standardised(X))
    torch.testing.assert_close(logits(net, X), expected)
    params = net.get_params_for("module")
    assert params["name"] == name
    assert {key: params[key] for key in options} == options
    assert params["input_shape"] == (3, 32, 32)
    assert params["n_classes"] == 10
    np.testing.assert_allclose(params["mean"], MEAN, rtol=1e-6)
    np.testing.assert_allclose(params["std"], STD, rtol=1e-6)
    assert list(net.classes) == list(range(10))
    assert net.device == "cpu"


@pytest.mark.parametrize(
    ("backbone", "shape", "expected"),
    [
        (lambda: LeNet((1, 28, 28)), (1, 28, 28), "LeNet"),
        (lambda: LeNet((3, 32, 32)), (3, 32, 32), "LeNet"),
        (lambda: AlexNet(), (3, 32, 32), "AlexNet"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), (1, 28, 28), "Linear"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 7)), (3, 32, 32), "Linear"),
    ],
    ids=["LeNet", "LeNet-colours", "AlexNet", "Linear", "Linear-colours"],
)
def test_other_nets_of_yang_et_al(backbone, shape, expected, tmp_path):
    torch.manual_seed(0)
    backbone = backbone().eval()
    state = weights(backbone)
    if expected == "Linear":
        state = {name.removeprefix("1."): value for name, value in state.items()}
    mean, std = MEAN[: shape[0]], STD[: shape[0]]
    torch.save(yang(state, mean, std, parallel=""), tmp_path / "net.pt")
    net = load_checkpoint(tmp_path / "net.pt")
    assert net.module__name == expected
    assert net.module__input_shape == shape
    X = torch.rand(4, *shape)
    torch.testing.assert_close(logits(net, X), backbone(standardised(X, mean, std)))


def test_perceptron_of_yang_et_al(tmp_path):
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 10)
    )
    assert list(backbone.state_dict())[::2] == ["0.weight", "2.weight", "4.weight"]
    state = yang(backbone.state_dict(), MEAN[:1], STD[:1], parallel="")
    torch.save(state, tmp_path / "net.pt")
    net = load_checkpoint(tmp_path / "net.pt")
    assert (net.module__name, net.module__hidden) == ("MLP", (20, 12))
    X = torch.rand(4, 1, 28, 28)
    expected = backbone(standardised(X, MEAN[:1], STD[:1]).flatten(1))
    torch.testing.assert_close(logits(net, X), expected)


def test_resnet50_of_yang_et_al_and_of_cohen_et_al(tmp_path):
    torch.manual_seed(0)
    backbone = randomised(resnet50())
    state = weights(backbone, known_names("resnet50_state.json"))
    X = torch.rand(2, 3, 64, 64)
    content = cohen(state, "resnet50", statistics=False, parallel="module.")
    torch.save(content, tmp_path / "checkpoint.pth.tar")
    net = load_checkpoint(tmp_path / "checkpoint.pth.tar")
    with torch.no_grad():
        torch.testing.assert_close(logits(net, X), backbone(by_sds(X, *IMAGENET)))
    assert net.module__name == "ResNet50"
    assert net.module__input_shape == (3, 224, 224)
    assert len(net.classes) == 1000
    arguments, same = _recognise(yang(state), None, {"dataset": "imagenet"})
    assert (arguments["name"], arguments["n_classes"]) == ("ResNet50", 1000)
    np.testing.assert_allclose(arguments["mean"], MEAN, rtol=1e-6)
    assert set(same) == set(net.module_.state_dict())


@pytest.mark.parametrize(("parallel", "zipped"), [("", True), ("module.", False)])
def test_nets_of_cohen_et_al(parallel, zipped, tmp_path):
    torch.manual_seed(0)
    backbone, state = resnet110("convolution")
    path = tmp_path / "checkpoint.pth.tar"
    content = cohen(state, "cifar_resnet110", parallel=parallel)
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    net = load_checkpoint(path)
    assert net.module__name == "ResNet110"
    assert net.module__shortcut == "convolution"
    X = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(logits(net, X), backbone(by_sds(X)))


@pytest.mark.parametrize("dataset", [None, "cifar10", "svhn"])
def test_nets_of_cohen_et_al_without_statistics(dataset, tmp_path):
    torch.manual_seed(0)
    backbone = randomised(CifarResNet(depth=20, shortcut="convolution"))
    content = cohen(weights(backbone), "cifar_resnet20", statistics=False)
    torch.save(content, tmp_path / "checkpoint.pth.tar")
    net = load_checkpoint(tmp_path / "checkpoint.pth.tar", dataset=dataset)
    statistics = CIFAR10
    if dataset == "svhn":
        statistics = (0.436, 0.442, 0.471), (0.197, 0.200, 0.196)
    X = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(logits(net, X), backbone(by_sds(X, *statistics)))
    assert (net.module__name, net.module__depth) == ("CifarResNet", 20)
    assert net.module__dataset == dataset


@pytest.mark.parametrize(
    ("backbone", "channels", "expected"),
    [
        (lambda: WideResNet(16, 3, n_classes=7, n_channels=1), 1,
         {"name": "WideResNet", "depth": 16, "widen_factor": 3, "n_classes": 7,
          "input_shape": (1, 28, 28)}),
        (lambda: CifarResNet(14, n_classes=1000), 3,
         {"name": "CifarResNet", "depth": 14, "n_classes": 1000, "shortcut": "pad",
          "input_shape": (3, 32, 32)}),
        (lambda: LeNet((2, 64, 64), n_classes=4), 2,
         {"name": "LeNet", "n_classes": 4, "input_shape": (2, 64, 64)}),
    ],
    ids=["WideResNet", "CifarResNet", "LeNet"],
)  # fmt: skip
def test_sizes_are_told_from_the_weights(backbone, channels, expected, tmp_path):
    state = yang(weights(backbone()), [0.5] * channels, [0.25] * channels)
    torch.save(state, tmp_path / "net.pt")
    net = load_checkpoint(tmp_path / "net.pt")
    params = net.get_params_for("module")
    assert {key: params[key] for key in expected} == expected
    assert list(net.classes) == list(range(expected["n_classes"]))


def test_what_the_weights_do_not_tell_is_given(tmp_path):
    backbone = nn.Sequential(nn.Linear(2 * 3 * 5, 4), nn.ReLU(), nn.Linear(4, 10))
    state = yang(backbone.state_dict(), MEAN[:2], STD[:2], parallel="")
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"net.pt .* Give input_shape= or dataset="):
        load_checkpoint(tmp_path / "net.pt")
    net = load_checkpoint(tmp_path / "net.pt", input_shape=(2, 3, 5))
    X = torch.rand(4, 2, 3, 5)
    expected = backbone(standardised(X, MEAN[:2], STD[:2]).flatten(1))
    torch.testing.assert_close(logits(net, X), expected)


def test_safetensors_of_others(small, tmp_path):
    backbone, state = small
    save_file(state, tmp_path / "net.bin", metadata={"format": "pt"})
    net = load_checkpoint(tmp_path / "net.bin", name="WideResNet", dataset="cifar10")
    X = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(logits(net, X), backbone(standardised(X)))


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model.module.fc.bias"),
         r"Missing key\(s\) in state_dict: .model.fc.bias"),
        (lambda s: s.pop("model.module.fc.weight"), "model.fc.weight is missing"),
        (lambda s: s.pop("model.module.block2.layer.0.convShortcut.weight"),
         "Missing key.* .model.block2.layer.0.convShortcut.weight"),
        (lambda s: s.pop("norm.module.log_sig"), "Missing key.* .norm.std"),
        (lambda s: [s.pop("norm.module.mu"), s.pop("norm.module.log_sig")],
         "Missing key.* .norm.mean., .norm.std"),
        (lambda s: s.update({"model.module.extra.weight": torch.zeros(2, 4)}),
         "Unexpected key.* .model.extra.weight"),
        (lambda s: s.update({"step": torch.zeros(1)}), "Unexpected key.* .step"),
        (lambda s: s.update({"model.module.conv1.weight": torch.zeros(16, 3, 5, 5)}),
         r"conv1.weight: .*\[16, 3, 5, 5\]\) from checkpoint"),
        (lambda s: s.update({"model.module.conv1.weight": torch.zeros(16, 1, 3, 3)}),
         "size mismatch for model.conv1.weight"),
        (lambda s: s.update({"model.module.fc.weight": torch.zeros(10)}),
         r"model.fc.weight must have more than 1 axes, got shape \(10,\)"),
        (lambda s: s.update({"model.module.fc.bias": torch.zeros(10, dtype=torch.int8)}),
         "model.fc.bias.* .*Only Tensors of floating point"),
        (lambda s: s.update({"norm.module.mu": torch.zeros(3, 32, 32)}),
         r"norm.mean must have shape \(channels, 1, 1\), got \(3, 32, 32\)"),
        (lambda s: s.update({"norm.module.log_sig": torch.full((3, 1, 1), 200.0)}),
         "std must be a finite float"),
        (lambda s: s.update({"norm.module.log_sig": torch.full((3, 1, 1), -200.0)}),
         "std must be above 0"),
        (lambda s: s.update({"model.fc.bias": torch.zeros(10)}), "two entries for"),
        (lambda s: s.update({"model.module.fc.bias": torch.full((10,), torch.nan)}),
         r"not finite: \['model.fc.bias'\]"),
        (lambda s: s.update({"norm.module.mu": torch.full((3, 1, 1), -torch.inf)}),
         r"mean must be a finite float"),
        (lambda s: s.update({"epoch": 3}), "holds no dict of tensors by name"),
        (lambda s: s.update({3: torch.zeros(3)}), "holds no dict of tensors by name"),
        (lambda s: s.update({"step": torch.zeros(3, device="meta")}), "holds no dict"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(small, tmp_path, change, message):
    state = dict(small[1])
    change(state)
    path = tmp_path / "cifar_uniform_050.pt"
    torch.save(state, path)
    with pytest.raises(ValueError, match=rf"cifar_uniform_050.pt .*{message}"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "LeNet"}, "Missing key.* .model.conv2.weight"),
        ({"name": "VGG"}, "name must be one of"),
        ({"dataset": "cifar"}, "dataset must be one of"),
        (
            {"dataset": "imagenet32"},
            r"model.fc.weight: .* model is .*\[1000, 64\]",
        ),
        ({"dataset": "mnist"}, "mean must be a float, or one for every channel"),
        ({"n_classes": 7}, r"mismatch for model.fc.weight: .* model is .*\[7, 64\]"),
        ({"n_classes": 0}, "n_classes must be an int >= 2, got 0"),
        ({"input_shape": ()}, r"input_shape must be a sequence of ints >= 1, got \(\)"),
        ({"depth": 16}, "Missing key.* .model.block1.layer.1.bn1.weight"),
        ({"drop_rate": 0.5}, "drop_rate"),
    ],
)
def test_another_network_than_asked_for_is_refused(saved, arguments, message):
    with pytest.raises(ValueError, match=f"{saved.name} cannot be loaded: .*{message}"):
        load_checkpoint(saved, **arguments)


def test_errors_name_the_first_few_entries(saved):
    with pytest.raises(ValueError, match="Missing key") as info:
        load_checkpoint(saved, name="ResNet110")
    assert len(str(info.value)) < 500


def test_statistics_cannot_be_given(saved):
    with pytest.raises(ValueError, match="mean and std are read from the file"):
        load_checkpoint(saved, mean=0.5)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {"state_dict": None}, "text"])
def test_files_of_torch_that_hold_something_else(content, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="x.pt holds no dict of tensors by name"):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("names", [["weight", "bias"], ["a.b"], []])
def test_weights_of_unknown_nets(names, tmp_path):
    torch.save({name: torch.zeros(2, 2) for name in names}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="x.pt .* are those of no network"):
        load_checkpoint(tmp_path / "x.pt")


class Malicious:
    """What pickle would call a function for."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_is_run(zipped, small, tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "x.pt"
    content = {**small[1], "model.module.x": Malicious(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="x.pt is not a whole file of weights alone"):
        load_checkpoint(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # what others would do
    assert trace.exists()


def test_plain_pickles_are_not_read(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(Malicious(trace)))
    with pytest.raises(ValueError, match="x.pkl is not a whole file of weights alone"):
        load_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize("write", ["zipped", "legacy", "safetensors"])
def test_files_cut_short(write, share, small, tmp_path):
    path = tmp_path / "x.pt"
    if write == "safetensors":
        save_file(small[1], path)
    else:
        torch.save(small[1], path, _use_new_zipfile_serialization=write == "zipped")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="x.pt is not a whole file of weights alone"):
        load_checkpoint(path)


def test_missing_files(tmp_path):
    for read in (load_checkpoint, SmoothedClassifier.from_checkpoint):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "x.pt")


# One's own files


def network(**params):
    """An initialised net of make_network."""
    options = {"module__name": "MLP", "module__dataset": "digits", "verbose": 0}
    return NeuralNetClassifier(
        make_network, criterion=nn.CrossEntropyLoss, **{**options, **params}
    ).initialize()


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "ResNet50"])
def test_what_skorch_saves_of_a_net_comes_back(name, tmp_path):
    torch.manual_seed(0)
    params = {"WideResNet": {"module__depth": 10}, "CifarResNet": {"module__depth": 8}}
    dataset = "cifar10"
    options = {"module__name": name, "module__dataset": dataset, **params.get(name, {})}
    net = network(**options)
    randomised(net.module_)
    path = tmp_path / "net.safetensors"
    net.save_params(f_params=path, use_safetensors=True)
    restored = load_checkpoint(path)
    X = torch.rand(2, *dataset_shape(dataset).input_shape)
    assert torch.equal(logits(restored, X), logits(net, X))
    assert restored.module__name == name
    assert list(restored.classes) == list(range(dataset_shape(dataset).n_classes))
    again = clone(restored).initialize()
    assert torch.equal(again.module_.norm.std, net.module_.norm.std)


# Files of save_checkpoint in version 0.1.0


OLD_FILE = DATA / "checkpoint_of_0_1_0.safetensors"


def test_a_file_of_0_1_0_comes_back():
    net = load_checkpoint(OLD_FILE)
    assert net.classes == ["a", "b", "c"]
    assert net.get_params_for("module") == {
        "name": "MLP", "input_shape": (2, 3), "n_classes": 3, "hidden": (4,),
        "mean": 0.5, "std": 0.25,
    }  # fmt: skip
    X = torch.arange(12.0).reshape(2, 2, 3) / 12.0
    expected = [[-0.41292739, -0.94943255, 0.33166346], [0.0407342, -0.7237826, 0.36061287]]
    torch.testing.assert_close(logits(net, X), torch.tensor(expected))


def test_a_classifier_of_a_file_of_0_1_0():
    for noise in (None, Splitting(lambd=0.5, levels=16)):
        clf = SmoothedClassifier.from_checkpoint(OLD_FILE, noise=noise)
        assert str(clf.noise_) == "Splitting(lambd=0.5, levels=16, seed=7)"
        assert clf.classes_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="the template that the net was trained under"):
        SmoothedClassifier.from_checkpoint(
            OLD_FILE, noise=clone(clf.noise_).set_params(seed=8)
        )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{", "JSONDecodeError"),
        (100_000 * "[", "RecursionError"),
        ("[]", "TypeError"),
        ('{"format": 1}', "KeyError"),
    ],
)
def test_damaged_headers(header, message, tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(network().module_.state_dict(), path, metadata={"rs4a": header})
    for read in (load_checkpoint, SmoothedClassifier.from_checkpoint):
        with pytest.raises(ValueError, match=f"is not a whole file .*{message}"):
            read(path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"classes": 5}, "cannot be loaded: object of type 'int'"),
        ({"classes": [*range(9), 1]}, "a label of its own for each of 10 outputs, got"),
        ({"classes": [*range(9), "1"]}, "a label of its own for each of 10 outputs, got"),
        ({"classes": []}, "cannot be loaded: .* each of 10 outputs, got "),
        ({"classes": list(range(9))}, "cannot be loaded: .* each of 10 outputs, got "),
        ({"user": [1]}, "TypeError"),
        ({"user": None}, "TypeError"),
        ({"network": []}, "AttributeError"),
        ({"network": {}}, "cannot be loaded: .*name"),
        ({"network": {"name": "x"}}, "cannot be loaded: name must be one of"),
        ({"network": {"name": "MLP", "dataset": {}}}, "cannot be loaded: "),
        ({"network": {"name": "MLP", "dataset": "digits", "mean": {}}}, "cannot be loaded"),
        ({"network": {"name": "MLP", "dataset": "digits", "hidden": [7]}},
         "cannot be loaded: .* mismatch for model.layers.0.weight"),
        ({"network": {"name": "MLP", "dataset": "digits", "hidden": [-7]}},
         "cannot be loaded: "),
        ({"network": {"name": "MLP", "dataset": "digits", "hidden": [10**30]}},
         "cannot be loaded: "),
    ],
)  # fmt: skip
def test_wrong_entries_of_headers(entries, message, tmp_path):
    path = tmp_path / "net.safetensors"
    network_entry = {"name": "MLP", "dataset": "digits"}
    header = {"format": 1, "network": network_entry, "classes": list(range(10)), "user": {}}
    text = json.dumps(header)
    save_file(network().module_.state_dict(), path, metadata={"rs4a": text})
    load_checkpoint(path)
    text = json.dumps(header | entries)
    save_file(network().module_.state_dict(), path, metadata={"rs4a": text})
    with pytest.raises(ValueError, match=f"net.safetensors .*{message}"):
        load_checkpoint(path)


# Files that ask for more memory than they have


@pytest.fixture
def no_net(monkeypatch):
    """Fail where a net is made in memory."""

    def unwanted(*args, **kwargs):
        raise AssertionError("a network was made")

    monkeypatch.setattr("rs4a.persistence.checkpoints.NeuralNetClassifier", unwanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "MLP", "input_shape": [60_000], "hidden": [20_000]}, "Missing key"),
        ({"name": "MLP", "input_shape": [60_000], "hidden": [10] * 1000}, "1000 layers"),
        ({"name": "WideResNet", "input_shape": [3, 32, 32], "depth": 6 * 10**7 + 4},
         "a network of 60000004 layers has more weights than the 1 in the file"),
        ({"name": "Linear", "input_shape": [10**9, 10**9]}, "Missing key"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("no_net")
def test_headers_that_ask_for_a_large_net(options, message, tmp_path):
    path = tmp_path / "net.safetensors"
    header = {"format": 1, "network": {"n_classes": 2, **options}, "classes": [0, 1]}
    text = json.dumps({**header, "user": {}})
    save_file({"x": torch.zeros(1)}, path, metadata={"rs4a": text})
    with pytest.raises(ValueError, match=f"net.safetensors cannot be loaded: .*{message}"):
        load_checkpoint(path)


def test_views_that_repeat_a_value_are_refused(small, tmp_path):
    path = tmp_path / "x.pt"
    for name in ("model.module.fc.weight", "norm.module.mu"):
        view = torch.zeros(1).expand(3_000_000_000).reshape(-1, 1, 1)
        torch.save({**small[1], name: view}, path)
        with pytest.raises(ValueError, match="x.pt has 12.* bytes of weights in a file of"):
            load_checkpoint(path)
    shared = torch.zeros(100_000)
    torch.save({f"model.{i}.weight": shared for i in range(20)}, path)
    with pytest.raises(ValueError, match="x.pt has 8000000 bytes of weights in a file of"):
        load_checkpoint(path)


def test_outputs_without_weights_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    state = {"model.weight": torch.zeros(3_000_000_000, 0), "norm.mu": torch.zeros(1, 1, 1)}
    torch.save(state, path)
    with pytest.raises(ValueError, match="x.pt cannot be loaded"):
        load_checkpoint(path)


def test_compressed_weights_are_refused(tmp_path, monkeypatch):
    """torch would read them, into a thousand times as much memory."""
    plain, path = tmp_path / "plain.pt", tmp_path / "x.pt"
    torch.save({"model.weight": torch.zeros(1_000_000)}, plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert torch.load(path, weights_only=True)["model.weight"].shape == (1_000_000,)
    monkeypatch.delattr(torch, "load")  # no memory is taken before
    with pytest.raises(ValueError, match="x.pt is not a whole file .* ValueError in"):
        load_checkpoint(path)


def test_weights_of_rare_dtypes_are_refused_or_read(small, tmp_path):
    path = tmp_path / "x.pt"
    bias = small[1]["model.module.fc.bias"]
    torch.save({**small[1], "model.module.fc.bias": bias.half()}, path)
    assert load_checkpoint(path).module_.model.fc.bias.dtype == torch.float32
    for dtype in (torch.float8_e4m3fn, torch.complex64):
        torch.save({**small[1], "model.module.fc.bias": bias.to(dtype)}, path)
        with pytest.raises(ValueError, match="x.pt cannot be loaded: "):
            load_checkpoint(path)


# Statistics that are not in the file


def test_statistics_are_only_assumed_for_files_of_cohen_et_al(tmp_path):
    path = tmp_path / "x.pt"
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
    assert list(backbone.state_dict()) == ["1.weight", "1.bias"]
    for content in (
        backbone.state_dict(),
        {"state_dict": backbone.state_dict()},
        {"state_dict": backbone.state_dict(), "arch": None},
    ):
        torch.save(content, path)
        with pytest.raises(
            ValueError,
            match="x.pt cannot be loaded: it has no mean and std .*Give dataset=",
        ):
            load_checkpoint(path)
    net = load_checkpoint(path, dataset="svhn")
    X = torch.rand(2, 3, 32, 32)
    expected = backbone(by_sds(X, (0.436, 0.442, 0.471), (0.197, 0.200, 0.196)))
    torch.testing.assert_close(logits(net, X), expected.detach())


# A loaded net as an estimator


def test_clone_and_pickle(saved):
    net = load_checkpoint(saved)
    X = np.random.default_rng(0).random((4, 3, 32, 32), dtype=np.float32)
    restored = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(restored.predict_proba(X), net.predict_proba(X))
    fresh = clone(net)
    assert fresh.get_params_for("module") == net.get_params_for("module")
    fresh.set_params(max_epochs=1).fit(X, np.array([0, 1, 2, 9]))
    assert fresh.predict_proba(X).shape == (4, 10)
    assert torch.equal(fresh.module_.norm.std, net.module_.norm.std)


def test_certification_by_a_loaded_net(saved):
    X = np.random.default_rng(0).random((3, 3, 32, 32), dtype=np.float32)
    clf = SmoothedClassifier(
        FrozenEstimator(load_checkpoint(saved)),
        noise=Uniform(sigma=0.5),
        bound=ClopperPearson(n=100),
        random_state=0,
    ).fit(X, [0, 1, 2])
    assert clf.classes_.tolist() == list(range(10))
    certification = clf.certify(X)
    assert certification.counts.sum(axis=1).tolist() == [100] * 3
    assert (certification.radius(norm=1) >= 0.0).all()


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model", "net"])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module.", "module._orig_mod."])
@pytest.mark.parametrize("inner", ["", "model."])
def test_what_scripts_of_training_put_around_weights(tmp_path, key, prefix, inner):
    backbone = CifarResNet(depth=8, shortcut="convolution").state_dict()
    state = {"norm.mu": torch.zeros(3, 1, 1), "norm.log_sig": torch.zeros(3, 1, 1)}
    state |= {f"{inner}{name}": value for name, value in backbone.items()}
    state = {f"{prefix}{name}": value for name, value in state.items()}
    content = state if key is None else {key: state, "epoch": 1, "optimizer": {"lr": 0.1}}
    torch.save(content, tmp_path / "net.pt")
    net = load_checkpoint(tmp_path / "net.pt")
    weights = net.module_.state_dict()
    assert all(torch.equal(weights[f"model.{k}"], v) for k, v in backbone.items())


def test_several_states_in_one_file_are_refused(tmp_path):
    state = {"weight": torch.zeros(2)}
    torch.save({"model": state, "net": state}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="several dicts of tensors by name: model, net"):
        load_checkpoint(tmp_path / "net.pt")
