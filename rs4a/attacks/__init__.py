"""Attacks on smoothed classifiers: the other side of certificates."""

from rs4a.attacks.pgd import PGD

__all__ = ["PGD"]
