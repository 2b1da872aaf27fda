"""Exact draws from standard laws, in place, on the device of the tensor.

They use the laws of torch and arithmetic only, so that one generator decides all numbers.
"""

import math

import torch
from torch import Generator, Tensor

#: Numbers that a CPU works on at once: about the size of its cache.
_PART_NUMBERS = 2**16
#: Exponent from which on Pareto noise is small beside its scale.
_NEARLY_LAPLACE = 30.0


def fill_laplace(out: Tensor, generator: Generator | None) -> None:
    """Overwrite with Laplace noise of density exp(-|x|) / 2, by inversion.

    Parameters
    ----------
    out : torch.Tensor
        In float32 or float64.

    generator : torch.Generator or None
        Source of randomness.
    """
    for part in in_parts(out):
        _fill_signed_uniform(part, generator)
        # 1 - |u| is exact, and never 0.
        magnitude = part.abs().neg_().add_(1.0).log_()
        torch.copysign(magnitude, part, out=part)


def fill_pareto(out: Tensor, a: float, generator: Generator | None) -> None:
    """Overwrite with noise of density proportional to (1 + |x|)^-(a + 1), by inversion.

    Parameters
    ----------
    out : torch.Tensor
        In float32 or float64.

    a : float
        Exponent of the tail, above 0.

    generator : torch.Generator or None
        Source of randomness.
    """
    cell = torch.finfo(out.dtype).eps
    for part in in_parts(out):
        _fill_signed_uniform(part, generator)
        survival = part.abs().neg_().add_(1.0)
        # Polynomial tails magnify the grid of the uniform law: draw inside its last cells.
        coarse = (survival < 2**8 * cell).nonzero()[:, 0]
        inside = torch.empty(len(coarse), dtype=out.dtype, device=out.device)
        inside.uniform_(-0.5 + cell, 0.5, generator=generator)
        survival[coarse] += cell * inside
        magnitude = survival.log_().mul_(-1.0 / a)
        # exp is six times as fast, and as exact until the noise is small beside 1.
        magnitude = (
            magnitude.expm1_() if a > _NEARLY_LAPLACE else magnitude.exp_().sub_(1.0)
        )
        torch.copysign(magnitude, part, out=part)


def in_parts(numbers: Tensor, size: int = _PART_NUMBERS) -> tuple[Tensor, ...]:
    """Views of the numbers, flat: a CPU gets `size` at once, and a GPU all."""
    flat = numbers.view(-1)
    return flat.split(size) if flat.device.type == "cpu" else (flat,)


def _fill_signed_uniform(out: Tensor, generator: Generator | None) -> None:
    """Uniform on the centres of the cells that torch draws from.

    They are odd multiples of eps / 2 inside (-1, 1): symmetric, and never 0, -1 or 1.
    """
    out.uniform_(-1.0 + torch.finfo(out.dtype).eps / 2, 1.0, generator=generator)


def fill_exponential_power(
    out: Tensor, p: float, scale: float, generator: Generator | None
) -> None:
    """Overwrite with noise of density proportional to exp(-|x / scale|^p).

    It is a mixture of uniform laws (Khinchine): V G^(1/p) with V uniform on (-1, 1) and
    G ~ Gamma(1 + 1/p), whose shape is above 1 for every p.

    Parameters
    ----------
    out : torch.Tensor
        In float32 or float64.

    p : float
        Exponent, above 0.

    scale : float
        Scale of the law.

    generator : torch.Generator or None
        Source of randomness.
    """
    refused, start = [], 0
    work = torch.empty(
        (3, min(out.numel(), _PART_NUMBERS if out.device.type == "cpu" else out.numel())),
        dtype=out.dtype,
        device=out.device,
    )
    for part in in_parts(out):
        places = _propose_exponential_power(part, p, scale, generator, work[:, : len(part)])
        refused.append(start + places)
        start += len(part)
    again = torch.cat(refused)
    if len(again):
        fresh = torch.empty(len(again), dtype=out.dtype, device=out.device)
        fill_exponential_power(fresh, p, scale, generator)
        out.view(-1)[again] = fresh


def _propose_exponential_power(
    out: Tensor,
    p: float,
    scale: float,
    generator: Generator | None,
    work: Tensor,
) -> Tensor:
    """Overwrite with draws, and return the places of the refused ones.

    The gamma law's rejection is that of Marsaglia and Tsang (2000), d (1 + c x)^3 for
    normal x: it accepts at least nineteen of twenty proposals. `work` is (3, len(out)).
    """
    d = 2.0 / 3.0 + 1.0 / p
    c = 1.0 / math.sqrt(9.0 * d)
    normal, uniform, squeeze = work
    normal.normal_(generator=generator)
    uniform.uniform_(generator=generator)
    # Their squeeze, u < 1 - 0.0331 x^4, accepts most proposals without a logarithm.
    torch.mul(normal, normal, out=squeeze)
    squeeze.mul_(squeeze).mul_(0.0331).add_(uniform)
    doubtful = (squeeze >= 1.0).nonzero()[:, 0]
    x = normal[doubtful]
    cube = (1.0 + c * x) ** 3
    bound = 0.5 * x**2 + d * (1.0 - cube + cube.log())
    accepted = (cube > 0.0) & (uniform[doubtful].log() < bound)
    # (d (1 + c x)^3)^(1/p), times a uniform number with its sign.
    size = normal.mul_(c).add_(1.0).log_().mul_(3.0 / p)
    size.add_(math.log(d) / p + math.log(scale)).exp_()
    _fill_signed_uniform(out, generator)
    out.mul_(size)
    return doubtful[~accepted]


def log_gamma_draws(
    shape: float, n: int, generator: Generator | None, device: torch.device
) -> Tensor:
    """Logarithms of gamma draws, which do not underflow for small shapes.

    Parameters
    ----------
    shape : float
        Above 0.

    n : int
        Number of draws.

    generator : torch.Generator or None
        Source of randomness.

    device : torch.device
        Device of the draws.

    Returns
    -------
    log_draws : torch.Tensor of shape (n,), float64
        Finite.
    """
    # Gamma(shape) = Gamma(shape + 1) U^(1 / shape), and -log(U) is exponential.
    gamma = torch.full((n,), shape + 1.0, dtype=torch.float64, device=device)
    gamma = torch._standard_gamma(gamma, generator=generator).log_()
    exponential = torch.empty_like(gamma).exponential_(generator=generator)
    return gamma.sub_(exponential, alpha=1.0 / shape)
