"""skorch callbacks for training under noise, and for long trainings."""

from rs4a.callbacks.epoch_scoring import certified_epoch_scoring
from rs4a.training.resume import ResumeTraining

__all__ = ["ResumeTraining", "certified_epoch_scoring"]
