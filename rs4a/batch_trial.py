"""A trial, before votes are drawn, of whether a net answers to each input by itself."""

import warnings
from typing import Any

import numpy as np
import torch

from rs4a.exceptions import CertificationWarning
from rs4a.nets import check_outputs, evaluating, infer_scores, to_net
from rs4a.noises import Noise

__all__ = ["warn_of_batch_dependence", "warn_of_change"]

#: Noisy inputs in a batch, of which there are as many as tried inputs or twice that.
_TRIED, _BATCH = 8, 16


def warn_of_change(before: str, after: str) -> bool:
    """Warn of a net that changed while it voted.

    Parameters
    ----------
    before, after : str
        Its fingerprints.

    Returns
    -------
    changed : bool
        Whether they differ.

    Warns
    -----
    CertificationWarning
        If they do.
    """
    if before != after:
        warnings.warn(
            "The net changed while it voted: its forward pass writes to its weights, "
            "buffers or attributes. What it answers depends on what it was asked before, "
            "so no certificate holds for it.",
            CertificationWarning,
            stacklevel=3,
        )
    return before != after


def warn_of_batch_dependence(net: Any, X: Any, noise: Noise, n_classes: int) -> bool:
    """Warn where a net's answer to an input depends on what else is in its batch.

    Noisy copies are tried as they come in votes. They keep their places in batches of one
    size, so that not even the last bits may change with the company: other copies, or
    strangers to one side and to the other. Batches of another size round differently: with
    them only larger changes are seen.

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
        Whether it warned.

    Warns
    -----
    CertificationWarning
        If the outputs differ by more than rounding. Then the net is no function of one
        input, and no certificate holds.
    """
    copies = _copies(X, noise)
    # Strangers may be nothing that numpy can take the root of.
    with evaluating(net), torch.inference_mode(), np.errstate(all="ignore"):
        depends = _depends_on_size(net, copies, n_classes)
        depends = depends or _depends_on_company(net, copies, n_classes)
    if depends:
        warnings.warn(
            "The net's answer to an input changes with what else is in its batch, or from "
            "call to call: batch statistics or dropout may be at work in evaluation mode. "
            "It is no function of one input, so no certificate holds for it.",
            CertificationWarning,
            stacklevel=3,
        )
    return depends


def _copies(X: Any, noise: Noise) -> torch.Tensor:
    """Noisy copies of some inputs, the same in every call."""
    some = torch.from_numpy(np.array(X[:_TRIED]))
    some = some[torch.arange(_BATCH) % len(some)]
    return noise.sample(some, torch.Generator().manual_seed(0))


def _strangers(copies: torch.Tensor, seed: int) -> torch.Tensor:
    """Inputs far from all others: to one side first, then in random directions."""
    far = 3.0 * copies + 1.0
    if seed == 0:
        return far
    generator = torch.Generator().manual_seed(seed)
    return far * (2.0 * torch.randint(2, far.shape[1:], generator=generator) - 1.0)


def _depends_on_company(net: Any, copies: torch.Tensor, n_classes: int) -> bool:
    answers = infer_scores(net, copies, n_classes)
    expected = answers.double()
    epsilon = torch.finfo(answers.dtype).eps if answers.is_floating_point() else 0.0
    spread = (expected.amax(dim=1) - expected.amin(dim=1)).max()
    tolerance = _rounding(answers) * spread + 8.0 * epsilon * expected.abs().max()
    for seed, tried in enumerate(_tried_together(expected)):
        far = _strangers(copies, seed)
        for company in (far, -far):
            company[tried] = copies[tried]
            try:
                among = infer_scores(net, company, n_classes)[tried].double()
            except Exception:  # a classifier need not take any input that there is
                continue
            same = (among - expected[tried]).abs() <= tolerance
            # Of NaN the votes say more, unless it is the company's.
            if (expected[tried].isfinite() & ~same).any():
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


def _depends_on_size(net: Any, copies: torch.Tensor, n_classes: int) -> bool:
    some = copies[:_TRIED]
    far = _strangers(some, 0)
    alone = _outputs(net, some, n_classes)
    try:
        among = _outputs(net, torch.cat([far[:1], some, far]), n_classes)[1 : 1 + _TRIED]
    except Exception:  # as above
        among = _outputs(net, copies.roll(1, dims=0), n_classes)[1 : 1 + _TRIED]
    tolerance = _rounding(alone) * float(alone.abs().max())
    return bool(((alone - among).abs() > tolerance).any())


def _outputs(net: Any, X: torch.Tensor, n_classes: int) -> torch.Tensor:
    outputs = check_outputs(net.infer(to_net(net, X)), len(X), n_classes)
    return outputs[:, :n_classes]


def _rounding(outputs: torch.Tensor) -> float:
    """Share of a difference that rounding may make of it, in TF32 or half precision."""
    return 2.0**-5 if outputs.dtype.itemsize < 4 else 2.0**-9
