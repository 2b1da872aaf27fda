"""Files of saved classifiers and of weights: JSON and tensors, without code."""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from rs4a.utils.version import __version__

State = dict[str, torch.Tensor]

_FORMAT_VERSION = 1
#: Entries of a file's metadata: of a saved classifier, and of `save_checkpoint` in 0.1.0.
_HEADER, _DIGEST, _HEADER_0_1_0 = "rs4a_classifier", "digest", "rs4a"
#: Names of the weights among other things in a file of a training script.
_STATE_KEYS = ("state_dict", "model_state_dict", "model", "net")


# Saved classifiers


def write_classifier(path: Path, header: dict[str, Any], tensors: State) -> None:
    """Write values that JSON can hold, and tensors, as one file of safetensors."""
    versions = {"format": _FORMAT_VERSION, "rs4a": __version__}
    text = json.dumps({**versions, **header}, allow_nan=False)
    # Copies: the format knows no tensors that share memory, as tied weights do.
    copies = {
        name: each.detach().to("cpu", copy=True).contiguous()
        for name, each in tensors.items()
    }
    path.write_bytes(save(copies, {_HEADER: text, _DIGEST: content_digest(text, copies)}))


def read_classifier(path: Path) -> tuple[dict[str, Any], State]:
    """Read header and tensors that `write_classifier` wrote. No code from the file is run.

    Raises
    ------
    ValueError
        If the file is another one, of a later format, or damaged.
    """
    try:
        metadata, tensors = _read_safetensors(path)
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
    text = metadata[_HEADER]
    if metadata.get(_DIGEST) != content_digest(text, tensors):
        raise ValueError(f"{path.name} is damaged: its content and its digest differ.")
    header = json.loads(text)
    if header["format"] != _FORMAT_VERSION:
        raise ValueError(
            f"{path.name} has format {header['format']!r:.20}, of rs4a "
            f"{header.get('rs4a')!r:.20}; this version, {__version__}, reads format "
            f"{_FORMAT_VERSION}."
        )
    return header, tensors


def content_digest(text: str, tensors: State) -> str:
    """Digest of a text and of tensors with their names, in 32 hexadecimal digits."""
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        content = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(content.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> tuple[dict[str, str], State]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return file.metadata() or {}, tensors


# Weights


def read_weights(path: Path) -> tuple[State, dict[str, Any] | None, str | None]:
    """Read weights, and the statements of the file beside them.

    Returns
    -------
    tensors : dict of str to torch.Tensor
        Weights, together no larger than the file; they may be not finite.

    header : dict or None
        Network, classes and metadata that version 0.1.0 wrote; None for other files.

    arch : str or None
        Network, as Cohen et al.'s training script names it; None for other files.

    Raises
    ------
    ValueError
        If the file is damaged, or holds anything but weights.
    """
    content: Any
    header, is_safetensors = None, _is_safetensors(path)
    try:
        if is_safetensors:
            metadata, content = _read_safetensors(path)
            header = _header_of_0_1_0(metadata)
        else:
            _check_uncompressed(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(
            f"{path.name} is not a whole file of weights alone, by torch or safetensors: "
            f"{type(error).__name__} in reading it."
        ) from error
    arch = content.get("arch") if isinstance(content, dict) else None
    tensors = _state_dict(path, content)
    # A view may show its memory many times: a copy of the view could be endless.
    size, size_of_file = sum(each.nbytes for each in tensors.values()), path.stat().st_size
    if size > size_of_file:
        raise ValueError(
            f"{path.name} has {size} bytes of weights in a file of {size_of_file} bytes: "
            "several share one memory."
        )
    return tensors, header, arch if isinstance(arch, str) else None


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins with the length of a JSON object, and the object."""
    with path.open("rb") as file:
        return path.suffix == ".safetensors" or file.read(9)[8:] == b"{"


def _check_uncompressed(path: Path) -> None:
    """Refuse archives that grow when they are read; torch writes no such archive."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > path.stat().st_size:
            raise ValueError(f"it would grow to {size} bytes")


def _header_of_0_1_0(metadata: dict[str, str]) -> dict[str, Any] | None:
    if _HEADER_0_1_0 not in metadata:
        return None
    header = json.loads(metadata[_HEADER_0_1_0])
    network = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in header["network"].items()
    }
    return {"network": network, "classes": header["classes"], "user": dict(header["user"])}


def _state_dict(path: Path, content: Any) -> State:
    """State dict in a file: the content itself, or an entry of a dict."""
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
        isinstance(name, str)
        and isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        for name, value in content.items()
    )
