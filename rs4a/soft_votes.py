"""Soft votes: mean probabilities over noisy copies, in which gradients exist."""

import math

import torch

__all__ = ["log_mean_vote"]


def log_mean_vote(log_proba: torch.Tensor) -> torch.Tensor:
    """Logarithm of the mean probability over noisy copies.

    Unlike the logarithm of a mean of exponentials it does not underflow.

    Parameters
    ----------
    log_proba : torch.Tensor of shape (m, ...)
        Logarithms of probabilities, a row a copy.

    Returns
    -------
    log_votes : torch.Tensor of shape (...)
        log of the mean of exp(log_proba) over the first axis.

    Examples
    --------
    >>> import torch
    >>> from rs4a.soft_votes import log_mean_vote
    >>> log_mean_vote(torch.tensor([[0.2], [0.4]]).log()).exp()
    tensor([0.3000])
    """
    return torch.logsumexp(log_proba, dim=0) - math.log(len(log_proba))
