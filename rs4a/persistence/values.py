"""Parameters as JSON can hold them, with arrays as tensors beside the JSON; and back.

Lists and JSON's own types stand for themselves. Every other value is a dict with one key,
which says the kind of the value. Classes and functions are named, and so are the classes of
objects.
"""

import math
from collections.abc import Callable, Container, Mapping
from typing import Any

import numpy as np
import skorch
import skorch.callbacks
import torch

from rs4a import bounds, networks, noises, objectives
from rs4a.bounds import Bound
from rs4a.nets.inference import Inference
from rs4a.noises import Noise
from rs4a.objectives import Objective
from rs4a.persistence.files import State, content_digest
from rs4a.utils.params import known_classes, without_former

#: Objects of which files hold the parameters, also if their class is a user's own.
_PARAMETER_OBJECTS = (Noise, Bound, Objective, Inference)

# Classes and functions that a file may name: looked up, never imported.

_CALLBACKS = (
    "EarlyStopping EpochScoring GradientNormClipping LRScheduler PassthroughScoring "
    "PrintLog ProgressBar"
)
_NETWORKS = (
    "AlexNet CifarResNet LeNet Linear MLP ResNet110 WideResNet make_network resnet50"
)
_OPTIMIZERS = (
    "ASGD Adadelta Adafactor Adagrad Adam AdamW Adamax LBFGS NAdam RAdam RMSprop Rprop "
    "SGD SparseAdam"
)


def _named(*modules: tuple[Any, str]) -> dict[str, Any]:
    """Some things of modules, by their dotted names."""
    return {
        f"{module.__name__}.{name}": getattr(module, name)
        for module, names in modules
        for name in names.split()
    }


#: Classes of the objects that a file may hold; their parameters are those of the file.
_KNOWN_CLASSES: dict[str, type[Any]] = {
    "rs4a.Inference": Inference,
    **_named((skorch.dataset, "ValidSplit"), (skorch.callbacks, _CALLBACKS)),
    **{
        f"{module.__name__}.{name}": each
        for module in (bounds, noises, objectives)
        for name, each in known_classes(module).items()
    },
}

#: Parts of nets: classes and functions that are parameters themselves.
_LOADABLE = {"print": print} | _named(
    (skorch, "NeuralNet NeuralNetClassifier"),
    (skorch.dataset, "Dataset"),
    (skorch.utils, "noop to_numpy"),
    (networks, _NETWORKS),
    (torch, "float16 bfloat16 float32 float64"),
    (torch.nn, "CrossEntropyLoss NLLLoss MultiMarginLoss"),
    (torch.optim, _OPTIMIZERS),
    (torch.utils.data, "DataLoader"),
)

_CLASS_NAMES = {each: name for name, each in _KNOWN_CLASSES.items()}
# By id: a thing need not be hashable.
_THING_NAMES = {id(each): name for name, each in _LOADABLE.items()}


class JsonWriter:
    """Turns values into JSON's types, and collects their arrays as `tensors`."""

    def __init__(self) -> None:
        self.tensors: State = {}

    def write(self, value: Any) -> Any:
        """Value as JSON can hold it; a value that nothing can hold is named as unknown."""
        if isinstance(value, np.generic):
            return self._write_scalar(value)
        writers: dict[type[Any], Callable[[Any], Any]] = {
            **dict.fromkeys((bool, int, str, type(None)), lambda each: each),
            float: lambda each: each if math.isfinite(each) else {"float": str(each)},
            list: self._write_list,
            tuple: lambda each: {"tuple": self._write_list(each)},
            torch.Size: lambda each: {"tuple": self._write_list(each)},
            dict: lambda each: {"dict": [self._write_list(item) for item in each.items()]},
            np.ndarray: self._write_array,
            torch.Tensor: self._write_tensor,
        }
        return writers.get(type(value), self._write_thing)(value)

    def _write_list(self, values: Any) -> list[Any]:
        return [self.write(each) for each in values]

    def _write_scalar(self, value: np.generic) -> dict[str, Any]:
        if isinstance(value, np.str_):
            return {"scalar": ["str", str(value)]}
        if not _is_number(value.dtype):
            return _unknown(value)
        return {"scalar": [value.dtype.name, self.write(value.item())]}

    def _write_array(self, values: np.ndarray) -> dict[str, Any]:
        if values.dtype.kind == "U":
            return {"strings": values.tolist()}
        if values.dtype == object and values.ndim == 1:
            return {"objects": self._write_list(values)}
        if not _is_number(values.dtype):
            return _unknown(values)
        return {"array": self._store(torch.from_numpy(np.array(values, order="C")))}

    def _write_tensor(self, values: torch.Tensor) -> dict[str, Any]:
        if values.layout != torch.strided or values.is_quantized:
            return _unknown(values)
        return {"tensor": self._store(values)}

    def _store(self, tensor: torch.Tensor) -> str:
        """Name that a tensor has in the file: equal tensors have the same name."""
        name = f"values/{content_digest('', {'': tensor})}"
        self.tensors[name] = tensor
        return name

    def _write_thing(self, value: Any) -> dict[str, Any]:
        kind = _CLASS_NAMES.get(type(value))
        if id(value) in _THING_NAMES:
            return {"thing": _THING_NAMES[id(value)]}
        if kind is None and not isinstance(value, _PARAMETER_OBJECTS):
            return _unknown(value)
        params = self.write(_params_of(value))["dict"]
        return {"object": [kind or type(value).__qualname__, params]}


def _is_number(dtype: np.dtype) -> bool:
    return dtype.kind in "biuf" and dtype.itemsize <= 8 and dtype.isnative


def _unknown(value: Any) -> dict[str, Any]:
    return {"unknown": getattr(value, "__qualname__", type(value).__qualname__)}


def _params_of(value: Any) -> dict[str, Any]:
    if hasattr(value, "get_params"):
        return dict(value.get_params(deep=False))
    return dict(vars(value))  # skorch's ValidSplit


class JsonReader:
    """Turns JSON's types back into values, with arrays from `tensors`.

    Parameters
    ----------
    tensors : dict of str to torch.Tensor
        Tensors of the file.

    own : mapping of str to type
        Classes of the user's own, by name, that objects may have.
    """

    def __init__(self, tensors: State, own: Mapping[str, type[Any]]) -> None:
        self._tensors = tensors
        self._classes = {**_KNOWN_CLASSES, **own}

    def read(self, stored: Any) -> Any:
        """Value that `JsonWriter` wrote."""
        if isinstance(stored, list):
            return [self.read(each) for each in stored]
        if not isinstance(stored, dict):
            return stored
        ((kind, content),) = stored.items()
        readers: dict[str, Callable[[Any], Any]] = {
            "float": float,
            "tuple": lambda each: tuple(self.read(each)),
            "dict": lambda each: dict(self.read(each)),
            "scalar": self._read_scalar,
            "strings": lambda each: np.array(each, dtype=np.str_),
            "objects": self._read_objects,
            "array": lambda each: self._tensors[each].numpy().copy(),
            "tensor": lambda each: self._tensors[each].clone(),
            "thing": _LOADABLE.__getitem__,
            "object": self._read_object,
        }
        return readers[kind](content)

    def _read_scalar(self, content: Any) -> Any:
        name, value = content
        return np.dtype(name).type(self.read(value))

    def _read_objects(self, content: Any) -> np.ndarray:
        values = np.empty(len(content), dtype=object)
        values[:] = self.read(content)
        return values

    def _read_object(self, content: Any) -> Any:
        name, params = content
        kind = self._classes[name]
        return kind(**without_former(kind, dict(self.read(params))))


def unknown_names(stored: Any, own: Container[str] = ()) -> list[str]:
    """Names in a stored value of things that the file alone does not give.

    Parameters
    ----------
    stored : object
        Value that `JsonWriter` wrote.

    own : container of str, default=()
        Further names that are known.
    """
    if isinstance(stored, list):
        return [name for each in stored for name in unknown_names(each, own)]
    if not isinstance(stored, dict):
        return []
    known: dict[str, Container[str]] = {
        "unknown": (),
        "object": _KNOWN_CLASSES,
        "thing": _LOADABLE,
    }
    names = []
    for kind, content in stored.items():
        name = content[0] if kind == "object" else content
        if kind in known and name not in known[kind] and name not in own:
            names.append(name)
        names += unknown_names(content, own)
    return names


def own_classes(*objects: Any) -> dict[str, type[Any]]:
    """Classes of parameter objects, and of the objects inside, that files do not know."""
    found: dict[str, type[Any]] = {}
    for each in objects:
        if isinstance(each, _PARAMETER_OBJECTS):
            if type(each) not in _CLASS_NAMES:
                found[type(each).__qualname__] = type(each)
            found.update(own_classes(*_params_of(each).values()))
    return found


def in_words(stored: Any) -> str:
    """A stored value, for messages."""
    if isinstance(stored, list):
        return f"[{', '.join(map(in_words, stored))}]"
    if not isinstance(stored, dict):
        return repr(stored)
    ((kind, content),) = stored.items()
    if kind == "object":
        params = ", ".join(f"{name}={in_words(value)}" for name, value in content[1])
        return f"{content[0].rpartition('.')[2]}({params})"
    return f"({in_words(content)[1:-1]})" if kind == "tuple" else str(content)
