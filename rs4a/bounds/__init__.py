"""From votes to bounds on the probabilities of the classes."""

from rs4a.bounds.base import Bound, TopVotes, top_votes
from rs4a.bounds.clopper_pearson import ClopperPearson
from rs4a.bounds.confidence_sequence import ConfidenceSequence

__all__ = ["Bound", "ClopperPearson", "ConfidenceSequence", "TopVotes", "top_votes"]
