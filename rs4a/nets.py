"""What smoothing needs of a skorch net: its outputs, labels, device, dtype and modes."""

import copy
import hashlib
import threading
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch.nn.modules.batchnorm import _BatchNorm

from rs4a.inference import Inference, optimized
from rs4a.networks import MLP
from rs4a.utils.description import describe_plain

__all__ = [
    "check_is_net",
    "check_known",
    "check_loss",
    "check_net",
    "check_outputs",
    "class_indices",
    "default_net",
    "evaluating",
    "fingerprint",
    "given_classes",
    "hidden_modules",
    "infer_log_proba",
    "infer_scores",
    "learned_criteria",
    "log_probabilities",
    "net_device",
    "output_classes",
    "own_state",
    "probe",
    "roots",
    "to_device",
    "to_net",
    "voting_nets",
]

#: Inputs on which a net is tried.
_TRIED = 8
#: Logarithm of a probability of 0, finite so that products with 0 are 0.
_LOWEST_LOG = -1e30
#: Attributes of a module that are not settings: its parts, its mode, and torch's own.
_NO_SETTINGS = {name for name in vars(torch.nn.Module()) if not name.endswith("_hooks")}
#: Attributes of a net that are skorch's or this library's, and decide no vote.
_NO_SAY = {
    *signature(NeuralNet).parameters, *signature(NeuralNetClassifier).parameters,
    "_modules", "_criteria", "_optimizers", "_params_to_validate", "callbacks_",
    "classes_inferred_", "cuda_dependent_attributes_", "history_", "init_context_",
    "initialized_", "prefixes_", "smoothing_", "trained_under_", "virtual_params_",
}  # fmt: skip
#: What may hold modules that torch does not know of.
_MAY_HOLD = (
    torch.nn.Module, dict, list, tuple, set, frozenset, types.MethodType, partial,
)  # fmt: skip
_MODES_LOCK = threading.Lock()
#: By the id of a net in evaluation: its users, and its modules with their modes before.
_MODES: dict[int, tuple[int, list[tuple[torch.nn.Module, bool]]]] = {}


# The net as a function


@contextmanager
def evaluating(net: Any) -> Iterator[None]:
    """Put a net's modules into evaluation mode, and each back as it was afterwards.

    Threads may share a net: the first one in keeps the modes, the last one out restores
    them. Modules that torch does not know of vote too.
    """
    modules = _all_modules(net)
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


def roots(net: Any) -> list[torch.nn.Module]:
    """Modules of a skorch net, which may have more than one."""
    return [getattr(net, f"{name}_") for name in net._modules]


def own_state(net: Any) -> dict[str, Any]:
    """What a net knows besides skorch's own: of its class, of its user, or of its fit.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    Returns
    -------
    state : dict
        Attributes by name, on which votes may depend.
    """
    parts = {f"{name}_" for name in (*net._modules, *net._criteria, *net._optimizers)}
    of_parts = tuple(f"{prefix}__" for prefix in net.prefixes_)
    state = {
        name: value
        for name, value in sorted(vars(net).items())
        if name not in _NO_SAY | parts and not name.startswith(of_parts)
    }
    if callable(getattr(net, "predict_nonlinearity", None)):
        state["predict_nonlinearity"] = net.predict_nonlinearity
    return state


def _all_modules(net: Any) -> list[torch.nn.Module]:
    """Modules of a net, also those that lists, attributes and methods hide from torch."""
    return _modules_in([*roots(net), own_state(net), learned_criteria(net)])


def hidden_modules(net: Any) -> list[torch.nn.Module]:
    """Modules that a net may ask, though it and its modules do not register them.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    Returns
    -------
    modules : list of torch.nn.Module
        torch does not train, save or move them, nor put them into evaluation mode.
    """
    parts = (*roots(net), *learned_criteria(net).values())
    known = {id(module) for part in parts for module in part.modules()}
    return [module for module in _all_modules(net) if id(module) not in known]


def learned_criteria(net: Any) -> dict[str, torch.nn.Module]:
    """Criteria of a net that have weights, by which its own `infer` may go.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    Returns
    -------
    criteria : dict of torch.nn.Module
        By name.
    """
    criteria = {name: getattr(net, f"{name}_") for name in net._criteria}
    return {
        name: each
        for name, each in criteria.items()
        if isinstance(each, torch.nn.Module) and each.state_dict()
    }


def _modules_in(thing: Any) -> list[torch.nn.Module]:
    """Modules that something refers to, each once, in an order that is always the same."""
    modules, waiting = [], [thing]
    met: dict[int, Any] = {}  # with the objects, lest an id be reused
    while waiting:
        each = waiting.pop()
        if id(each) in met:
            continue
        met[id(each)] = each
        if isinstance(each, torch.nn.Module):
            modules.append(each)
        inner = [part for part in _referred(each) if isinstance(part, _MAY_HOLD)]
        waiting.extend(reversed(inner))
    return modules


def _referred(holder: Any) -> list[Any]:
    if isinstance(holder, torch.nn.Module):
        return [
            *holder.children(),
            *(
                each
                for name, each in vars(holder).items()
                # A module has a dozen kinds of hooks, and mostly none.
                if name not in _NO_SETTINGS and (type(each) is not OrderedDict or each)
            ),
        ]
    if isinstance(holder, dict):
        return list(holder.values())
    if isinstance(holder, types.MethodType):
        return [holder.__self__]
    if isinstance(holder, partial):
        return [holder.func, *holder.args, *holder.keywords.values()]
    return list(holder)


def net_device(net: Any) -> torch.device:
    """Device on which a net computes."""
    for root in roots(net):
        for parameter in root.parameters():
            return parameter.device
    return torch.device(net.device or "cpu")


def to_device(net: Any, device: torch.device) -> None:
    """Move a net, which goes on computing there."""
    net.device = str(device)
    for root in roots(net):
        root.to(device)


def to_net(net: Any, noisy: torch.Tensor) -> torch.Tensor:
    """Noisy inputs on a net's device and in its dtype.

    Noise is added in float32 before: to round the clean input to half precision might
    move it farther than its radius, to round the noisy one is part of the classifier.
    """
    parameters = (p for root in roots(net) for p in root.parameters())
    dtype = next((p.dtype for p in parameters if p.is_floating_point()), noisy.dtype)
    return noisy.to(device=net_device(net), dtype=dtype)


def voting_nets(net: Any, inference: Inference | None, n_nets: int) -> list[Any]:
    """Nets that run as `inference` says, one a thread, with the weights of `net`.

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
        Each has modules of its own, since a forward pass may keep its state in them; what
        they learned is shared. Just one where the modules cannot be copied, or the net
        has others that it does not count among them.
    """
    if _modules_in(own_state(net)):
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


def fingerprint(net: Any) -> str:
    """Digest of a net: its modules' classes, what they learned, and their settings.

    Settings are the attributes and arguments of the modules, and what the net's own class
    or its user adds to it. Classes and functions with a name count by it, without their
    code, and of hooks there is the number.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    Returns
    -------
    digest : str
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for prefix, root in zip(net._modules, roots(net), strict=True):
        kinds = [type(module).__qualname__ for module in root.modules()]
        arguments = _plain_items(net.get_params_for(prefix))
        plain = [_plain_attributes(module) for module in root.modules()]
        digest.update(f"{kinds} {arguments} {plain}".encode())
        _add_tensors(digest, (*root.state_dict().items(), *root.named_buffers()))
    if own := own_state(net):
        digest.update(str(_plain_items(own)).encode())
    for module in (*_modules_in(learned_criteria(net)), *hidden_modules(net)):
        digest.update(f"{type(module).__qualname__} {_plain_attributes(module)}".encode())
        _add_tensors(digest, (*module._parameters.items(), *module._buffers.items()))
    return digest.hexdigest()


def _add_tensors(digest: Any, named: Iterable[tuple[str, Any]]) -> None:
    for name, value in named:
        if isinstance(value, torch.Tensor):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            if not value.is_meta:  # which has no content
                content = value.detach().cpu().contiguous().reshape(-1)
                digest.update(content.view(torch.uint8).numpy().data)


def _plain_attributes(module: torch.nn.Module) -> list[tuple[str, str]]:
    if type(module).__module__.startswith("torch._dynamo"):
        return []  # what is compiled is within; the wrapper has addresses of memory
    settings = {
        name: len(value) if name.endswith("_hooks") else value
        for name, value in vars(module).items()
        if name not in _NO_SETTINGS
    }
    if isinstance(module, torch.jit.ScriptModule):
        settings["code"] = getattr(module, "code", "")  # its class is that of all
    return _plain_items(settings)


def _plain_items(settings: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((name, _plain(value)) for name, value in settings.items())


def _plain(value: Any) -> str:
    """A setting as text that is the same wherever the net is."""
    if isinstance(value, bool | int | float | str | bytes | torch.dtype | None):
        return repr(value)
    if isinstance(value, dict):
        return str({str(key): _plain(each) for key, each in value.items()})
    if isinstance(value, list | tuple):
        return str([_plain(each) for each in value])
    if isinstance(value, set | frozenset):
        return str(sorted(_plain(each) for each in value))
    if isinstance(value, types.MethodType):
        return _plain(value.__func__)
    name = str(getattr(value, "__qualname__", type(value).__qualname__))
    return name if _is_told_by_name(value, name) else _described(value, name)


def _is_told_by_name(value: Any, name: str) -> bool:
    """Modules are met elsewhere, and what torch keeps in them depends on the machine."""
    if isinstance(value, types.FunctionType):
        return "<" not in name  # not a lambda, nor made by a function
    if isinstance(value, torch.Tensor):
        return False
    is_torch = type(value).__module__.partition(".")[0] == "torch"
    return is_torch or isinstance(value, type | torch.nn.Module | types.BuiltinFunctionType)


def _described(value: Any, name: str) -> str:
    try:
        return describe_plain("setting", value)
    except (RuntimeError, ValueError):  # a lock, say, or a tensor that is not dense
        return name


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
        If the net cannot take the input, its outputs have another shape, or it takes
        statistics over the batch: then it is no function of one input.
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
    with evaluating(net), torch.inference_mode():
        try:
            outputs = net.infer(to_net(net, some))
        except RuntimeError as error:
            raise ValueError(
                f"The net cannot take X, whose inputs have shape {X.shape[1:]}: {error}"
            ) from error
        return check_outputs(outputs, len(some), n_classes)


def check_loss(net: Any, outputs: torch.Tensor) -> None:
    """Refuse, or warn of, outputs that are not what the loss takes them for.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    outputs : torch.Tensor of shape (n, n_outputs)
        Its outputs for some inputs.

    Raises
    ------
    ValueError
        If the criterion is NLLLoss, for which skorch takes outputs as probabilities, and
        they are negative: the loss would be NaN.

    Warns
    -----
    UserWarning
        If the criterion is CrossEntropyLoss, which takes logits, and they are
        probabilities: the net would learn slowly, or not at all.
    """
    if type(net).get_loss is not NeuralNetClassifier.get_loss:
        return
    if isinstance(net.criterion_, torch.nn.NLLLoss):
        _log(outputs)
    sums_to_1 = ((outputs.double().sum(dim=1) - 1.0).abs() < 1e-3).all()
    is_probability = sums_to_1 and (outputs >= 0.0).all()
    if isinstance(net.criterion_, torch.nn.CrossEntropyLoss) and is_probability:
        warnings.warn(
            "The net's outputs are probabilities, but its criterion, CrossEntropyLoss, "
            "takes logits. Leave out the softmax, or use criterion=torch.nn.NLLLoss.",
            UserWarning,
            stacklevel=5,
        )


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


def log_probabilities(net: Any, outputs: torch.Tensor) -> torch.Tensor:
    """Logarithms of the probabilities that a net's outputs stand for.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net, whose criterion says what its outputs are.

    outputs : torch.Tensor of shape (..., n_outputs)
        Outputs of the net.

    Returns
    -------
    log_proba : torch.Tensor of shape (..., n_outputs)
        In float32 or more, finite, and gradients flow through.

    Raises
    ------
    TypeError
        If the criterion does not say it.
    ValueError
        If they shall be probabilities and are negative.
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

    They are its outputs, or what its `predict_nonlinearity` makes of them where that is a
    function: it need not keep their order, and the net's own `predict` goes by it.

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
            "Wrap it: net = skorch.NeuralNetClassifier(module, "
            "criterion=torch.nn.CrossEntropyLoss), and if it is trained, "
            "sklearn.frozen.FrozenEstimator(net.initialize())."
        )
    if not isinstance(net, NeuralNet):
        raise TypeError(
            "estimator must be a skorch.NeuralNetClassifier, a scikit-learn classifier, "
            f"one of them in a FrozenEstimator, or None, got {_kind(net)}."
        )


def check_is_net(base: Any, who: str, remedy: str = "") -> None:
    """Refuse a classifier that is no net, for those who need its weights or gradients."""
    if not isinstance(base, NeuralNet):
        raise TypeError(f"{who} needs a skorch net, got {type(base).__name__}.{remedy}")


def _kind(thing: Any) -> str:
    """Name of a thing's class, or of the class that was given in place of an object."""
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    return type(thing).__name__


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
    n_outputs = probe(net, X, 2 if given is None else len(given)).shape[1]
    return np.arange(n_outputs) if given is None else np.asarray(given)


def check_known(y: NDArray, classes: NDArray, who: str) -> None:
    """Refuse labels that are not among the classes of `who`."""
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(
            f"y has labels that {who} does not know: {unknown.tolist()}. Known are "
            f"{classes.tolist()}."
        )


def class_indices(y: NDArray, classes: NDArray, who: str) -> NDArray[np.int64]:
    """Indices of labels in the classes of `who`, which are those of its outputs."""
    check_known(y, classes, who)
    order = np.argsort(classes, kind="stable")
    return order[np.searchsorted(classes, y, sorter=order)].astype(np.int64)
