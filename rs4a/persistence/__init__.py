"""Results and classifiers in files: one's own, and those of the paper's code."""

from rs4a.persistence.from_checkpoint import classifier_from_checkpoint
from rs4a.noises.by_name import make_noise
from rs4a.records.results import read_results, write_results
from rs4a.persistence.classifiers import load_classifier, save_classifier

__all__ = [
    "classifier_from_checkpoint",
    "load_classifier",
    "make_noise",
    "read_results",
    "save_classifier",
    "write_results",
]
