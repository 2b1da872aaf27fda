"""Training objectives: parameter objects that turn noisy outputs into a loss."""

from rs4a.objectives.augmentation import NoiseAugmentation
from rs4a.objectives.base import Batch, NoisyOutputs, Objective
from rs4a.objectives.consistency import Consistency
from rs4a.objectives.direct import Direct
from rs4a.objectives.macer import MACER
from rs4a.objectives.smooth_adv import SmoothAdv
from rs4a.objectives.stability import Stability

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
