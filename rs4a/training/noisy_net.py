"""A net that trains on noisy copies of each batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.dataset import unpack_data
from skorch.utils import to_tensor
from torch.utils.data import Dataset as TorchDataset

from rs4a.nets.outputs import (
    check_outputs,
    evaluating,
    infer_log_proba,
    log_probabilities,
    net_device,
    to_net,
)
from rs4a.noises import Noise
from rs4a.objectives import Batch, NoisyOutputs, Objective


@dataclass
class _Smoothing:
    """What a net that trains under noise has besides its own attributes."""

    noise: Noise
    objective: Objective
    epochs_before: int
    #: Gives a data set of the user's own indices of classes as targets.
    translate: Callable[[Any], Any] | None
    #: Copies, and inputs, of the present batch; None between the steps.
    shape: tuple[int, int] | None = None
    dim: int = 1
    #: Whether the present step has asked for the loss.
    asked: bool = False
    #: Whether the training set has weights.
    weighted: bool = False
    #: Weights of the inputs in the present batch; None if all inputs have the same weight.
    weights: torch.Tensor | None = None


@contextmanager
def training_under_noise(
    net: NeuralNet,
    noise: Noise,
    objective: Objective,
    epochs_before: int = 0,
    translate: Callable[[Any], Any] | None = None,
) -> Iterator[NeuralNet]:
    """Let a net train, and validate, under noise as long as the context lasts.

    Parameters
    ----------
    net : skorch.NeuralNet
        Any net whose batches hold one tensor and whose outputs are (n, n_classes).

    noise : Noise
        Smoothing noise.

    objective : Objective
        Training objective.

    epochs_before : int, default=0
        Epochs of the net's history that a warm-up ignores.

    translate : callable, default=None
        As in `train`.

    Yields
    ------
    net : skorch.NeuralNet
        The same net. Copies and pickles of it that callbacks make are of its own class.
    """
    own_class: Any = type(net)
    # A trailing underscore: skorch reports other attributes as parameters.
    net.smoothing_ = _Smoothing(noise, objective, epochs_before, translate)
    net.__class__ = _noisy_class(own_class)
    try:
        yield net
    finally:
        net.__class__ = own_class
        del net.smoothing_


@cache
def _noisy_class(own_class: Any) -> Any:
    """Subclass of a net's own class that trains and validates under noise."""

    class NoisyNet(own_class):
        smoothing_: _Smoothing | None = None  # a clone made in training has none

        def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
            split = super().get_split_datasets(X, y, **fit_params)
            return _translated(self.smoothing_, split, X, y)

        def get_iterator(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            iterator = super().get_iterator(dataset, *args, **kwargs)
            smoothing = self.smoothing_
            weighted = smoothing is not None and smoothing.weighted
            return _WithoutWeights(iterator, smoothing) if weighted else iterator

        def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
            # The noise is drawn here, outside the closure that some optimizers call
            # several times.
            step = _noisy_step(self, super().train_step, batch, fit_params)
            _check_asked(self.smoothing_)
            return step

        def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
            return _noisy_step(self, super().validation_step, batch, fit_params)

        def get_loss(
            self, y_pred: Any, y_true: Any, *args: Any, **kwargs: Any
        ) -> torch.Tensor:
            own_get_loss, smoothing = super().get_loss, self.smoothing_
            training = kwargs.get("training", False)
            # Scores on clean inputs, as skorch's loss_scoring, ask between the steps.
            if smoothing is None or (smoothing.shape is None and not training):
                return own_get_loss(y_pred, y_true, *args, **kwargs)
            n_copies, n = _checked_shape(smoothing.shape, len(y_true))

            def own_loss(n_copies: int) -> torch.Tensor:
                rows, y_first, more, others = _first_rows(
                    (y_pred, y_true, args, kwargs), n_copies * n, len(y_true)
                )
                loss = partial(own_get_loss, rows, y_first, *more, **others)
                return _weighted_loss(self, loss, y_first, smoothing.weights)

            outputs = check_outputs(y_pred, len(y_true), 2)
            y = to_tensor(y_true, device=outputs.device)
            smoothing.asked = True
            return smoothing.objective.loss(
                NoisyOutputs(
                    outputs.unflatten(0, (n_copies, n)),
                    y[:n],
                    smoothing.noise,
                    smoothing.dim,
                    own_loss,
                    partial(log_probabilities, self),
                    smoothing.weights,
                )
            )

        def __reduce_ex__(self, protocol: Any) -> Any:
            state: Any = self.__getstate__()
            own_state = {k: v for k, v in state.items() if k != "smoothing_"}
            return _rebuild, (own_class, own_state)

    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(NoisyNet, name, getattr(own_class, name))
    return NoisyNet


def _rebuild(own_class: Any, state: dict[str, Any]) -> Any:
    net = own_class.__new__(own_class)
    net.__setstate__(state)
    return net


# Data sets


def _translated(smoothing: _Smoothing | None, split: Any, X: Any, y: Any) -> Any:
    """Data sets for training and validation, all with indices of classes."""
    if smoothing is None:
        return split
    smoothing.weighted = getattr(X, "weights", None) is not None
    translate = smoothing.translate
    if translate is None:
        return split
    return tuple(
        each if each is None or _consists_of(each, X, y) else translate(each)
        for each in split
    )


def _consists_of(dataset: Any, X: Any, y: Any) -> bool:
    """Whether a data set is the training set of the net, or a part or a change of it.

    Arrays of inputs do not tell: validation may use the same ones.
    """
    pending, seen = [dataset], set()
    while pending:
        each = pending.pop()
        if each is X and isinstance(X, TorchDataset):
            return True
        if isinstance(each, np.ndarray) and np.may_share_memory(each, y):
            return True
        if id(each) not in seen and isinstance(each, list | tuple | TorchDataset):
            pending += vars(each).values() if isinstance(each, TorchDataset) else each
        seen.add(id(each))
    return False


class _WithoutWeights:
    """Batches of a loader; their weights go to the smoothing, and callbacks see none."""

    def __init__(self, iterator: Any, smoothing: Any):
        self._iterator = iterator
        self._smoothing = smoothing

    def __len__(self) -> int:
        return len(self._iterator)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._iterator:
            X, y = unpack_data(batch)
            weights = None
            if isinstance(y, list | tuple):
                y, weights = y
                batch = [X, y]
            self._smoothing.weights = weights
            yield batch


# Steps


def _noisy_step(
    net: Any,
    step: Callable[..., dict[str, Any]],
    batch: Any,
    fit_params: dict[str, Any],
) -> dict[str, Any]:
    """One of skorch's steps, on noisy copies of a batch."""
    if net.smoothing_ is None:
        return step(batch, **fit_params)
    X, y = unpack_data(batch)
    if not isinstance(X, torch.Tensor):
        raise TypeError(
            "A net that is trained under noise takes batches of one tensor, got "
            f"{type(X).__name__}."
        )
    try:
        done = step(_expanded(net, X, y), **fit_params)
    finally:
        net.smoothing_.shape = None
    # Outputs of the first copy only, so that scores find one output per input.
    outputs = done["y_pred"]
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    return {**done, "y_pred": first[: len(X)]}


def _expanded(net: Any, X: Any, y: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy copies of a batch, stacked, with their targets."""
    smoothing, device = net.smoothing_, net_device(net)
    X, y = to_tensor(X, device=device), to_tensor(y, device=device)
    epoch = max(len(net.history) - smoothing.epochs_before, 1)
    whole = Batch(X, y, smoothing.noise, epoch, partial(infer_log_proba, net))
    with evaluating(net):  # checkpointed modules run again for gradients
        copies = smoothing.objective.noisy_copies(whole)
    smoothing.shape, smoothing.dim = (len(copies), len(X)), max(X[0].numel(), 1)
    smoothing.asked = False
    if smoothing.weights is not None:
        smoothing.weights = smoothing.weights.to(device, torch.float32)
    return to_net(net, copies.flatten(0, 1)), torch.cat([y] * len(copies))


def _check_asked(smoothing: _Smoothing | None) -> None:
    """Refuse a user's step that computes a loss of its own: it drops the objective."""
    if smoothing is None or smoothing.asked or smoothing.objective.is_base_loss:
        return
    raise ValueError(
        f"A net that is trained by {smoothing.objective} must get its loss from get_loss, "
        "got a train_step or train_step_single that does not call it. Call "
        "self.get_loss(y_pred, y_true, X=X, training=True), or train by NoiseAugmentation."
    )


def _checked_shape(shape: tuple[int, int] | None, n_rows: int) -> tuple[int, int]:
    """Copies and inputs of the present batch, if the loss is asked for all of it."""
    if shape is None:
        raise ValueError(
            "get_loss(..., training=True) of a net that is trained under noise belongs "
            "into its train_step, whose batch holds the noisy copies, got a call outside "
            "of it. With training=False it is the net's own loss."
        )
    n_copies, n = shape
    if n_rows != n_copies * n:
        raise ValueError(
            "A net that is trained under noise must compute its loss on whole batches, of "
            f"{n_copies * n} noisy copies, got {n_rows}: copies of an input belong "
            "together. Take a smaller batch_size instead of dividing batches."
        )
    return shape


def _first_rows(values: Any, n_rows: int, n_all: int) -> Any:
    """Tensors in nested tuples and dictionaries, cut to the first rows of a batch."""
    if n_rows == n_all:
        return values
    if isinstance(values, tuple):
        return tuple(_first_rows(each, n_rows, n_all) for each in values)
    if isinstance(values, dict):
        return {name: _first_rows(each, n_rows, n_all) for name, each in values.items()}
    if isinstance(values, torch.Tensor) and values.ndim and len(values) == n_all:
        return values[:n_rows]
    return values


# Weights


def _weighted_loss(
    net: Any,
    loss: Callable[[], torch.Tensor],
    y: torch.Tensor,
    weights: torch.Tensor | None,
) -> torch.Tensor:
    """Weigh the loss of every row, and reduce as the net's own criterion does.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    loss : callable
        Computes the loss by the net's criterion.

    y : torch.Tensor of shape (n_rows,), int64
        Targets.

    weights : torch.Tensor of shape (n,) or None
        Weights of the inputs. The rows are copies of these inputs, all n of them for each
        copy. The mean of the weights over the training set is 1. None: all inputs have
        the same weight.

    Returns
    -------
    loss : torch.Tensor of shape ()
        Without weights, the result of the criterion by itself.

    Raises
    ------
    ValueError
        If the criterion does not say by `reduction` that it is a mean or a sum, or the
        net's `get_loss` gives no loss per row.
    """
    if weights is None:
        return loss()
    criterion: Any = net.criterion_
    reduction = getattr(criterion, "reduction", None)
    if reduction not in ("mean", "sum"):
        raise ValueError(
            "sample_weight needs a criterion with reduction 'mean' or 'sum', as those of "
            f"torch have, got {type(criterion).__name__} with reduction={reduction!r}."
        )
    criterion.reduction = "none"
    try:
        losses = loss()
    finally:
        criterion.reduction = reduction
    weights = weights.repeat(len(y) // len(weights))
    if losses.shape != weights.shape:
        raise ValueError(
            "sample_weight needs a get_loss that gives one loss per input where the "
            f"criterion has reduction='none', shape {tuple(weights.shape)}, got "
            f"{tuple(losses.shape)}."
        )
    total = (weights * losses).sum()
    return total / _share(criterion, y) if reduction == "mean" else total


def _share(criterion: Any, y: torch.Tensor) -> torch.Tensor:
    """Number by which a criterion divides the sum of its losses."""
    class_weight = getattr(criterion, "weight", None)
    shares = torch.ones(len(y), device=y.device)
    if class_weight is not None:
        shares = class_weight.to(y.device)[y]
    return shares[y != getattr(criterion, "ignore_index", -100)].sum()
