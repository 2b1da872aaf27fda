"""Records of certified predictions: votes, bounds, logs, and their folders."""

from rs4a.records.box import Box, as_box, coordinate_reach, input_free_reach
from rs4a.records.certification import Certification
from rs4a.records.log import CertificationLog, common_images
from rs4a.records.predictions import BoundRecord, CertifiedPredictions
from rs4a.records.results import read_results, write_results

__all__ = [
    "BoundRecord",
    "Box",
    "Certification",
    "CertificationLog",
    "CertifiedPredictions",
    "as_box",
    "common_images",
    "coordinate_reach",
    "input_free_reach",
    "read_results",
    "write_results",
]
