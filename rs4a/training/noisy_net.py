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
from rs4a.training.weighted_loss import weighted_loss

__all__ = ["training_under_noise"]


@dataclass
class _Smoothing:
    """What a net that trains under noise knows besides."""

    noise: Noise
    objective: Objective
    epochs_before: int
    #: Copies, and inputs, of the present batch; None between the steps.
    shape: tuple[int, int] | None = None
    dim: int = 1
    #: Whether the present step has asked for the loss.
    asked: bool = False
    #: Whether the training set has weights.
    weighted: bool = False
    #: Those of the inputs in the present batch; None if they count alike.
    weights: torch.Tensor | None = None
    #: Gives data sets that are not the training's own their indices of classes.
    translate: Callable[[Any], Any] | None = None


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
        Epochs of the net's history that count for no warm-up.

    translate : callable, default=None
        As in `train`.

    Yields
    ------
    net : skorch.NeuralNet
        The same net. Copies and pickles of it that callbacks make are of its own class.
    """
    plain_class: Any = type(net)
    # A trailing underscore: skorch reports other attributes as parameters.
    net.smoothing_ = _Smoothing(noise, objective, epochs_before, translate=translate)
    net.__class__ = _noisy_class(plain_class)
    try:
        yield net
    finally:
        net.__class__ = plain_class
        del net.smoothing_


@cache
def _noisy_class(plain_class: Any) -> Any:
    """Subclass of a net's class that trains and validates under noise."""

    class NoisyNet(plain_class):
        smoothing_: _Smoothing | None = None  # a clone made in training has none

        def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
            split = super().get_split_datasets(X, y, **fit_params)
            return _translated(self.smoothing_, split, X, y)

        def get_iterator(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            iterator = super().get_iterator(dataset, *args, **kwargs)
            return _without_weights(self.smoothing_, iterator)

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
            plain_get_loss, smoothing = super().get_loss, self.smoothing_
            training = kwargs.get("training", False)
            # Between the steps scores on clean inputs ask, as skorch's loss_scoring.
            if smoothing is None or (smoothing.shape is None and not training):
                return plain_get_loss(y_pred, y_true, *args, **kwargs)
            n_copies, n = _checked_shape(smoothing.shape, len(y_true))

            def own_loss(n_copies: int) -> torch.Tensor:
                rows, y_first, more, others = _first_rows(
                    (y_pred, y_true, args, kwargs), n_copies * n, len(y_true)
                )
                loss = partial(plain_get_loss, rows, y_first, *more, **others)
                return weighted_loss(self, loss, y_first, smoothing.weights)

            outputs = check_outputs(y_pred, len(y_true), 2)
            y = to_tensor(y_true, device=outputs.device)
            answers = NoisyOutputs(
                outputs.unflatten(0, (n_copies, n)),
                y[:n],
                smoothing.noise,
                smoothing.dim,
                own_loss,
                lambda each: log_probabilities(self, each),
                smoothing.weights,
            )
            smoothing.asked = True
            return smoothing.objective.loss(answers)

        def __reduce_ex__(self, protocol: Any) -> Any:
            state: Any = self.__getstate__()
            plain_state = {k: v for k, v in state.items() if k != "smoothing_"}
            return _rebuild, (plain_class, plain_state)

    NoisyNet.__name__ = plain_class.__name__
    NoisyNet.__qualname__ = plain_class.__qualname__
    NoisyNet.__module__ = plain_class.__module__
    NoisyNet.__doc__ = plain_class.__doc__
    return NoisyNet


def _translated(smoothing: _Smoothing | None, split: Any, X: Any, y: Any) -> Any:
    """Data sets for training and validation, all with indices of classes."""
    if smoothing is None:
        return split
    translate = smoothing.translate
    smoothing.weighted = getattr(X, "weights", None) is not None
    if translate is None:
        return split
    return tuple(
        each if each is None or _consists_of(each, X, y) else translate(each)
        for each in split
    )


def _without_weights(smoothing: _Smoothing | None, iterator: Any) -> Any:
    weighted = smoothing is not None and smoothing.weighted
    return _WithoutWeights(iterator, smoothing) if weighted else iterator


class _WithoutWeights:
    """Batches of a loader whose weights go to the smoothing, out of sight of others."""

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


def _consists_of(dataset: Any, X: Any, y: Any) -> bool:
    """Whether a data set is what the net trains on, or a part or a change of it.

    Arrays of inputs do not tell: validation may be on the same ones.
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


def _rebuild(plain_class: Any, state: dict[str, Any]) -> Any:
    net = plain_class.__new__(plain_class)
    net.__setstate__(state)
    return net


def _noisy_step(
    net: Any,
    step: Callable[..., dict[str, Any]],
    batch: Any,
    fit_params: dict[str, Any],
) -> dict[str, Any]:
    """One of skorch's steps, on noisy copies of a batch."""
    if net.smoothing_ is None:
        return step(batch, **fit_params)
    noisy, n = _expand(net, batch)
    try:
        return _cut(step(noisy, **fit_params), n)
    finally:
        net.smoothing_.shape = None


def _check_asked(smoothing: _Smoothing | None) -> None:
    """Refuse a user's step that computes a loss of its own: it drops the objective."""
    if smoothing is None or smoothing.asked or smoothing.objective.is_base_loss:
        return
    raise ValueError(
        f"A net that is trained by {smoothing.objective} must get its loss from get_loss, "
        "got a train_step or train_step_single that does not call it. Call "
        "self.get_loss(y_pred, y_true, X=X, training=True), or train by NoiseAugmentation."
    )


def _expand(net: Any, batch: Any) -> tuple[tuple[torch.Tensor, torch.Tensor], int]:
    """Noisy copies of a batch, stacked, with their targets; and the batch's own size."""
    X, y = unpack_data(batch)
    if not isinstance(X, torch.Tensor):
        raise TypeError(
            "A net that is trained under noise takes batches of one tensor, got "
            f"{type(X).__name__}."
        )
    smoothing, n = net.smoothing_, len(X)
    device = net_device(net)
    X, y = to_tensor(X, device=device), to_tensor(y, device=device)
    epoch = max(len(net.history) - smoothing.epochs_before, 1)
    whole = Batch(X, y, smoothing.noise, epoch, partial(infer_log_proba, net))
    with evaluating(net):  # gradients too: checkpointed modules run again for them
        copies = smoothing.objective.noisy_copies(whole)
    smoothing.shape, smoothing.dim = (len(copies), n), max(X[0].numel(), 1)
    smoothing.asked = False
    if smoothing.weights is not None:
        smoothing.weights = smoothing.weights.to(device, torch.float32)
    return (to_net(net, copies.flatten(0, 1)), torch.cat([y] * len(copies))), n


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
    return n_copies, n


def _first_rows(values: Any, n_rows: int, n_all: int) -> Any:
    """What stands in nested tuples and dictionaries, cut to the first rows of a batch."""
    if n_rows == n_all:
        return values
    if isinstance(values, tuple):
        return tuple(_first_rows(each, n_rows, n_all) for each in values)
    if isinstance(values, dict):
        return {name: _first_rows(each, n_rows, n_all) for name, each in values.items()}
    if isinstance(values, torch.Tensor) and values.ndim and len(values) == n_all:
        return values[:n_rows]
    return values


def _cut(step: dict[str, Any], n: int) -> dict[str, Any]:
    """Outputs of the first copy only, so that scores find one output an input."""
    outputs = step["y_pred"]
    first = outputs[0] if isinstance(outputs, tuple) else outputs
    return {**step, "y_pred": first[:n]}
