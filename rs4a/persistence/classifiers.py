"""Fitted smoothed classifiers as a header that JSON can hold, and tensors; and back."""

from numbers import Integral
from typing import Any

import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet

from rs4a.nets.fingerprint import different_settings, remember_noise
from rs4a.nets.modules import hidden_modules, own_state
from rs4a.persistence import nets
from rs4a.persistence.files import State
from rs4a.persistence.values import (
    JsonReader,
    JsonWriter,
    in_words,
    own_classes,
    unknown_names,
)

#: Parameters of the machine, and parameters that are written in another way.
_NOT_STORED = {"estimator", "memory", "n_jobs", "random_state", "verbose"}
_FITTED = (
    "classes_", "noise_", "input_shape_", "unit_range_", "n_features_in_",
    "feature_names_in_", "_objective", "_training_seed", "_sampling_seed", "_n_trainings",
    "_epochs_before", "_was_frozen", "_noise_of_fit",
)  # fmt: skip
#: Parameter objects, which may be of a user's class, and their copies of the fit.
_OBJECTS = {"noise": "noise_", "objective": "_objective", "bound": None}
_FROZEN = "frozen"


# Writing


def describe(classifier: Any) -> tuple[dict[str, Any], State]:
    """Header and tensors of a fitted classifier.

    Parameters
    ----------
    classifier : SmoothedClassifier
        Fitted classifier around a net.

    Returns
    -------
    header : dict
        All that JSON can hold.

    tensors : dict of str to torch.Tensor
        Arrays of the header, and weights.
    """
    writer, net = JsonWriter(), classifier.estimator_
    params = {
        name: value
        for name, value in classifier.get_params(deep=False).items()
        if name not in _NOT_STORED
    }
    fitted = {name: vars(classifier)[name] for name in _FITTED if hasattr(classifier, name)}
    # Of a generator, the file holds only the seeds that `fit` drew from it.
    seed = classifier.random_state
    header = {
        "params": _write_all(params, writer)
        | {"random_state": writer.write(seed if isinstance(seed, Integral) else None)},
        "fitted": _write_all(fitted, writer),
        "estimator": _write_estimator(classifier, writer),
        "net": nets.describe(net, writer),
        "state": nets.state_of(net, writer),
    }
    return header, {**writer.tensors, **nets.weights_of(net)}


def _write_all(values: dict[str, Any], writer: JsonWriter) -> dict[str, Any]:
    stored = {name: writer.write(value) for name, value in values.items()}
    for name, value in values.items():
        if unknown := unknown_names(stored[name], own_classes(value)):
            raise TypeError(
                f"{name}={value!r} cannot be saved, for a value of type {unknown[0]}: only "
                "numbers, strings, None, arrays, and lists and dicts of these can."
            )
    return stored


def _write_estimator(classifier: Any, writer: JsonWriter) -> Any:
    """The parameter `estimator`: None, that it is the net of the fit, or another net."""
    estimator = classifier.estimator
    if not isinstance(estimator, FrozenEstimator):
        return None if estimator is None else nets.describe(estimator, writer)
    if estimator.estimator is not classifier.estimator_:
        raise ValueError(
            "estimator must be the one of the last fit to be saved, got another frozen "
            "net. Call fit first."
        )
    return _FROZEN


def parts_to_give(classifier: Any, header: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `load` that a trial reading of a described classifier needs."""
    needs_net = any(map(nets.needed, _descriptions(header)))
    objects = {
        name: [vars(classifier)[each] for each in (name, fitted) if each is not None]
        for name, fitted in _OBJECTS.items()
    }
    return {
        "estimator": classifier.estimator if needs_net else None,
        "device": None if classifier.estimator_.device is None else "cpu",
        **{name: next(filter(own_classes, each), None) for name, each in objects.items()},
    }


def not_in_file(net: NeuralNet) -> str:
    """Parts of a net that no file holds, and where they belong, in words."""
    with torch.random.fork_rng(devices=[]):
        fresh = clone(net).initialize()
    found = {
        "No file holds the net's {}: make it a buffer of the module, or a parameter of the "
        "net.": own_state(net).keys() - net.get_params(deep=False),
        "No file holds modules that are no submodules ({}): put them into a "
        "torch.nn.ModuleList or ModuleDict.": {
            type(module).__qualname__ for module in hidden_modules(net)
        },
        "Set beside the module's parameters: {}. Make tensors buffers, and all else an "
        "argument of the module.": different_settings(net, fresh),
    }
    return "".join(
        f" {text.format(', '.join(sorted(names)))}"
        for text, names in found.items()
        if names
    )


def _descriptions(header: dict[str, Any]) -> list[dict[str, Any]]:
    """Descriptions of the fitted net, and of the net to train if there is another."""
    estimator = header["estimator"]
    return [header["net"], *([estimator] if isinstance(estimator, dict) else [])]


# Reading


def restore(
    cls: type[Any],
    header: dict[str, Any],
    tensors: State,
    estimator: Any,
    given: dict[str, Any],
    device: str | torch.device | None,
) -> Any:
    """Classifier of a header and tensors.

    Parameters
    ----------
    cls : type
        Class of the classifier.

    header, tensors : dict
        Content of the file, as `describe` made it.

    estimator : skorch.NeuralNet or None
        Net that the classifier was made with, if the user gave one.

    given : dict
        Parameter objects that the user gave, or None, by name.

    device : str, torch.device or None
        Device of the net.

    Returns
    -------
    classifier : SmoothedClassifier
        Fitted classifier.
    """
    own = own_classes(*given.values())
    reader = JsonReader(tensors, own)
    for name, value in given.items():
        _check_given(name, value, header, reader, own)
    untrained, net = _new_nets(header, reader, estimator)
    for each in filter(None, (untrained, net)):
        each.set_params(device=nets.device_of(each.device, device))
    nets.restore(net, header["state"], tensors, reader)
    trained_under = header["state"]["trained_under"]
    # A frozen net may have been trained under another noise of the user's.
    if trained_under is not None and not unknown_names(trained_under, own):
        remember_noise(net, reader.read(trained_under))
    params = {name: reader.read(stored) for name, stored in header["params"].items()}
    frozen = header["estimator"] == _FROZEN
    classifier = cls(FrozenEstimator(net) if frozen else untrained, **params)
    for name in set(_FITTED) & set(header["fitted"]):
        setattr(classifier, name, reader.read(header["fitted"][name]))
    classifier.estimator_ = net
    return classifier


def _new_nets(
    header: dict[str, Any], reader: JsonReader, estimator: Any
) -> tuple[NeuralNet | None, NeuralNet]:
    """The net to train, if the classifier has one, and the net that gets the weights."""
    if estimator is None:
        net, *others = (nets.build(each, reader) for each in _descriptions(header))
        return (others[0] if others else None), net
    if header["estimator"] is None:
        raise ValueError(
            "estimator must be None, as it was when the classifier was saved, got "
            f"{type(estimator).__name__}."
        )
    frozen = isinstance(estimator, FrozenEstimator)
    net = clone(estimator.estimator if frozen else estimator)
    nets.check(net, header["net"], header["state"]["parts"])
    return net, clone(net)


def _check_given(
    name: str, given: Any, header: dict[str, Any], reader: JsonReader, own: dict[str, Any]
) -> None:
    """Refuse an object that the file does not state, and a file that needs one."""
    fitted = _OBJECTS[name]
    stated = [header["params"][name], *([header["fitted"][fitted]] if fitted else [])]
    for stored in stated:
        if unknown := unknown_names(stored, own):
            raise ValueError(
                f"The file states {name}={in_words(stored)}, and the class {unknown[0]} is "
                f"none of rs4a's: give load the object that was used, as {name}=."
            )
    # Written anew: an older file lacks parameters that the class has now.
    known = [JsonWriter().write(reader.read(stored)) for stored in stated]
    if given is not None and JsonWriter().write(given) not in known:
        raise ValueError(
            f"{name} must be what the file states, {in_words(stated[-1])}, got {given}."
        )
