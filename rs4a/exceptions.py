"""Errors and warnings that rs4a adds to Python's own."""

__all__ = ["CertificationWarning", "UnsupportedNormError"]


class UnsupportedNormError(ValueError):
    """The noise has no certified radius in this norm."""


class CertificationWarning(UserWarning):
    """A certification may claim less than its user expects, or nothing."""
