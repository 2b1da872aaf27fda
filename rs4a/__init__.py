"""Certified robustness by randomized smoothing, as a scikit-learn estimator."""

from rs4a.classifier import SmoothedClassifier
from rs4a.exceptions import CertificationWarning, UnsupportedNormError
from rs4a.nets.inference import Inference
from rs4a.records.certification import Certification
from rs4a.utils.moved import add_moved_modules
from rs4a.utils.version import __version__

__all__ = [
    "Certification",
    "CertificationWarning",
    "Inference",
    "SmoothedClassifier",
    "UnsupportedNormError",
    "__version__",
]

add_moved_modules()
