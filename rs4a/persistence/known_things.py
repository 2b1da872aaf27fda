"""What a saved classifier may name: classes and functions, looked up and never imported."""

from typing import Any

import skorch.callbacks
import skorch.dataset
import torch
from skorch.utils import noop, to_numpy

from rs4a import bounds, networks, noises, objectives
from rs4a.nets.inference import Inference
from rs4a.utils.params import known_classes

__all__ = ["KNOWN_CLASSES", "KNOWN_THINGS", "name_of_class", "name_of_thing"]

_CALLBACKS = (
    "EarlyStopping", "EpochScoring", "GradientNormClipping", "LRScheduler",
    "PassthroughScoring", "PrintLog", "ProgressBar",
)  # fmt: skip
_NETWORKS = (
    "AlexNet", "CifarResNet", "LeNet", "Linear", "MLP", "ResNet110", "WideResNet",
    "make_network", "resnet50",
)  # fmt: skip
_OPTIMIZERS = (
    "ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS",
    "NAdam", "RAdam", "RMSprop", "Rprop", "SGD", "SparseAdam",
)  # fmt: skip
_LOSSES = ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")
_DTYPES = ("float16", "bfloat16", "float32", "float64")


def _public(module: Any, prefix: str, names: Any) -> dict[str, Any]:
    return {f"{prefix}.{name}": getattr(module, name) for name in names}


#: Classes of the objects that a file may hold; their parameters are those of the file.
KNOWN_CLASSES: dict[str, type[Any]] = {
    f"{module.__name__}.{name}": each
    for module in (bounds, noises, objectives)
    for name, each in known_classes(module).items()
    if hasattr(each, "get_params")
} | {
    "rs4a.Inference": Inference,
    "skorch.dataset.ValidSplit": skorch.dataset.ValidSplit,
    **_public(skorch.callbacks, "skorch.callbacks", _CALLBACKS),
}

#: What nets are made of: classes and functions that are parameters themselves.
KNOWN_THINGS: dict[str, Any] = {
    "skorch.NeuralNet": skorch.NeuralNet,
    "skorch.NeuralNetClassifier": skorch.NeuralNetClassifier,
    "skorch.dataset.Dataset": skorch.dataset.Dataset,
    "skorch.utils.noop": noop,
    "skorch.utils.to_numpy": to_numpy,
    "torch.utils.data.DataLoader": torch.utils.data.DataLoader,
    "print": print,
    **_public(networks, "rs4a.networks", _NETWORKS),
    **_public(torch.nn, "torch.nn", _LOSSES),
    **_public(torch.optim, "torch.optim", _OPTIMIZERS),
    **_public(torch, "torch", _DTYPES),
}

_CLASS_NAMES = {each: name for name, each in KNOWN_CLASSES.items()}
# By id: what is looked up need not be hashable.
_THING_NAMES = {id(each): name for name, each in KNOWN_THINGS.items()}


def name_of_class(kind: type[Any]) -> str | None:
    """Name of a class in `KNOWN_CLASSES`, if it is there."""
    return _CLASS_NAMES.get(kind)


def name_of_thing(thing: Any) -> str | None:
    """Name of a class or function in `KNOWN_THINGS`, if it is there."""
    return _THING_NAMES.get(id(thing))
