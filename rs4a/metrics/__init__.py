"""Scores, scorers and displays of certifications and attacks."""

from rs4a.metrics.attacks import AttackDisplay, attack_score
from rs4a.metrics.displays import CertifiedAccuracyDisplay, RadiusDisplay
from rs4a.metrics.scorers import make_certified_scorer
from rs4a.metrics.scores import (
    abstention_rate,
    average_certified_radius,
    certified_accuracy_score,
)

__all__ = [
    "AttackDisplay",
    "CertifiedAccuracyDisplay",
    "RadiusDisplay",
    "abstention_rate",
    "attack_score",
    "average_certified_radius",
    "certified_accuracy_score",
    "make_certified_scorer",
]
