"""Projected gradient ascent on the loss of the soft smoothed classifier."""

import math
from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor

from rs4a.noises import AdditiveNoise, Noise

#: Share of the coordinates that an l1 step moves.
_L1_SHARE = 16


class Ball(NamedTuple):
    """Perturbations that an attack may make, flat, one row per input.

    Parameters
    ----------
    norm : {1.0, 2.0, inf}
        Norm of the distance.

    radius : torch.Tensor of shape (n,)
        Largest distance.

    low, high : torch.Tensor of shape (n, d)
        Smallest and largest perturbation of every coordinate: at most 0 and at least 0.
    """

    norm: float
    radius: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def around(
        cls,
        X: Tensor,
        norm: float,
        radius: Tensor,
        box: tuple[float, float] | None,
    ) -> Self:
        """Ball around inputs in a box of values; inputs outside may only move towards it.

        Parameters
        ----------
        X : torch.Tensor of shape (n, ...)
            Inputs.

        norm : {1.0, 2.0, inf}
            Norm of the distance.

        radius : torch.Tensor of shape (n,)
            Largest distance.

        box : tuple of two floats, or None
            Smallest and largest value of a coordinate.

        Returns
        -------
        ball : Ball
            Of flat perturbations.
        """
        flat = X.flatten(1)
        low, high = box or (-math.inf, math.inf)
        return cls(norm, radius, (low - flat).clamp_max(0.0), (high - flat).clamp_min(0.0))


def check_additive(noise: Noise, who: str) -> None:
    """Refuse noise through which no gradient flows.

    Parameters
    ----------
    noise : Noise
        Smoothing noise.

    who : str
        Name of the attack.

    Raises
    ------
    ValueError
        If the noise is not added to the inputs.
    """
    if not isinstance(noise, AdditiveNoise):
        raise ValueError(
            f"{who} moves inputs along gradients and needs noise that is added to them, "
            f"got {noise}: the parts of the range that it shows do not follow small moves."
        )


def ascend(
    loss: Callable[[Tensor], Tensor],
    X: Tensor,
    ball: Ball,
    *,
    steps: int,
    step_size: Tensor,
    start: Tensor | None = None,
) -> Tensor:
    """Perturbation after some steps of steepest ascent, each projected onto the ball.

    Parameters
    ----------
    loss : callable
        Takes perturbed inputs, (n, ...), and gives their losses, (n,). The attack uses only
        the direction of the gradients.

    X : torch.Tensor of shape (n, ...)
        Inputs.

    ball : Ball
        Perturbations that are allowed.

    steps : int
        Number of steps.

    step_size : torch.Tensor of shape (n,)
        Length of a step, in the ball's norm.

    start : torch.Tensor of shape (n, d), default=None
        First perturbation. None: 0.

    Returns
    -------
    delta : torch.Tensor of shape (n, ...)
        Perturbation, within the ball up to rounding.

    Raises
    ------
    ValueError
        If torch has no gradient of the losses.
    """
    delta = torch.zeros_like(X.flatten(1)) if start is None else start
    for _ in range(steps):
        gradient = _gradient(loss, X, delta)
        # A coordinate that the box stops would waste its share of the step.
        stopped = ((delta >= ball.high) & (gradient > 0)) | (
            (delta <= ball.low) & (gradient < 0)
        )
        direction = steepest(gradient.masked_fill(stopped, 0.0), ball.norm)
        delta = project(delta + step_size[:, None] * direction, ball)
    return delta.view_as(X)


def _gradient(loss: Callable[[Tensor], Tensor], X: Tensor, delta: Tensor) -> Tensor:
    with torch.enable_grad():
        delta = delta.detach().requires_grad_()
        total = loss(X + delta.view_as(X)).sum()
    gradient = None
    if total.requires_grad:
        (gradient,) = torch.autograd.grad(total, delta, allow_unused=True)
    if gradient is None:
        raise ValueError(
            "The net must have gradients with respect to its inputs, got outputs without "
            "any: it may detach them, compare them with a threshold, or use torch.no_grad."
        )
    return gradient


def soft_vote_loss(
    log_proba: Callable[[Tensor], Tensor],
    X: Tensor,
    draws: Tensor,
    y: Tensor,
) -> Tensor:
    """Minus the logarithm of the soft vote for a class, up to a constant.

    Parameters
    ----------
    log_proba : callable
        Net: takes k inputs, and gives logarithms of probabilities, (k, n_classes).

    X : torch.Tensor of shape (n, ...)
        Inputs.

    draws : torch.Tensor of shape (m, n, ...)
        Draws of the noise.

    y : torch.Tensor of shape (n,), int64
        Classes.

    Returns
    -------
    loss : torch.Tensor of shape (n,)
        Larger for fewer soft votes for the class.
    """
    votes = log_proba((X + draws).flatten(0, 1)).unflatten(0, (len(draws), len(X)))
    of_class = votes.gather(2, y.expand(len(draws), -1)[..., None])
    return -torch.logsumexp(of_class[..., 0], dim=0)


def steepest(gradient: Tensor, norm: float) -> Tensor:
    """Direction of length 1 in which a loss grows fastest; 0 where there is no gradient.

    In l1 that direction is a single coordinate. Here, as in Yang et al. (2020), the
    sixteenth part of the coordinates with the largest gradients shares the step.

    Parameters
    ----------
    gradient : torch.Tensor of shape (n, d)
        Gradients; values that are not finite are replaced by 0.

    norm : {1.0, 2.0, inf}
        Norm of the length.

    Returns
    -------
    direction : torch.Tensor of shape (n, d)
        Of length 1, or 0.
    """
    gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
    if norm == math.inf:
        return gradient.sign()
    if norm == 2.0:
        # Scaled first: squares of small gradients underflow.
        largest = gradient.abs().amax(dim=1, keepdim=True)
        scaled = gradient / largest.where(largest > 0.0, 1.0)
        length = scaled.norm(dim=1, keepdim=True)
        return scaled / length.where(length > 0.0, 1.0)
    n_moved = -(-gradient.shape[1] // _L1_SHARE)
    moved = gradient.abs().topk(n_moved, dim=1).indices
    signs = torch.zeros_like(gradient).scatter_(1, moved, gradient.gather(1, moved).sign())
    return signs / signs.abs().sum(dim=1, keepdim=True).clamp_min(1.0)


def project(delta: Tensor, ball: Ball) -> Tensor:
    """Nearest allowed perturbation, in Euclidean distance.

    It has the signs of `delta`. In l1 and l2 it depends on a single number, at which a
    piecewise linear, or quadratic, function has the value of the radius. The number is
    found exactly: in l1 by sorting the ends of the pieces, in l2 by an iteration from piece
    to piece.

    Parameters
    ----------
    delta : torch.Tensor of shape (n, d)
        Perturbations.

    ball : Ball
        Norm, radius and limits.

    Returns
    -------
    delta : torch.Tensor of shape (n, d)
        Within the ball up to rounding.
    """
    limits = torch.where(delta > 0.0, ball.high, -ball.low)
    radius = ball.radius[:, None]
    if ball.norm == math.inf:
        size = delta.abs().minimum(limits).minimum(radius)
    else:
        find = _soft_threshold if ball.norm == 1.0 else _scaling
        size = find(delta.abs().double(), limits.double(), radius.double())
        size = size.minimum(radius)  # rounding may have exceeded it
    return delta.sign() * size.to(delta.dtype)


def _soft_threshold(size: Tensor, limits: Tensor, radius: Tensor) -> Tensor:
    """min(max(size - t, 0), limits), which sums to radius, or to less at t = 0."""
    total = size.minimum(limits).sum(dim=1, keepdim=True)
    if not (total > radius).any():
        return size.minimum(limits)
    # Most coordinates never moved, and need not be sorted.
    moved = size.topk(int((size > 0.0).sum(dim=1).max()), dim=1).indices
    threshold = _threshold(size.gather(1, moved), limits.gather(1, moved), radius)
    return (size - threshold.where(total > radius, 0.0)).clamp_min(0.0).minimum(limits)


def _threshold(size: Tensor, limits: Tensor, radius: Tensor) -> Tensor:
    """The t of `_soft_threshold`, (n, 1), for rows whose sum is above radius."""
    # As t grows, a coordinate begins to shrink at size - limit, and is 0 at size.
    begins = (size - limits).clamp_min(0.0)
    ends, order = torch.cat([begins, size], dim=1).sort(dim=1, stable=True)
    sign = torch.ones_like(ends)
    sign[:, size.shape[1] :] = -1.0
    shrinking = sign.gather(1, order).cumsum(dim=1)  # after each end
    falls = shrinking * ends.diff(dim=1, append=ends[:, -1:])
    total = size.minimum(limits).sum(dim=1, keepdim=True)
    after = total - falls.cumsum(dim=1)
    piece = (after > radius).sum(dim=1, keepdim=True).clamp_max(ends.shape[1] - 1)
    beyond = after.gather(1, piece) + falls.gather(1, piece) - radius
    rate = shrinking.gather(1, piece).clamp_min(1.0)
    return ends.gather(1, piece) + beyond.clamp_min(0.0) / rate


def _scaling(size: Tensor, limits: Tensor, radius: Tensor) -> Tensor:
    """min(s size, limits), of l2 norm radius, or of less at s = 1."""
    # More coordinates at their limits make s larger, and a larger s brings more coordinates
    # to their limits: the iteration ends when no further coordinate meets its limit.
    limited = torch.zeros_like(size, dtype=torch.bool)
    while True:
        room = radius.square() - limits.where(limited, 0.0).square().sum(1, keepdim=True)
        free = size.masked_fill(limited, 0.0).square().sum(dim=1, keepdim=True)
        scale = (room.clamp_min(0.0) / free).sqrt().nan_to_num(1.0).clamp_max(1.0)
        meets = limited | (scale * size > limits)
        if torch.equal(meets, limited):
            return torch.where(limited, limits, scale * size)
        limited = meets
