"""Parameters as JSON can hold them, with arrays as tensors beside it; and back.

Lists and what JSON knows stand for themselves, all else is a dict with one key, which
says what it is. Classes and functions are named, and so are the classes of objects.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import skorch.callbacks
import skorch.dataset
import torch
from skorch.utils import noop, to_numpy

from rs4a import bounds, networks, noises, objectives
from rs4a.bounds import Bound
from rs4a.nets.inference import Inference
from rs4a.noises import Noise
from rs4a.objectives import Objective
from rs4a.persistence.classifier_files import content_digest
from rs4a.persistence.tensors import State
from rs4a.utils.params import known_classes, without_former

__all__ = [
    "JsonReader",
    "JsonWriter",
    "in_words",
    "name_of_class",
    "name_of_thing",
    "own_classes",
    "unknown_names",
]

_JSON_TYPES = (bool, int, str, type(None))
#: Objects of which files hold the parameters, whoever wrote their class.
_PARAMETER_OBJECTS = (Noise, Bound, Objective, Inference)
_SCALARS = {
    name: np.dtype(name).type
    for name in (
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float16", "float32", "float64",
    )
}  # fmt: skip

# Things that a file may name: looked up, never imported.

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
LOADABLE: dict[str, Any] = {
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
_THING_NAMES = {id(each): name for name, each in LOADABLE.items()}


def name_of_class(kind: type[Any]) -> str | None:
    """Name of a class in `KNOWN_CLASSES`, if it is there."""
    return _CLASS_NAMES.get(kind)


def name_of_thing(thing: Any) -> str | None:
    """Name of a class or function in `LOADABLE`, if it is there."""
    return _THING_NAMES.get(id(thing))


class JsonWriter:
    """Turns values into plain ones, and collects their arrays as `tensors`."""

    def __init__(self) -> None:
        self.tensors: State = {}

    def write(self, value: Any) -> Any:
        """Value as JSON can hold it; what nothing can is named as unknown."""
        if type(value) in _JSON_TYPES:
            return value
        if isinstance(value, np.generic):
            return self._write_scalar(value)
        writers: dict[type[Any], Callable[[Any], Any]] = {
            float: self._write_float,
            list: self._write_list,
            tuple: self._write_tuple,
            torch.Size: self._write_tuple,
            dict: self._write_dict,
            np.ndarray: self._write_array,
            torch.Tensor: self._write_tensor,
        }
        return writers.get(type(value), self._write_thing)(value)

    def _write_float(self, value: float) -> Any:
        return value if math.isfinite(value) else {"float": str(value)}

    def _write_list(self, values: Any) -> list[Any]:
        return [self.write(each) for each in values]

    def _write_tuple(self, values: tuple[Any, ...]) -> dict[str, Any]:
        return {"tuple": self._write_list(values)}

    def _write_dict(self, values: dict[Any, Any]) -> dict[str, Any]:
        return {"dict": [self._write_list(item) for item in values.items()]}

    def _write_scalar(self, value: np.generic) -> dict[str, Any]:
        if isinstance(value, np.str_):
            return {"scalar": ["str", str(value)]}
        if value.dtype.name not in _SCALARS:
            return _unknown(value)
        return {"scalar": [value.dtype.name, self.write(value.item())]}

    def _write_array(self, values: np.ndarray) -> dict[str, Any]:
        if values.dtype.kind == "U":
            return {"strings": values.tolist()}
        if values.dtype == object and values.ndim == 1:
            return {"objects": self._write_list(values)}
        if values.dtype.name not in _SCALARS or not values.dtype.isnative:
            return _unknown(values)
        return {"array": self._kept(torch.from_numpy(np.array(values, order="C")))}

    def _write_tensor(self, values: torch.Tensor) -> dict[str, Any]:
        if values.layout != torch.strided or values.is_quantized:
            return _unknown(values)
        return {"tensor": self._kept(values)}

    def _kept(self, tensor: torch.Tensor) -> str:
        """Name that a tensor has in the file: equal ones have the same."""
        name = f"values/{content_digest('', {'': tensor})}"
        self.tensors[name] = tensor
        return name

    def _write_thing(self, value: Any) -> dict[str, Any]:
        thing, kind = name_of_thing(value), name_of_class(type(value))
        if thing is not None:
            return {"thing": thing}
        if kind is None and not isinstance(value, _PARAMETER_OBJECTS):
            return _unknown(value)
        params = self._write_dict(_params_of(value))["dict"]
        return {"object": [kind or type(value).__qualname__, params]}


def _unknown(value: Any) -> dict[str, Any]:
    return {"unknown": getattr(value, "__qualname__", type(value).__qualname__)}


def _params_of(value: Any) -> dict[str, Any]:
    if hasattr(value, "get_params"):
        return dict(value.get_params(deep=False))
    return dict(vars(value))  # skorch's ValidSplit


class JsonReader:
    """Turns plain values back, with arrays from `tensors`.

    Parameters
    ----------
    tensors : dict of str to torch.Tensor
        Tensors of the file.

    own : mapping of str to type
        Classes of the user's own, by name, that objects may have.
    """

    def __init__(self, tensors: State, own: Mapping[str, type[Any]]) -> None:
        self._tensors = tensors
        self._classes = {**KNOWN_CLASSES, **own}

    def read(self, plain: Any) -> Any:
        """The value."""
        if isinstance(plain, list):
            return [self.read(each) for each in plain]
        if not isinstance(plain, dict):
            return plain
        ((kind, content),) = plain.items()
        readers: dict[str, Callable[[Any], Any]] = {
            "float": float,
            "tuple": lambda each: tuple(self.read(each)),
            "dict": lambda each: dict(self.read(each)),
            "scalar": self._read_scalar,
            "strings": lambda each: np.array(each, dtype=np.str_),
            "objects": self._read_objects,
            "array": lambda each: self._tensors[each].numpy().copy(),
            "tensor": lambda each: self._tensors[each].clone(),
            "thing": LOADABLE.__getitem__,
            "object": self._read_object,
        }
        return readers[kind](content)

    def _read_scalar(self, content: Any) -> Any:
        name, value = content
        return np.str_(value) if name == "str" else _SCALARS[name](self.read(value))

    def _read_objects(self, content: Any) -> np.ndarray:
        values = np.empty(len(content), dtype=object)
        values[:] = self.read(content)
        return values

    def _read_object(self, content: Any) -> Any:
        name, params = content
        kind = self._classes[name]
        return kind(**without_former(kind, dict(self.read(params))))


def unknown_names(plain: Any, own: Mapping[str, Any] | None = None) -> list[str]:
    """Names in a plain value of what cannot be read from the file alone.

    Parameters
    ----------
    plain : object
        Plain value.

    own : mapping, default=None
        Names that are known besides.
    """
    return [name for name in _needed(plain) if name not in (own or {})]


def _needed(plain: Any) -> Iterator[str]:
    if isinstance(plain, list):
        for each in plain:
            yield from _needed(each)
    elif isinstance(plain, dict):
        for kind, content in plain.items():
            if kind == "unknown":
                yield content
            if kind == "object" and content[0] not in KNOWN_CLASSES:
                yield content[0]
            if kind == "thing" and content not in LOADABLE:
                yield content
            yield from _needed(content)


def own_classes(*objects: Any) -> dict[str, type[Any]]:
    """Classes of parameter objects, and of those inside, that files do not know."""
    found: dict[str, type[Any]] = {}
    for each in objects:
        if not isinstance(each, _PARAMETER_OBJECTS):
            continue
        if name_of_class(type(each)) is None:
            found[type(each).__qualname__] = type(each)
        found.update(own_classes(*_params_of(each).values()))
    return found


def in_words(plain: Any) -> str:
    """A plain value, for messages."""
    if isinstance(plain, list):
        return f"[{', '.join(map(in_words, plain))}]"
    if not isinstance(plain, dict):
        return repr(plain)
    ((kind, content),) = plain.items()
    if kind == "object":
        params = ", ".join(f"{name}={in_words(value)}" for name, value in content[1])
        return f"{content[0].rpartition('.')[2]}({params})"
    if kind == "tuple":
        return f"({', '.join(map(in_words, content))})"
    return str(content)
