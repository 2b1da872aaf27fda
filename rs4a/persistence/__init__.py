"""Trained networks in files: published files, and files of this library."""

from typing import Any

from rs4a.persistence.checkpoints import (
    load_checkpoint,
    read_checkpoint_metadata,
    save_checkpoint,
)
from rs4a.utils.moved import moved

__all__ = ["load_checkpoint", "read_checkpoint_metadata", "save_checkpoint"]


def __getattr__(name: str) -> Any:
    return moved(__name__, name)
