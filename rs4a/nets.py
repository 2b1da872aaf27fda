"""What smoothing needs of a skorch net: its outputs, labels, device, dtype and modes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch.nn.modules.batchnorm import _BatchNorm

from rs4a.networks import MLP

__all__ = [
    "check_known",
    "check_net",
    "check_outputs",
    "default_net",
    "evaluating",
    "given_classes",
    "net_device",
    "output_classes",
    "probe",
    "to_net",
]

_MODES_LOCK = threading.Lock()
#: By the id of a net in evaluation: its users, and its modules' modes before.
_MODES: dict[int, tuple[int, list[bool]]] = {}


# The net as a function


@contextmanager
def evaluating(net: Any) -> Iterator[None]:
    """Put a net's modules into evaluation mode, and each back as it was afterwards.

    Threads may share a net: the first one in keeps the modes, the last one out restores
    them.
    """
    modules = [module for root in _roots(net) for module in root.modules()]
    with _MODES_LOCK:
        users, modes = _MODES.get(id(net), (0, [module.training for module in modules]))
        _MODES[id(net)] = users + 1, modes
        for module in modules:
            module.training = False
    try:
        yield
    finally:
        with _MODES_LOCK:
            users, modes = _MODES.pop(id(net))
            if users > 1:
                _MODES[id(net)] = users - 1, modes
            else:
                for module, mode in zip(modules, modes, strict=True):
                    module.training = mode


def _roots(net: Any) -> list[torch.nn.Module]:
    """Modules of a skorch net, which may have more than one."""
    return [getattr(net, f"{name}_") for name in net._modules]


def net_device(net: Any) -> torch.device:
    """Device on which a net computes."""
    for root in _roots(net):
        for parameter in root.parameters():
            return parameter.device
    return torch.device(net.device or "cpu")


def to_net(net: Any, noisy: torch.Tensor) -> torch.Tensor:
    """Noisy inputs on a net's device and in its dtype.

    Noise is added in float32 before: to round the clean input to half precision might
    move it farther than its radius, to round the noisy one is part of the classifier.
    """
    parameters = (p for root in _roots(net) for p in root.parameters())
    dtype = next((p.dtype for p in parameters if p.is_floating_point()), noisy.dtype)
    return noisy.to(device=net_device(net), dtype=dtype)


def probe(net: Any, X: NDArray[np.float32], n_classes: int) -> int:
    """Number of outputs of a net; an error where it cannot be smoothed.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    X : ndarray of shape (n, ...), float32
        Inputs, of which the first is tried.

    n_classes : int
        Number of outputs that there must be at least.

    Returns
    -------
    n_outputs : int
        Length of the second axis of the outputs.

    Raises
    ------
    ValueError
        If the net cannot take the input, its outputs have another shape, or it takes
        statistics over the batch: then it is no function of one input.
    """
    for root in _roots(net):
        for name, module in root.named_modules():
            if isinstance(module, _BatchNorm) and module.running_mean is None:
                raise ValueError(
                    f"The net's layer {name} normalises by the statistics of its batch, so "
                    "its answer depends on other inputs and nothing can be certified. "
                    "Use track_running_stats=True."
                )
    first = torch.from_numpy(np.array(X[:1]))
    with evaluating(net), torch.inference_mode():
        try:
            outputs = net.infer(to_net(net, first))
        except RuntimeError as error:
            raise ValueError(
                f"The net cannot take X, whose inputs have shape {X.shape[1:]}: {error}"
            ) from error
        return check_outputs(outputs, 1, n_classes).shape[1]


def check_outputs(outputs: Any, batch_size: int, n_classes: int) -> torch.Tensor:
    """Return a net's outputs, (batch, C), or say what is wrong with their shape."""
    if isinstance(outputs, tuple):  # skorch's convention: the first counts
        outputs = outputs[0]
    if not isinstance(outputs, torch.Tensor):
        raise ValueError(
            "The net must return a tensor of shape (batch, n_classes), got "
            f"{type(outputs).__name__}."
        )
    shape = tuple(outputs.shape)
    if outputs.ndim != 2 or shape[0] != batch_size:
        raise ValueError(
            f"The net must return outputs of shape (batch, n_classes), got {shape} for "
            f"a batch of {batch_size}."
        )
    if shape[1] < max(2, n_classes):
        hint = " A net with one logit needs a second one." if shape[1] == 1 else ""
        raise ValueError(
            f"The net must return one output a class, at least {max(2, n_classes)} of "
            f"them, got {shape[1]}.{hint}"
        )
    return outputs


# The net as a classifier


def default_net(
    X: NDArray[np.float32], n_classes: int, noise_std: float
) -> NeuralNetClassifier:
    """Unfitted multilayer perceptron that standardises inputs with noise upon them."""
    variance = X.var(axis=0, dtype=np.float64) + noise_std**2
    return NeuralNetClassifier(
        MLP,
        module__input_shape=X.shape[1:],
        module__n_classes=max(2, n_classes),
        module__mean=X.mean(axis=0, dtype=np.float64),
        module__std=np.sqrt(variance),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.003,
        max_epochs=60,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks__print_log=None,
        verbose=0,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


def check_net(estimator: Any) -> None:
    """Refuse what is no net with one output a class."""
    net = estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
    if isinstance(net, NeuralNetBinaryClassifier):
        raise TypeError(
            "estimator must have one output a class, got a NeuralNetBinaryClassifier "
            "with one logit. Use skorch.NeuralNetClassifier with two outputs."
        )
    if isinstance(net, torch.nn.Module):
        raise TypeError(
            f"estimator must be a skorch net, got the torch module {type(net).__name__}. "
            "Wrap it: skorch.NeuralNetClassifier(module, classes=...), and if it is "
            "trained, FrozenEstimator(net.initialize())."
        )
    if not isinstance(net, NeuralNet):
        raise TypeError(
            "estimator must be a skorch.NeuralNetClassifier, one in a FrozenEstimator, "
            f"or None, got {type(net).__name__}."
        )


def given_classes(net: NeuralNet | None, labels: NDArray) -> NDArray:
    """Labels of the outputs of a net that is to be trained: its own list, or y's."""
    given = getattr(net, "classes", None)
    return np.unique(labels) if given is None else np.asarray(given)


def output_classes(net: NeuralNet, X: NDArray[np.float32]) -> NDArray:
    """Labels of the outputs of a trained net.

    skorch's targets are indices of outputs. So unless the net was given a list of
    labels, its labels are 0, 1, ..., also where training met only some of them.
    """
    given = getattr(net, "classes", None)
    n_outputs = probe(net, X, 2 if given is None else len(given))
    return np.arange(n_outputs) if given is None else np.asarray(given)


def check_known(y: NDArray, classes: NDArray, who: str) -> None:
    """Refuse labels that are not among the classes of `who`."""
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"y has labels that {who} does not know: {unknown.tolist()}. Known are "
            f"{classes.tolist()}."
        )
