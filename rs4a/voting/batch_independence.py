"""Trials of whether a net answers to each input by itself, whatever it was asked before."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from rs4a.nets.fingerprint import fingerprint
from rs4a.nets.inference import Inference
from rs4a.nets.outputs import evaluating, infer_scores, without_gradients
from rs4a.noises import Noise
from rs4a.utils.params import to_json
from rs4a.utils.user_warnings import warn_user

__all__ = ["ChangeDetector", "Trial", "depends_on_batch", "warn_of_change"]

#: Inputs that are tried, and noisy copies in a batch: two of each.
_TRIED, _BATCH = 8, 16


# Before the votes


def depends_on_batch(net: Any, X: Any, noise: Noise, n_classes: int) -> bool:
    """Whether a net's answer to an input depends on the other inputs of its batch.

    Noisy copies are tried as they come in votes. They keep their places in batches of one
    size, so that not even the last bits may change with the company: copies of one of
    them, then strangers. Batches of another size round differently: with them only larger
    changes are seen.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    X : ndarray of shape (n, ...), float32, or LazyInputs
        Inputs, of which the first are tried.

    noise : Noise
        Smoothing noise.

    n_classes : int
        Number of outputs that are compared.

    Returns
    -------
    depends : bool
        Whether the leading outputs differ by more than rounding. Then the net is no
        function of one input, and no certificate holds.
    """
    copies = _copies(X, noise)
    with evaluating(net), without_gradients():
        return _depends_on_size(net, copies, n_classes) or _depends_on_company(
            net, copies, n_classes
        )


class Trial:
    """Trial of a net, repeated only after its weights, settings or inference changed."""

    def __init__(self) -> None:
        self._passed: tuple[str, str | None] | None = None

    def of(
        self,
        net: Any,
        X: Any,
        noise: Noise,
        n_classes: int,
        inference: Inference | None,
    ) -> tuple[bool, str]:
        """Whether the net depends on the batch, and the net's digest.

        Parameters
        ----------
        net : skorch.NeuralNet
            Initialised net.

        X : ndarray of shape (n, ...), float32, or LazyInputs
            Inputs, of which the first are tried.

        noise : Noise
            Smoothing noise.

        n_classes : int
            Number of outputs that are compared.

        inference : Inference or None
            How the net runs.

        Returns
        -------
        depends : bool
            As `depends_on_batch` says.

        digest : str
            Fingerprint of the net.

        Warns
        -----
        CertificationWarning
            If the net depends on the batch.
        """
        settings = None if inference is None else str(to_json(inference))
        tried = fingerprint(net), settings
        if tried == self._passed:
            return False, tried[0]
        depends = depends_on_batch(net, X, noise, n_classes)
        # The first forward pass may build what a module lacks.
        tried = fingerprint(net), settings
        self._passed = None if depends else tried
        if depends:
            warn_user(
                "The net's answer to an input changes with what else is in its batch, or "
                "from call to call: batch statistics or dropout may be at work in "
                "evaluation mode. It is no function of one input, so no certificate holds "
                "for it."
            )
        return depends, tried[0]


def _copies(X: Any, noise: Noise) -> torch.Tensor:
    """Noisy copies of some inputs, the same in every call."""
    some = torch.from_numpy(np.array(X[:_TRIED]))
    some = some[torch.arange(_BATCH) % len(some)]
    return noise.sample(some, torch.Generator().manual_seed(0))


def _depends_on_size(net: Any, copies: torch.Tensor, n_classes: int) -> bool:
    alone = infer_scores(net, copies[:_TRIED], n_classes)
    shifted = torch.cat([copies[-1:], copies])  # an odd number, and other places
    among = infer_scores(net, shifted, n_classes)[1 : 1 + _TRIED]
    return _differ(alone, among, _rounding(alone) * _size_of_leaders(alone))


def _depends_on_company(net: Any, copies: torch.Tensor, n_classes: int) -> bool:
    answers = infer_scores(net, copies, n_classes)
    tolerance = _same_shape_tolerance(answers)
    places = _tried_together(answers)
    # Strangers last: a GPU whose kernel fails at them answers to nothing any more.
    for company in (_alike, _strangers):
        for seed, tried in enumerate(places):
            batch = company(copies, tried, seed)
            batch[tried] = copies[tried]
            try:
                with _unheard():
                    among = infer_scores(net, batch, n_classes)[tried]
            except Exception:  # a classifier need not take any input that there is
                continue
            if _differ(answers[tried], among, tolerance):
                return True
    return False


def _tried_together(answers: torch.Tensor) -> list[slice]:
    """Places of the copies that are tried at a time: halves of the batch.

    Where a net says classes and nothing else, small changes do not show. Then some copies
    are tried one by one, in company that is all strange.
    """
    if ((answers == 0.0) | (answers == 1.0)).all():
        return [slice(place, place + 1) for place in range(0, _BATCH, _BATCH // _TRIED)]
    return [slice(0, _BATCH // 2), slice(_BATCH // 2, _BATCH)]


def _alike(copies: torch.Tensor, tried: slice, seed: int) -> torch.Tensor:
    """One of the tried inputs, again and again: whoever takes it takes this."""
    return copies[tried][:1].expand_as(copies).clone()


def _strangers(copies: torch.Tensor, tried: slice, seed: int) -> torch.Tensor:
    """Inputs far from all others: to one side, to the other, then anywhere."""
    far = 3.0 * copies + 1.0
    if seed < 2:
        return -far if seed else far
    generator = torch.Generator().manual_seed(seed)
    return far * (2.0 * torch.randint(2, far.shape[1:], generator=generator) - 1.0)


@contextmanager
def _unheard() -> Iterator[None]:
    """Nobody need hear of inputs that only the trial has."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


# While it votes


class ChangeDetector:
    """Notices whether nets answer to some inputs after their votes as they did before.

    Copies of `Voters` share it. It is not sent to other processes: they have None.

    Parameters
    ----------
    X : ndarray of shape (n, ...), float32, or LazyInputs
        Inputs, of which the first are asked about.

    noise : Noise
        Smoothing noise.

    Attributes
    ----------
    copies : torch.Tensor of shape (n_tried, ...)
        Noisy copies of them.

    changed : bool
        Whether a net has answered otherwise.
    """

    def __init__(self, X: Any, noise: Noise):
        self.copies = _copies(X, noise)[:_TRIED]
        self.changed = False

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return type(None), ()

    def compare(self, before: torch.Tensor, after: torch.Tensor) -> None:
        """Note if answers differ.

        Parameters
        ----------
        before, after : torch.Tensor of shape (n, n_classes)
            Answers to the same batch. On a CPU they are equal but for the last bits.
        """
        on_cpu = before.device.type == "cpu"
        tolerance = _last_bits(before) if on_cpu else _same_shape_tolerance(before)
        self.changed = self.changed or _differ(before, after, tolerance)


def warn_of_change(watch: ChangeDetector) -> bool:
    """Warn of a net that answers otherwise than before it voted.

    Parameters
    ----------
    watch : ChangeDetector
        What was seen of it.

    Returns
    -------
    changed : bool
        Whether it does.

    Warns
    -----
    CertificationWarning
        If it does.
    """
    if watch.changed:
        warn_user(
            "The net changed while it voted: it answers otherwise to the same inputs than "
            "before. What it answers depends on what it was asked, so no certificate holds "
            "for it."
        )
    return watch.changed


# What counts as a difference


def _differ(before: torch.Tensor, after: torch.Tensor, tolerance: float) -> bool:
    """Whether outputs differ that lead, before or after: others decide no vote."""
    before, after = before.double(), after.double()
    leading = (before >= _leaders(before)[:, -1:]) | (after >= _leaders(after)[:, -1:])
    # Of NaN the votes say more, unless it came only now.
    same = (before == after) | ((before - after).abs() <= tolerance) | before.isnan()
    return bool((leading & ~same).any())


def _leaders(outputs: torch.Tensor) -> torch.Tensor:
    """The two largest of each row, or the only one."""
    return outputs.double().topk(min(2, outputs.shape[1]), dim=1).values


def _size_of_leaders(outputs: torch.Tensor) -> float:
    return float(_finite(_leaders(outputs)).abs().max())


def _same_shape_tolerance(outputs: torch.Tensor) -> float:
    """What may change in a batch of the same shape: how many rows go to an expert, say."""
    leaders = _leaders(outputs)
    gap = float(_finite(leaders[:, 0] - leaders[:, -1]).max())
    return _rounding(outputs) * gap + _last_bits(outputs)


def _last_bits(outputs: torch.Tensor) -> float:
    epsilon = torch.finfo(outputs.dtype).eps if outputs.is_floating_point() else 0.0
    return 8.0 * epsilon * _size_of_leaders(outputs)


def _finite(values: torch.Tensor) -> torch.Tensor:
    """Zeros in place of what is infinite, as logits of classes that are excluded."""
    return values.where(values.isfinite(), 0.0)


def _rounding(outputs: torch.Tensor) -> float:
    """Share of a difference that rounding may make of it, in TF32 or half precision."""
    return 2.0**-5 if outputs.dtype.itemsize < 4 else 2.0**-9
