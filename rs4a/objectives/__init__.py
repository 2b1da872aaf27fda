"""Training objectives: parameter objects that turn noisy outputs into a loss."""

from rs4a.objectives.base import Batch, NoisyOutputs, Objective
from rs4a.objectives.independent_copies import (
    MACER,
    Consistency,
    Direct,
    NoiseAugmentation,
    Stability,
)
from rs4a.objectives.smooth_adv import SmoothAdv

__all__ = [
    "MACER",
    "Batch",
    "Consistency",
    "Direct",
    "NoiseAugmentation",
    "NoisyOutputs",
    "Objective",
    "SmoothAdv",
    "Stability",
]
