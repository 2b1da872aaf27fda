"""Files of certifications: an npz archive of arrays and of JSON, without pickle."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs4a import bounds, noises
from rs4a.bounds import Bound
from rs4a.nets.inference import Inference
from rs4a.noises import Noise
from rs4a.records.box import as_box
from rs4a.utils.files import whole_file
from rs4a.utils.params import check_own_name, from_json, known_classes, to_json

#: 1: the first; 2: with inference and net_digest; 3: with box and reach, and records
#: without a bound.
_FORMAT_VERSION = 3
_ARRAYS = ("classes", "selection_counts", "counts")
#: Fields that JSON holds as they are.
_UNCHANGED = ("dim", "alpha", "seconds", "adaptive", "net_digest")
_KNOWN = {"noise": known_classes(noises), "bound": known_classes(bounds)}


def write_certification(path: str | os.PathLike[str], certification: Any) -> None:
    """Write a record. The file appears whole or not at all.

    Parameters
    ----------
    path : str or path-like
        File to write, under exactly this name.

    certification : Certification
        The record.

    Raises
    ------
    ValueError
        If the noise or bound is of a user's class with the name of a class of rs4a.
    """
    objects = {
        name: getattr(certification, name) for name in ("noise", "bound", "inference")
    }
    for name, each in objects.items():
        check_own_name(name, each, _KNOWN.get(name, {}))
    box = certification.box
    arrays = {name: getattr(certification, name) for name in (*_ARRAYS, "tokens")}
    arrays["reach"] = box and box.reach
    metadata = {
        "format": _FORMAT_VERSION,
        **{name: each and to_json(each) for name, each in objects.items()},
        **{name: getattr(certification, name) for name in _UNCHANGED},
        "norm": str(certification.norm),
        "box": box and box.interval,
        "runs": certification.runs,
        "index": _index_to_json(certification.index),
    }
    arrays["metadata"] = np.array(json.dumps(metadata))
    known = {name: array for name, array in arrays.items() if array is not None}
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **known)


def read_certification(
    path: str | os.PathLike[str], *, noise: Noise | None, bound: Bound | None
) -> dict[str, Any]:
    """Read a record that `write_certification` wrote. No code from the file is run.

    Parameters
    ----------
    path : str or path-like
        File to read.

    noise : Noise or None
        The noise of the record, needed if its class is none of rs4a's classes.

    bound : Bound or None
        Likewise, the bound.

    Returns
    -------
    arguments : dict
        Keyword arguments of :class:`~rs4a.Certification`.

    Raises
    ------
    ValueError
        If the file is not a whole record, is of a later version, or states another noise
        or bound than is given.
    """
    arrays, metadata = _read_archive(Path(path))
    inference = metadata.get("inference")  # format 1 has none
    reach, box = arrays.pop("reach", None), as_box(metadata.get("box"))
    index = metadata.get("index")
    return {
        **arrays,
        "noise": _stated("noise", metadata["noise"], noise),
        "bound": metadata["bound"] and _stated("bound", metadata["bound"], bound),
        "norm": float(metadata["norm"]),
        "inference": inference and from_json(inference, {"Inference": Inference}),
        "box": box and replace(box, reach=reach),
        "runs": tuple(metadata.get("runs", ())),
        "index": index and pd.Index(index["values"], name=index["name"]),
        **{name: metadata[name] for name in _UNCHANGED if name in metadata},
    }


def _read_archive(path: Path) -> tuple[dict[str, NDArray], dict[str, Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        metadata = json.loads(str(arrays.pop("metadata")))
        version = metadata["format"]
        if set(arrays) - {"tokens", "reach"} != set(_ARRAYS):
            raise KeyError(f"arrays {sorted(arrays)}")
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(
            f"{path.name} is not a whole Certification, as save writes it: "
            f"{type(error).__name__} in reading it."
        ) from error
    if version not in range(1, _FORMAT_VERSION + 1):
        raise ValueError(
            f"{path.name} has format {version}, this version of rs4a reads "
            f"formats 1 to {_FORMAT_VERSION}."
        )
    return arrays, metadata


def _stated(name: str, stated: dict[str, Any], given: Any) -> Any:
    """The object that a file states; a given object must be the same."""
    known = _KNOWN[name]
    if given is None:
        return from_json(stated, known)
    if stated["class"] in known:  # adds parameters that an older file does not have
        stated = to_json(from_json(stated, known))
    if to_json(given) != stated:
        params = ", ".join(f"{key}={value!r}" for key, value in stated["params"].items())
        raise ValueError(
            f"{name} must be the record's own, {stated['class']}({params}), got {given}."
        )
    return given


def _index_to_json(index: pd.Index | None) -> dict[str, Any] | None:
    """An index of whole numbers or strings as JSON; None for any other index."""
    if index is None or not isinstance(index.name, str | None):
        return None
    values = index.tolist()
    is_plain = any({type(value) for value in values} <= {kind} for kind in (int, str))
    return {"values": values, "name": index.name} if is_plain else None
