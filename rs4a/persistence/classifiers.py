"""Fitted smoothed classifiers in files: parameters as JSON, weights as safetensors."""

import os
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from rs4a.bounds import Bound
from rs4a.nets.fingerprint import different_settings, remember_noise
from rs4a.nets.modules import hidden_modules, own_state
from rs4a.nets.outputs import check_is_net, check_net
from rs4a.noises import Noise
from rs4a.objectives import Objective
from rs4a.persistence.classifier_files import read_classifier_file, write_classifier_file
from rs4a.persistence.nets import (
    available_device,
    build_net,
    check_agrees,
    describe_net,
    needed_of_net,
    restore_net,
    state_of_net,
    weights_of_net,
)
from rs4a.persistence.tensors import State
from rs4a.persistence.values import (
    JsonReader,
    JsonWriter,
    in_words,
    own_classes,
    unknown_names,
)
from rs4a.utils.files import whole_file

__all__ = ["load_classifier", "save_classifier"]

#: What is about the machine, and what is written in another way.
_NOT_STORED = {"estimator", "memory", "n_jobs", "random_state", "verbose"}
_FITTED = (
    "classes_", "noise_", "input_shape_", "unit_range_", "n_features_in_",
    "feature_names_in_", "_objective", "_training_seed", "_sampling_seed", "_n_trainings",
    "_epochs_before", "_was_frozen", "_noise_of_fit",
)  # fmt: skip
#: Attributes of the fit that are copies of the parameters.
_FITTED_FROM = {"noise": "noise_", "objective": "_objective"}
_FROZEN = "frozen"
#: How a header fails that is none of ours.
_MALFORMED = (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError)


def save_classifier(classifier: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted classifier, as :meth:`rs4a.SmoothedClassifier.save` says.

    Parameters
    ----------
    classifier : SmoothedClassifier
        Fitted classifier.

    path : str or path-like
        File to write, under exactly this name.
    """
    check_is_fitted(classifier, "estimator_")
    check_is_net(
        classifier.estimator_,
        "save, whose files hold no pickle,",
        " joblib.dump keeps the others, for those who trust the file.",
    )
    header, tensors = _described(classifier)
    with whole_file(path) as partial:
        write_classifier_file(partial, header, tensors)
        _check_comes_back(partial, classifier, header)


def load_classifier(
    cls: type[Any],
    path: str | os.PathLike[str],
    *,
    estimator: Any = None,
    noise: Noise | None = None,
    objective: Objective | None = None,
    bound: Bound | None = None,
    device: str | torch.device | None = None,
) -> Any:
    """Read a classifier, as :meth:`rs4a.SmoothedClassifier.load` says.

    Parameters
    ----------
    cls : type
        The class of the classifier.

    path : str or path-like
        File to read.

    estimator : skorch.NeuralNet, default=None
        The net that the classifier was made with.

    noise, objective, bound : object, default=None
        The parameters whose classes are not of rs4a.

    device : str or torch.device, default=None
        Device of the net.

    Returns
    -------
    classifier : SmoothedClassifier
        Fitted classifier.
    """
    if estimator is not None:
        check_net(estimator)
    header, tensors = read_classifier_file(Path(path))
    given = {"noise": noise, "objective": objective, "bound": bound}
    try:
        return _restored(cls, header, tensors, estimator, given, device)
    except _MALFORMED as error:
        raise ValueError(
            f"{Path(path).name} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


# Writing


def _described(classifier: Any) -> tuple[dict[str, Any], State]:
    writer = JsonWriter()
    net = classifier.estimator_
    params = {
        name: value
        for name, value in classifier.get_params(deep=False).items()
        if name not in _NOT_STORED
    }
    fitted = {name: vars(classifier)[name] for name in _FITTED if hasattr(classifier, name)}
    seed = classifier.random_state
    header = {
        "params": _plain_values(params, writer)
        # Of a generator nothing is kept but the seeds that `fit` drew from it.
        | {"random_state": writer.write(seed if isinstance(seed, Integral) else None)},
        "fitted": _plain_values(fitted, writer),
        "estimator": _plain_estimator(classifier, writer),
        "net": describe_net(net, writer),
        "state": state_of_net(net, writer),
    }
    return header, {**writer.tensors, **weights_of_net(net)}


def _plain_values(values: dict[str, Any], writer: JsonWriter) -> dict[str, Any]:
    plain = {name: writer.write(value) for name, value in values.items()}
    for name, value in values.items():
        if unknown := unknown_names(plain[name], own_classes(value)):
            raise TypeError(
                f"{name}={value!r} cannot be saved, for a value of type {unknown[0]}: only "
                "numbers, strings, None, arrays, and lists and dicts of these can."
            )
    return plain


def _plain_estimator(classifier: Any, writer: JsonWriter) -> Any:
    """The parameter `estimator`: None, that it is the fit's net, or another net."""
    estimator = classifier.estimator
    if not isinstance(estimator, FrozenEstimator):
        return None if estimator is None else describe_net(estimator, writer)
    if estimator.estimator is not classifier.estimator_:
        raise ValueError(
            "estimator must be the one of the last fit to be saved, got another frozen "
            "net. Call fit first."
        )
    return _FROZEN


def _check_comes_back(partial: Path, classifier: Any, header: dict[str, Any]) -> None:
    given = {
        name: next(filter(own_classes, _holders(classifier, name)), None)
        for name in ("noise", "objective", "bound")
    }
    needs_net = any(map(needed_of_net, _nets(header)))
    try:
        load_classifier(
            type(classifier),
            partial,
            estimator=classifier.estimator if needs_net else None,
            device=None if classifier.estimator_.device is None else "cpu",
            **given,
        )
    except ValueError as error:
        raise ValueError(
            f"The classifier cannot be saved, since it would not come back: {error}"
            f"{_not_in_file(classifier.estimator_)}"
        ) from error


def _not_in_file(net: NeuralNet) -> str:
    """What of a net no file holds, in words."""
    words = ""
    if names := own_state(net).keys() - net.get_params(deep=False):
        words += (
            f" No file holds the net's {', '.join(sorted(names))}: make it a buffer of the "
            "module, or a parameter of the net."
        )
    if kinds := sorted({type(module).__qualname__ for module in hidden_modules(net)}):
        words += (
            f" No file holds modules that are no submodules ({', '.join(kinds)}): put them "
            "into a torch.nn.ModuleList or ModuleDict."
        )
    if names := _set_beside(net):
        words += (
            f" Set beside the module's parameters: {', '.join(names)}. Make tensors "
            "buffers, and all else an argument of the module."
        )
    return words


def _set_beside(net: NeuralNet) -> list[str]:
    """Attributes of modules that a net of the same parameters does not have."""
    with torch.random.fork_rng(devices=[]):
        return different_settings(net, clone(net).initialize())


def _holders(classifier: Any, name: str) -> tuple[Any, ...]:
    """A parameter, and its copy of the fit if there is one."""
    copy = _FITTED_FROM.get(name, name)
    return getattr(classifier, name), getattr(classifier, copy)


def _nets(header: dict[str, Any]) -> list[dict[str, Any]]:
    """Descriptions of the net, and of the one to train if that is another."""
    estimator = header["estimator"]
    return [header["net"], *([estimator] if isinstance(estimator, dict) else [])]


# Reading


def _restored(
    cls: type[Any],
    header: dict[str, Any],
    tensors: State,
    estimator: Any,
    given: dict[str, Any],
    device: str | torch.device | None,
) -> Any:
    own = own_classes(*given.values())
    reader = JsonReader(tensors, own)
    for name, value in given.items():
        _check_given(name, value, header, reader, own)
    untrained, net = _new_nets(header, reader, estimator)
    for each in filter(None, (untrained, net)):
        each.set_params(device=available_device(each.device, device))
    restore_net(net, header["state"], tensors, reader)
    trained_under = header["state"]["trained_under"]
    # A frozen net may be of other noise of the user's than the one that is given.
    if trained_under is not None and not unknown_names(trained_under, own):
        remember_noise(net, reader.read(trained_under))
    frozen = header["estimator"] == _FROZEN
    params = {name: reader.read(plain) for name, plain in header["params"].items()}
    classifier = cls(FrozenEstimator(net) if frozen else untrained, **params)
    for name in set(_FITTED) & set(header["fitted"]):
        setattr(classifier, name, reader.read(header["fitted"][name]))
    classifier.estimator_ = net
    return classifier


def _new_nets(
    header: dict[str, Any], reader: JsonReader, estimator: Any
) -> tuple[NeuralNet | None, NeuralNet]:
    """The net to train, if the classifier has one, and that which gets the weights."""
    if estimator is not None:
        return _given_nets(header, estimator)
    for description in _nets(header):
        if needed := needed_of_net(description):
            raise ValueError(
                "The file names parts of the net that it cannot hold, "
                f"{', '.join(needed)}: give load the net that the classifier was made "
                "with, as estimator=."
            )
    net, *others = (build_net(description, reader) for description in _nets(header))
    return (others[0] if others else None), net


def _given_nets(header: dict[str, Any], estimator: Any) -> tuple[NeuralNet, NeuralNet]:
    if header["estimator"] is None:
        raise ValueError(
            "estimator must be None, as it was when the classifier was saved, got "
            f"{type(estimator).__name__}."
        )
    frozen = isinstance(estimator, FrozenEstimator)
    net = clone(estimator.estimator if frozen else estimator)
    check_agrees(net, header["net"], header["state"]["parts"], JsonWriter())
    return net, clone(net)


def _check_given(
    name: str,
    given: Any,
    header: dict[str, Any],
    reader: JsonReader,
    own: Mapping[str, Any],
) -> None:
    """Refuse an object that the file does not state, and a file that needs one."""
    stated = [header["params"][name]]
    if name in _FITTED_FROM:
        stated.append(header["fitted"][_FITTED_FROM[name]])
    for plain in stated:
        if unknown := unknown_names(plain, own):
            raise ValueError(
                f"The file states {name}={in_words(plain)}, and the class {unknown[0]} is "
                f"none of rs4a's: give load the object that was used, as {name}=."
            )
    if given is None:
        return
    # Written anew: with the parameters that an older file did not have.
    known = [JsonWriter().write(reader.read(plain)) for plain in stated]
    if JsonWriter().write(given) not in known:
        raise ValueError(
            f"{name} must be what the file states, {in_words(stated[-1])}, got {given}."
        )
