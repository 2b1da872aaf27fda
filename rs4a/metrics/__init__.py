"""Scores, scorers, tables and displays of certifications, attacks and training."""

from typing import Any

from rs4a.metrics.attacks import AttackDisplay, attack_score
from rs4a.metrics.comparisons import CertifiedComparison, compare_certified
from rs4a.metrics.displays import CertifiedAccuracyDisplay, RadiusDisplay
from rs4a.metrics.predictions import noise_name
from rs4a.metrics.propagation import NoisePropagationDisplay, noise_propagation
from rs4a.metrics.scorers import make_certified_scorer
from rs4a.metrics.scores import (
    abstention_rate,
    average_certified_radius,
    certified_accuracy_interval,
    certified_accuracy_score,
    jointly_certified,
)
from rs4a.metrics.sigma_panels import (
    EnvelopeDisplay,
    PredictionDisplay,
    SigmaCurvesDisplay,
)
from rs4a.metrics.tables import (
    certified_accuracy_frame,
    certified_accuracy_table,
    format_accuracy_table,
)
from rs4a.metrics.training_curves import AccuracyAgainstSigmaDisplay, TrainingLossDisplay
from rs4a.utils.moved import moved

__all__ = [
    "AccuracyAgainstSigmaDisplay",
    "AttackDisplay",
    "CertifiedAccuracyDisplay",
    "CertifiedComparison",
    "EnvelopeDisplay",
    "NoisePropagationDisplay",
    "PredictionDisplay",
    "RadiusDisplay",
    "SigmaCurvesDisplay",
    "TrainingLossDisplay",
    "abstention_rate",
    "attack_score",
    "average_certified_radius",
    "certified_accuracy_frame",
    "certified_accuracy_interval",
    "certified_accuracy_score",
    "certified_accuracy_table",
    "compare_certified",
    "format_accuracy_table",
    "jointly_certified",
    "make_certified_scorer",
    "noise_name",
    "noise_propagation",
]


def __getattr__(name: str) -> Any:
    return moved(__name__, name)
