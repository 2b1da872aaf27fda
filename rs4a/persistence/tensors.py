"""Tensors by name in files of torch and of safetensors, without running code from them."""

import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file

__all__ = ["Content", "State", "read_file", "read_header"]

State = dict[str, torch.Tensor]

#: Entry of a file's metadata that says that `save_checkpoint` of version 0.1.0 wrote it.
_HEADER = "rs4a"
#: What scripts of training call the weights among other things in a file.
_STATE_KEYS = ("state_dict", "model_state_dict", "model", "net")
_ZIP_MAGIC = b"PK\x03\x04"


class Content(NamedTuple):
    """What a file of weights holds.

    Parameters
    ----------
    tensors : dict of str to torch.Tensor
        Weights, together no larger than the file; not yet known to be finite.

    header : dict or None
        What version 0.1.0 wrote beside them; None for all other files.

    arch : str or None
        What Cohen et al.'s training script calls the network; None for other files.
    """

    tensors: State
    header: dict[str, Any] | None
    arch: str | None


def read_file(path: Path) -> Content:
    """Read tensors, and what the file says beside them.

    Raises
    ------
    ValueError
        If it is damaged, or holds anything but weights.
    """
    is_safetensors = _is_safetensors(path)
    try:
        header = read_header(path)
        if is_safetensors:
            content = load_file(path)
        else:
            _check_uncompressed(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        raise _not_whole(path, error) from error
    arch = content.get("arch") if isinstance(content, dict) else None
    tensors = _state_dict(path, content)
    _check_sizes(path, tensors)
    return Content(tensors, header, arch if isinstance(arch, str) else None)


def read_header(path: Path) -> dict[str, Any] | None:
    """Network, classes and metadata that version 0.1.0 wrote; None for all other files."""
    if not _is_safetensors(path):
        return None
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(_HEADER)
    if text is None:
        return None
    header = json.loads(text)
    network = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in header["network"].items()
    }
    return {"network": network, "classes": header["classes"], "user": dict(header["user"])}


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins with the length of a JSON object, and the object."""
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def _check_uncompressed(path: Path) -> None:
    """Refuse archives that grow when they are read; torch writes no such ones."""
    with path.open("rb") as file:
        if file.read(len(_ZIP_MAGIC)) != _ZIP_MAGIC:
            return
    with zipfile.ZipFile(path) as archive:
        size = sum(info.file_size for info in archive.infolist())
    if size > path.stat().st_size:
        raise ValueError(f"it would grow to {size} bytes")


def _state_dict(path: Path, content: Any) -> State:
    """State dict in what a file holds: that itself, or a dict of it and other things."""
    inner = content if isinstance(content, dict) else {}
    found = {key: inner[key] for key in _STATE_KEYS if _is_state(inner.get(key))}
    if len(found) > 1:
        raise ValueError(
            f"{path.name} holds several dicts of tensors by name: {', '.join(found)}. Save "
            "one of them alone."
        )
    state = next(iter(found.values()), content)
    if not _is_state(state):
        raise ValueError(
            f"{path.name} holds no dict of tensors by name, neither itself nor under "
            f"{', '.join(_STATE_KEYS)}."
        )
    return dict(state)


def _is_state(content: Any) -> bool:
    return isinstance(content, dict) and all(
        isinstance(name, str) and _is_dense(value) for name, value in content.items()
    )


def _is_dense(value: Any) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _check_sizes(path: Path, tensors: State) -> None:
    """Refuse views that show memory over and over: a copy of them could be endless."""
    for name, each in tensors.items():
        if each.untyped_storage().nbytes() < each.nbytes:
            raise ValueError(
                f"{path.name} has for {name}, of shape {tuple(each.shape)}, fewer values "
                "than the shape says."
            )
    size, size_of_file = sum(each.nbytes for each in tensors.values()), path.stat().st_size
    if size > size_of_file:
        raise ValueError(
            f"{path.name} has {size} bytes of weights in a file of {size_of_file} bytes: "
            "several share one memory."
        )


def _not_whole(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path.name} is not a whole file of weights alone, by torch or safetensors: "
        f"{type(error).__name__} in reading it."
    )
