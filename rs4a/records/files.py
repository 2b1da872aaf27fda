"""Files of records: an npz archive of arrays and of JSON, without pickle."""

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs4a.utils.files import whole_file

__all__ = ["read_record", "write_record"]

#: 1: the first; 2: with inference and net_digest; 3: with box and reach, and records
#: without a bound.
_FORMAT_VERSION = 3


def write_record(
    path: str | os.PathLike[str], arrays: Mapping[str, NDArray], metadata: dict[str, Any]
) -> None:
    """Write arrays and what JSON can hold. The file appears whole or not at all.

    Parameters
    ----------
    path : str or path-like
        File to write, under exactly this name.

    arrays : mapping of str to ndarray
        Arrays of numbers or strings.

    metadata : dict
        Anything else, as JSON can hold it.
    """
    text = json.dumps({"format": _FORMAT_VERSION, **metadata})
    for name, array in arrays.items():
        if array.dtype.hasobject:  # numpy before 2.1 has no option that refuses it
            raise TypeError(f"{name} must hold numbers or strings, got objects.")
    with whole_file(path) as partial, partial.open("wb") as file:
        content: dict[str, Any] = {"metadata": np.array(text), **arrays}
        np.savez_compressed(file, **content)


def read_record(
    path: str | os.PathLike[str], names: Collection[str], optional: Collection[str]
) -> tuple[dict[str, NDArray], dict[str, Any]]:
    """Read what `write_record` wrote. No code from the file is run.

    Parameters
    ----------
    path : str or path-like
        File to read.

    names : collection of str
        Arrays that there must be.

    optional : collection of str
        Arrays that there may be.

    Returns
    -------
    arrays : dict of str to ndarray
        The arrays.

    metadata : dict
        What else was written.

    Raises
    ------
    ValueError
        If the file is not whole, or of a later version.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        metadata = json.loads(str(arrays.pop("metadata")))
        version = metadata["format"]
        if set(arrays) - set(optional) != set(names):
            raise KeyError(f"arrays {sorted(arrays)}")
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(
            f"{Path(path).name} is not a whole Certification, as save writes it: "
            f"{type(error).__name__} in reading it."
        ) from error
    if version not in range(1, _FORMAT_VERSION + 1):
        raise ValueError(
            f"{Path(path).name} has format {version}, this version of rs4a reads "
            f"formats 1 to {_FORMAT_VERSION}."
        )
    return arrays, metadata
