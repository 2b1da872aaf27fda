"""Files of saved classifiers: JSON and tensors, with a digest of both."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from rs4a.persistence.tensors import State
from rs4a.utils.version import __version__

__all__ = ["content_digest", "read_classifier_file", "write_classifier_file"]

_FORMAT_VERSION = 1
_HEADER, _DIGEST = "rs4a_classifier", "digest"


def write_classifier_file(path: Path, header: dict[str, Any], tensors: State) -> None:
    """Write what JSON can hold, and tensors, as one file of safetensors."""
    versions = {"format": _FORMAT_VERSION, "rs4a": __version__}
    text = json.dumps({**versions, **header}, allow_nan=False)
    # Copies: the format knows no tensors that share memory, as tied weights do.
    plain = {
        name: each.detach().to("cpu", copy=True).contiguous()
        for name, each in tensors.items()
    }
    path.write_bytes(save(plain, {_HEADER: text, _DIGEST: content_digest(text, plain)}))


def read_classifier_file(path: Path) -> tuple[dict[str, Any], State]:
    """Read what `write_classifier_file` wrote. No code from the file is run.

    Raises
    ------
    ValueError
        If the file is another one, of a later format, or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(
            f"{path.name} is not a whole file, as SmoothedClassifier.save writes it: "
            f"{type(error).__name__} in reading it."
        ) from error
    if _HEADER not in metadata:
        raise ValueError(
            f"{path.name} must be a file that SmoothedClassifier.save wrote, got other "
            "weights. SmoothedClassifier.from_checkpoint reads checkpoints of nets."
        )
    header = _parsed(path, metadata[_HEADER])
    if metadata.get(_DIGEST) != content_digest(metadata[_HEADER], tensors):
        raise ValueError(f"{path.name} is damaged: its content and its digest differ.")
    return header, tensors


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
        stated = header["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(
            f"{path.name} is damaged: its header is not as SmoothedClassifier.save writes "
            f"it, {type(error).__name__} in reading it."
        ) from error
    if stated != _FORMAT_VERSION:
        raise ValueError(
            f"{path.name} has format {stated!r:.20}, of rs4a {header.get('rs4a')!r:.20}; "
            f"this version, {__version__}, reads format {_FORMAT_VERSION}."
        )
    return dict(header)


def content_digest(text: str, tensors: State) -> str:
    """Digest of a text and of tensors with their names, in 32 hexadecimal digits."""
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(content.view(torch.uint8).numpy().data)
    return digest.hexdigest()
