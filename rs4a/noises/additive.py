"""Noise that is added to the input."""

from abc import abstractmethod

import torch
from torch import Generator, Tensor

from rs4a.noises.base import Noise


class AdditiveNoise(Noise):
    """Base class of smoothing noise that is added to the input.

    A subclass states its distribution at unit scale: `_unit_sigma`, `_fill_noise`,
    `_unit_radius` for the norms in `norms`, and `_check_shape` if it has parameters
    besides its scale. The noise must be symmetric about 0.

    Parameters
    ----------
    sigma : float, default=None
        Standard deviation of a coordinate, in units of X.

    lambd : float, default=None
        Scale lambda of the noise, in units of X. Exactly one of `sigma` and `lambd`
        must be given when the noise is used.

    Examples
    --------
    >>> from rs4a.noises import AdditiveNoise, Gaussian, Splitting
    >>> isinstance(Gaussian(sigma=0.5), AdditiveNoise)
    True
    >>> isinstance(Splitting(sigma=0.5), AdditiveNoise)
    False
    """

    @abstractmethod
    def _fill_noise(self, out: Tensor, generator: Generator | None) -> float | Tensor:
        """Overwrite `out` with noise, up to the factor that gives it scale 1.

        `out` is (n, ...), contiguous, in float32 or float64. The factor is returned: a
        number, or a tensor of shape (n,) in float64.
        """

    def _sample_at_scale(
        self, scale: float, x: Tensor, generator: Generator | None, out: Tensor | None
    ) -> Tensor:
        if x.numel() == 0:
            return x.clone() if out is None else out
        noise = torch.empty(x.shape, dtype=x.dtype, device=x.device) if out is None else out
        draw = noise
        if noise.dtype.itemsize < 4 or not noise.is_contiguous():
            # Half precision has too few values to draw from: float32, then rounded.
            draw = torch.empty(
                x.shape, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device
            )
        factor = self._fill_noise(draw, generator)
        result = None if x.requires_grad and out is None else noise
        if isinstance(factor, Tensor):
            factor = (factor * scale).to(draw.dtype).view(-1, *[1] * (x.dim() - 1))
            noisy = torch.addcmul(x, draw, factor, out=result)
        else:
            noisy = torch.add(x, draw, alpha=factor * scale, out=result)
        return noisy.to(x.dtype)
