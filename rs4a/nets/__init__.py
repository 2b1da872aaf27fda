"""Nets: their outputs and parts, how they run when they vote, and their digests."""
