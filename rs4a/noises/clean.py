"""No noise: the base classifier, for comparison."""

import math

import numpy as np
from torch import Generator, Tensor

from rs4a.noises.additive import AdditiveNoise
from rs4a.radii.rounding import FloatArray


class Clean(AdditiveNoise):
    """No noise: trains and predicts as the base classifier, and certifies nothing.

    Every radius is 0. In a search beside other noises it shows the accuracy that robustness
    costs.

    Parameters
    ----------
    sigma : float, default=None
        Ignored, so that one search can vary it over noises of several classes.

    lambd : float, default=None
        Ignored.

    Examples
    --------
    >>> from rs4a.noises import Clean
    >>> Clean().radius([0.5, 0.9, 1.0], norm=2, dim=3072)
    array([0., 0., 0.])
    """

    norms = (2.0, 1.0, math.inf)

    def _scales(self, dim: int) -> tuple[float, float]:
        return 0.0, 0.0

    def _unit_sigma(self, dim: int) -> float:
        return 1.0

    def _fill_noise(self, out: Tensor, generator: Generator | None) -> float:
        out.zero_()
        return 1.0

    def _unit_radius(self, prob_lower: FloatArray, norm: float, dim: int) -> FloatArray:
        return np.zeros_like(prob_lower)
