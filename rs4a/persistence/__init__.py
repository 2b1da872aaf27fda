"""Trained networks in files."""

from typing import Any

from rs4a.persistence.checkpoints import load_checkpoint
from rs4a.utils.moved import moved

__all__ = ["load_checkpoint"]


def __getattr__(name: str) -> Any:
    return moved(__name__, name)
