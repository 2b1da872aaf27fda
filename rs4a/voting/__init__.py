"""Votes of noisy copies, from blocks of noise to counts."""
