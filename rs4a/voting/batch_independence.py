"""Trials of whether a net's answer depends on more than its input."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from rs4a.nets.fingerprint import digest_of_values, fingerprint
from rs4a.nets.inference import Inference
from rs4a.nets.outputs import evaluating, infer_scores, without_gradients
from rs4a.noises import Noise
from rs4a.utils.user_warnings import warn_user

#: Inputs that are tried, and noisy copies in a batch: two of each input.
_TRIED, _BATCH = 8, 16
#: The last conditions under which a net passed its trial: see `check_batch_independence`.
_PASSED: WeakKeyDictionary[Any, tuple[Any, ...]] = WeakKeyDictionary()


# Before the votes


def check_batch_independence(
    net: Any, X: Any, noise: Noise, n_classes: int, inference: Inference | None
) -> tuple[bool, str]:
    """Try a net, and again only under other conditions.

    Conditions are weights, settings, inference, noise and the shape of an input.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    X : ndarray of shape (n, ...), float32, or LazyInputs
        Inputs; the trial uses the first ones.

    noise : Noise
        Smoothing noise.

    n_classes : int
        Number of outputs that are compared.

    inference : Inference or None
        Settings of the forward passes.

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
    digest = fingerprint(net)
    conditions = str(inference), digest_of_values(noise), X.shape[1:], n_classes
    if _PASSED.get(net) == (digest, *conditions):
        return False, digest
    depends = depends_on_batch(net, X, noise, n_classes)
    digest = fingerprint(net)  # the first forward pass may build parts of a module
    if depends:
        warn_user(
            "The net's answer to an input changes with the other inputs of its batch, or "
            "from call to call: batch statistics or dropout may be at work in evaluation "
            "mode. The net is no function of one input, so no certificate holds for it."
        )
    else:
        _PASSED[net] = digest, *conditions
    return depends, digest


def depends_on_batch(net: Any, X: Any, noise: Noise, n_classes: int) -> bool:
    """Whether a net's answer to an input depends on the other inputs of its batch.

    The net classifies noisy copies, as in votes. A batch of another size shows large
    changes only, because rounding depends on the size. In batches of one size, copies keep
    their places and get other neighbours: one of the copies repeated, then far-off inputs.
    There not even the last bits may change.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    X : ndarray of shape (n, ...), float32, or LazyInputs
        Inputs; the trial uses the first ones.

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
        answers = infer_scores(net, copies, n_classes)
        for batch, places, tried in _other_batches(copies, answers):
            tolerance = _tolerance(answers, len(batch) == _BATCH)
            # A classifier may refuse, or warn of, inputs that only the trial has.
            try:
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("ignore")
                    among = infer_scores(net, batch, n_classes)[places]
            except Exception:
                continue
            if _differ(answers[tried], among, tolerance):
                return True
    return False


def _copies(X: Any, noise: Noise) -> torch.Tensor:
    """Noisy copies of some inputs, the same in every call."""
    some = torch.from_numpy(np.array(X[:_TRIED]))
    some = some[torch.arange(_BATCH) % len(some)]
    return noise.sample(some, torch.Generator().manual_seed(0))


def _other_batches(
    copies: torch.Tensor, answers: torch.Tensor
) -> Iterator[tuple[torch.Tensor, slice, slice]]:
    """Batches with some copies, the places of these there, and their places in `copies`."""
    # An odd size, and other places.
    yield torch.cat([copies[-1:], copies[:_TRIED]]), slice(1, None), slice(_TRIED)
    size = _BATCH // 2
    if ((answers == 0.0) | (answers == 1.0)).all():
        size = 1  # small changes of a class do not show: all neighbours are far-off
    tried = [slice(start, start + size) for start in range(0, _BATCH, max(size, 2))]
    for places in tried:  # a net that accepts the copy accepts this batch
        batch = copies[places.start].expand_as(copies).clone()
        batch[places] = copies[places]
        yield batch, places, places
    # Far-off inputs come last: a kernel that fails on them leaves CUDA unusable.
    for seed, places in enumerate(tried):
        batch = _far_off(copies, seed)
        batch[places] = copies[places]
        yield batch, places, places


def _far_off(copies: torch.Tensor, seed: int) -> torch.Tensor:
    """Inputs far from all others: to one side, to the other side, then to any side."""
    far = 3.0 * copies + 1.0
    if seed < 2:
        return -far if seed else far
    generator = torch.Generator().manual_seed(seed)
    return far * (2.0 * torch.randint(2, far.shape[1:], generator=generator) - 1.0)


# While the net votes


class ChangeDetector:
    """Detects nets that answer some inputs differently after their votes than before.

    Copies of `Voters` share the detector; voters in other processes have None instead.

    Parameters
    ----------
    X : ndarray of shape (n, ...), float32, or LazyInputs
        Inputs; the detector uses the first ones.

    noise : Noise
        Smoothing noise.

    Attributes
    ----------
    copies : torch.Tensor of shape (n_tried, ...)
        Noisy copies of the inputs.

    changed : bool
        Whether an answer of a net has changed.
    """

    def __init__(self, X: Any, noise: Noise):
        self.copies = _copies(X, noise)[:_TRIED]
        self.changed = False

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return type(None), ()

    def compare(self, before: torch.Tensor, after: torch.Tensor) -> None:
        """Note whether answers to the same batch differ.

        Parameters
        ----------
        before, after : torch.Tensor of shape (n, n_classes)
            Answers. On a CPU they are equal but for the last bits.
        """
        on_cpu = before.device.type == "cpu"
        tolerance = _last_bits(before) if on_cpu else _tolerance(before, same_size=True)
        self.changed = self.changed or _differ(before, after, tolerance)

    def warn(self) -> bool:
        """Whether an answer of a net has changed; with a CertificationWarning if so."""
        if self.changed:
            warn_user(
                "The net changed while it voted: its answers to the same inputs are not "
                "those of before. They depend on earlier inputs, so no certificate holds "
                "for it."
            )
        return self.changed


# Differences


def _differ(before: torch.Tensor, after: torch.Tensor, tolerance: float) -> bool:
    """Whether outputs differ that lead, before or after: the rest decides no vote."""
    before, after = before.double(), after.double()
    leading = (before >= _leaders(before)[:, -1:]) | (after >= _leaders(after)[:, -1:])
    # The votes refuse NaN, unless NaN appears only now.
    same = (before == after) | ((before - after).abs() <= tolerance) | before.isnan()
    return bool((leading & ~same).any())


def _tolerance(outputs: torch.Tensor, same_size: bool) -> float:
    """Change that rounding explains, in TF32 or half precision.

    In batches of one size too: how many rows an expert gets may depend on the batch.
    """
    leaders = _leaders(outputs)
    scale = leaders[:, 0] - leaders[:, -1] if same_size else leaders.abs()
    share = 2.0**-5 if outputs.dtype.itemsize < 4 else 2.0**-9
    return share * float(_finite(scale).max()) + _last_bits(outputs)


def _last_bits(outputs: torch.Tensor) -> float:
    epsilon = torch.finfo(outputs.dtype).eps if outputs.is_floating_point() else 0.0
    return 8.0 * epsilon * float(_finite(_leaders(outputs)).abs().max())


def _leaders(outputs: torch.Tensor) -> torch.Tensor:
    """The two largest outputs of each row, or the only one."""
    return outputs.double().topk(min(2, outputs.shape[1]), dim=1).values


def _finite(values: torch.Tensor) -> torch.Tensor:
    """Zeros in place of infinite values, such as logits of excluded classes."""
    return values.where(values.isfinite(), 0.0)
