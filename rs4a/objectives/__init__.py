"""Training objectives: parameter objects that turn noisy outputs into a loss."""

from rs4a.objectives.augmentation import NoiseAugmentation
from rs4a.objectives.base import Objective

__all__ = ["NoiseAugmentation", "Objective"]
