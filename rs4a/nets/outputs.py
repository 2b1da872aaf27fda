"""Outputs, labels, device, dtype and modes of a skorch net."""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch.nn.modules.batchnorm import _BatchNorm

from rs4a.nets.inference import Inference, optimized
from rs4a.nets.modules import all_modules, modules_in, own_state, roots
from rs4a.utils.user_warnings import warn_user

#: Inputs on which a net is tried.
_TRIED = 8
#: Logarithm of a probability of 0, finite so that products with 0 are 0.
_LOWEST_LOG = -1e30
_MODES_LOCK = threading.Lock()
#: By the id of a net in evaluation: its users, and its modules with their modes before.
_MODES: dict[int, tuple[int, list[tuple[torch.nn.Module, bool]]]] = {}


# The net as a function


@contextmanager
def evaluating(net: Any) -> Iterator[None]:
    """Put a net's modules into evaluation mode, and each back as it was afterwards.

    Threads may share a net: the first thread notes the modes, the last one restores
    them. Modules that torch does not know take part in votes, too.
    """
    modules = all_modules(net)
    with _MODES_LOCK:
        known = 0, [(module, module.training) for module in modules]
        users, modes = _MODES.get(id(net), known)
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
                for module, mode in modes:
                    module.training = mode


@contextmanager
def without_gradients() -> Iterator[None]:
    """Compute no gradients, and make no inference tensors.

    A module may keep tensors of a forward pass: lazy parameters, tables, masks. Inference
    tensors, also those of a caller's inference mode, would make training impossible.
    """
    with torch.inference_mode(False), torch.no_grad():
        yield


def net_device(net: Any) -> torch.device:
    """Device on which a net computes."""
    for root in roots(net):
        for parameter in root.parameters():
            return parameter.device
    return torch.device(net.device or "cpu")


def to_device(net: Any, device: torch.device) -> None:
    """Move a net to a device, where it computes from then on."""
    net.device = str(device)
    for root in roots(net):
        root.to(device)


def to_net(net: Any, noisy: torch.Tensor) -> torch.Tensor:
    """Noisy inputs on a net's device and in its dtype.

    Noise is added in float32 before. Rounding a clean input to half precision might move
    it farther than its radius; rounding a noisy input is part of the classifier.
    """
    parameters = (p for root in roots(net) for p in root.parameters())
    dtype = next((p.dtype for p in parameters if p.is_floating_point()), noisy.dtype)
    return noisy.to(device=net_device(net), dtype=dtype)


def voting_nets(net: Any, inference: Inference | None, n_nets: int) -> list[Any]:
    """Nets that run as `inference` says, one per thread, with the weights of `net`.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net, in evaluation mode; it stays as it is.

    inference : Inference or None
        How the net is run. None: as it is.

    n_nets : int
        Number of nets asked for.

    Returns
    -------
    nets : list of skorch.NeuralNet
        Each has modules of its own, since a forward pass may keep its state in them; the
        nets share weights and buffers. Only one net where the modules cannot be copied, or
        where attributes of the net hold modules.
    """
    if modules_in(own_state(net)):
        n_nets = 1
    try:
        nets = [_with_modules(net, _twin) for _ in range(n_nets)] if n_nets > 1 else [net]
    except Exception:  # a user's module may hold anything
        nets = [net]
    if inference is None:
        return nets
    device = net_device(net)
    return [
        _with_modules(each, lambda module: optimized(module, inference, device))
        for each in nets
    ]


def _with_modules(net: Any, change: Callable[[torch.nn.Module], torch.nn.Module]) -> Any:
    """A shallow copy of a net with other modules."""
    twin = object.__new__(type(net))  # copy.copy would pickle the net, as skorch has it
    twin.__dict__.update(net.__dict__)
    for name in net._modules:
        twin.__dict__[f"{name}_"] = change(getattr(net, f"{name}_"))
    return twin


def _twin(module: torch.nn.Module) -> torch.nn.Module:
    """A copy of a module that shares its parameters and buffers."""
    shared = {id(each): each for each in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared)


def probe(net: Any, X: NDArray[np.float32], n_classes: int) -> torch.Tensor:
    """Outputs of a net for some inputs; an error where it cannot be smoothed.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    X : ndarray of shape (n, ...), float32
        Inputs, of which the first are tried.

    n_classes : int
        Number of outputs that there must be at least.

    Returns
    -------
    outputs : torch.Tensor of shape (n_tried, n_outputs)
        The outputs.

    Raises
    ------
    ValueError
        If the net cannot take the input, its outputs have another shape, or it uses
        statistics of the batch: then it is no function of one input.
    """
    for root in roots(net):
        for name, module in root.named_modules():
            if isinstance(module, _BatchNorm) and module.running_mean is None:
                raise ValueError(
                    f"The net's layer {name} normalises by the statistics of its batch, so "
                    "its answer depends on other inputs and nothing can be certified. "
                    "Use track_running_stats=True."
                )
    some = torch.from_numpy(np.array(X[:_TRIED]))
    with evaluating(net), without_gradients():
        try:
            outputs = net.infer(to_net(net, some))
        except RuntimeError as error:
            raise ValueError(
                f"The net cannot take X, whose inputs have shape {X.shape[1:]}: {error}"
            ) from error
        return check_outputs(outputs, len(some), n_classes)


def check_loss(net: Any, outputs: torch.Tensor) -> None:
    """Refuse, or warn of, logits or probabilities where the loss expects the other.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    outputs : torch.Tensor of shape (n, n_outputs)
        Its outputs for some inputs.

    Raises
    ------
    ValueError
        If the criterion is NLLLoss, with which skorch takes outputs for probabilities,
        and outputs are negative: the loss would be NaN.

    Warns
    -----
    UserWarning
        If the criterion is CrossEntropyLoss, which takes logits, and outputs are
        probabilities: the net would learn slowly, or not at all.
    """
    if type(net).get_loss is not NeuralNetClassifier.get_loss:
        return
    if isinstance(net.criterion_, torch.nn.NLLLoss):
        _log(outputs)
    sums_to_1 = ((outputs.double().sum(dim=1) - 1.0).abs() < 1e-3).all()
    is_probability = sums_to_1 and (outputs >= 0.0).all()
    if isinstance(net.criterion_, torch.nn.CrossEntropyLoss) and is_probability:
        warn_user(
            "The net's outputs are probabilities, but its criterion, CrossEntropyLoss, "
            "takes logits. Leave out the softmax, or use criterion=torch.nn.NLLLoss.",
            UserWarning,
        )


def check_outputs(outputs: Any, batch_size: int, n_classes: int) -> torch.Tensor:
    """Return a net's outputs, (batch, C), or raise an error about their shape."""
    if isinstance(outputs, tuple):  # skorch's convention: the first is the output
        outputs = outputs[0]
    is_tensor = isinstance(outputs, torch.Tensor)
    shape: Any = tuple(outputs.shape) if is_tensor else type(outputs).__name__
    if not is_tensor or outputs.ndim != 2 or shape[0] != batch_size:
        raise ValueError(
            "The net must return a tensor of shape (batch, n_classes), got "
            f"{shape} for a batch of {batch_size}."
        )
    if shape[1] < max(2, n_classes):
        hint = " A net with one logit needs a second one." if shape[1] == 1 else ""
        raise ValueError(
            f"The net must return one output per class, at least {max(2, n_classes)} of "
            f"them, got {shape[1]}.{hint}"
        )
    return outputs


def log_probabilities(net: Any, outputs: torch.Tensor) -> torch.Tensor:
    """Logarithms of the probabilities that a net's outputs stand for.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net, whose criterion tells logits from probabilities.

    outputs : torch.Tensor of shape (..., n_outputs)
        Outputs of the net.

    Returns
    -------
    log_proba : torch.Tensor of shape (..., n_outputs)
        In float32 or more, finite, and gradients flow through.

    Raises
    ------
    TypeError
        If the criterion does not tell it.
    ValueError
        If outputs that are probabilities by the criterion are negative.
    """
    nonlinearity = getattr(net, "predict_nonlinearity", "auto")
    criterion = net.criterion_
    outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    if callable(nonlinearity):  # of (n, n_outputs) in skorch
        rows = nonlinearity(outputs.reshape(-1, outputs.shape[-1]))
        return _log(rows).reshape(outputs.shape)
    if isinstance(criterion, torch.nn.NLLLoss) and isinstance(net, NeuralNetClassifier):
        return _log(outputs)  # skorch's convention: such nets give probabilities
    if isinstance(criterion, torch.nn.CrossEntropyLoss | torch.nn.NLLLoss):
        # A logit of -inf excludes a class; 0 log 0 must come out as 0.
        return torch.log_softmax(outputs, dim=-1).clamp_min(_LOWEST_LOG)
    raise TypeError(
        "The net's outputs must be known as logits or probabilities, got the criterion "
        f"{type(criterion).__name__}, which does not say. Use CrossEntropyLoss (logits) or "
        "NLLLoss (probabilities), or give the net predict_nonlinearity, the function from "
        "outputs to probabilities."
    )


def infer_log_proba(net: Any, X: torch.Tensor, n_classes: int = 2) -> torch.Tensor:
    """Run a net, and take the logarithms of its probabilities.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    X : torch.Tensor of shape (n, ...)
        Inputs, on any device and of any floating-point dtype.

    n_classes : int, default=2
        Number of outputs that there must be at least.

    Returns
    -------
    log_proba : torch.Tensor of shape (n, n_outputs)
        Finite but for NaN, and gradients flow through.
    """
    outputs = check_outputs(net.infer(to_net(net, X)), len(X), n_classes)
    return log_probabilities(net, outputs)


def infer_scores(net: Any, X: torch.Tensor, n_classes: int = 2) -> torch.Tensor:
    """Run a net, and return the numbers of which the largest is the class.

    These are its outputs, or the values of its `predict_nonlinearity`, if that is a
    function: it may change their order, and the net's own `predict` uses it.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    X : torch.Tensor of shape (n, ...)
        Inputs, on any device and of any floating-point dtype.

    n_classes : int, default=2
        Number of outputs that there must be at least.

    Returns
    -------
    scores : torch.Tensor of shape (n, n_classes)
        Of the first `n_classes` outputs.
    """
    outputs = check_outputs(net.infer(to_net(net, X)), len(X), n_classes)
    nonlinearity = getattr(net, "predict_nonlinearity", "auto")
    if callable(nonlinearity):
        outputs = check_outputs(nonlinearity(outputs), len(X), n_classes)
    return outputs[:, :n_classes]


def _log(probabilities: torch.Tensor) -> torch.Tensor:
    """Logarithm that is finite at 0."""
    if (probabilities < 0.0).any():
        raise ValueError(
            "The net's outputs must be probabilities, as its criterion or its "
            f"predict_nonlinearity says, got {float(probabilities.detach().min()):g}. For "
            "logits, give the net criterion=torch.nn.CrossEntropyLoss."
        )
    return torch.log(probabilities + torch.finfo(probabilities.dtype).eps)


# The net as a classifier


def check_net(estimator: Any) -> None:
    """Refuse an estimator that is not a net with one output per class."""
    net = estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
    if isinstance(net, NeuralNetBinaryClassifier):
        raise TypeError(
            "estimator must have one output per class, got a NeuralNetBinaryClassifier "
            "with one logit. Use skorch.NeuralNetClassifier with two outputs."
        )
    if isinstance(net, torch.nn.Module):
        raise TypeError(
            f"estimator must be a skorch net, got the torch module {type(net).__name__}. "
            "Wrap it: net = skorch.NeuralNetClassifier(module, "
            "criterion=torch.nn.CrossEntropyLoss), and if it is trained, "
            "sklearn.frozen.FrozenEstimator(net.initialize())."
        )
    if not isinstance(net, NeuralNet):
        is_class = isinstance(net, type)
        kind = f"the class {net.__name__}" if is_class else type(net).__name__
        raise TypeError(
            "estimator must be a skorch.NeuralNetClassifier, a scikit-learn classifier, "
            f"one of them in a FrozenEstimator, or None, got {kind}."
        )


def check_is_net(base: Any, who: str, remedy: str = "") -> None:
    """Refuse a classifier that is no net, where weights or gradients are needed."""
    if not isinstance(base, NeuralNet):
        raise TypeError(f"{who} needs a skorch net, got {type(base).__name__}.{remedy}")


def check_known(y: NDArray, classes: NDArray, who: str) -> None:
    """Refuse labels that are not among the classes that `who` knows."""
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"y has labels that {who} does not know: {unknown.tolist()}. Known are "
            f"{classes.tolist()}."
        )


def class_indices(y: NDArray, classes: NDArray, who: str) -> NDArray[np.int64]:
    """Indices of labels among the classes that `who` knows: indices of outputs."""
    check_known(y, classes, who)
    order = np.argsort(classes, kind="stable")
    return order[np.searchsorted(classes, y, sorter=order)].astype(np.int64)
