"""Tensors by name in files of torch and of safetensors, without running code from them."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

__all__ = ["State", "read_file", "read_header", "write_file"]

State = dict[str, torch.Tensor]

_FORMAT_VERSION = 1
#: Entry of a file's metadata that says that `write_file` wrote it.
_HEADER = "rs4a"


def write_file(path: Path, tensors: State, header: dict[str, Any]) -> None:
    """Write tensors and JSON as one file of safetensors, whole or not at all.

    Raises
    ------
    TypeError
        If JSON cannot hold the header.
    """
    text = json.dumps({"format": _FORMAT_VERSION, **header}, default=_as_list)
    plain = {name: each.detach().cpu().contiguous() for name, each in tensors.items()}
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(save(plain, {_HEADER: text}))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_file(path: Path) -> tuple[State, dict[str, Any] | None]:
    """Tensors of a file, and the header that `write_file` wrote beside them.

    Raises
    ------
    ValueError
        If it is damaged, holds anything but weights, or these are not finite.
    """
    header = read_header(path)
    try:
        if _is_safetensors(path):
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        raise _not_whole(path, error) from error
    tensors = _state_dict(path, content)
    if bad := [name for name, each in tensors.items() if not each.isfinite().all()]:
        raise ValueError(f"{path.name} has weights that are not finite: {bad[:3]}.")
    return tensors, header


def read_header(path: Path) -> dict[str, Any] | None:
    """What `write_file` wrote beside the tensors; None for the files of others.

    Raises
    ------
    ValueError
        If it is a damaged file of safetensors.
    """
    if not _is_safetensors(path):
        return None
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_HEADER)
        return None if text is None else _parsed(text)
    except Exception as error:  # a damaged file fails in many ways
        raise _not_whole(path, error) from error


def _parsed(text: str) -> dict[str, Any]:
    header = json.loads(text)
    if header["format"] != _FORMAT_VERSION:
        raise ValueError(f"format {header['format']} is not {_FORMAT_VERSION}")
    network = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in header["network"].items()
    }
    return {"network": network, "classes": header["classes"], "user": header["user"]}


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins with the length of a JSON object, and the object."""
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def _state_dict(path: Path, content: Any) -> State:
    """State dict in what a file holds: that itself, or a dict of it and other things."""
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and _is_dense(value) for name, value in content.items()
    ):
        raise ValueError(f"{path.name} holds no dict of tensors by name.")
    return content


def _is_dense(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _not_whole(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path.name} is not a whole file of weights alone, by torch or safetensors: "
        f"{type(error).__name__} in reading it."
    )


def _as_list(value: Any) -> Any:
    """Arrays, tensors and numbers of numpy as JSON can hold them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(
        f"{value!r} cannot be saved: only numbers, strings, None, and lists and dicts of "
        "them can."
    )
