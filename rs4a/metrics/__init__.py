"""Scores, scorers and displays of certifications."""

from rs4a.metrics.displays import CertifiedAccuracyDisplay, RadiusDisplay
from rs4a.metrics.scorers import make_certified_scorer
from rs4a.metrics.scores import (
    abstention_rate,
    average_certified_radius,
    certified_accuracy_score,
)

__all__ = [
    "CertifiedAccuracyDisplay",
    "RadiusDisplay",
    "abstention_rate",
    "average_certified_radius",
    "certified_accuracy_score",
    "make_certified_scorer",
]
