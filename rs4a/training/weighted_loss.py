"""A net's own loss with a weight per input."""

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["weighted_loss"]


def weighted_loss(
    net: Any,
    loss: Callable[[], torch.Tensor],
    y: torch.Tensor,
    weights: torch.Tensor | None,
) -> torch.Tensor:
    """Weigh the loss of every row, and reduce as the criterion does.

    Parameters
    ----------
    net : skorch.NeuralNet
        Initialised net.

    loss : callable
        Computes the loss by the net's criterion.

    y : torch.Tensor of shape (n_rows,), int64
        Targets.

    weights : torch.Tensor of shape (n,) or None
        Weights of the inputs of which the rows are copies, one input after the other, and
        again. Their mean over the training set is 1. None: all inputs count alike.

    Returns
    -------
    loss : torch.Tensor of shape ()
        Without weights, what the criterion gives by itself.

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
