"""Errors and warnings that rs4a adds to Python's own."""

__all__ = ["CertificationWarning", "UnsupportedNormError"]


class UnsupportedNormError(ValueError):
    """No certified radius exists for the norm that was asked for."""


class CertificationWarning(UserWarning):
    """A certification is valid, but cannot say what its user hopes for."""
