"""What a file of one's own says beside the weights: network, classes and metadata."""

from __future__ import annotations

import json
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["class_labels", "header_text", "parse_header"]

_FORMAT_VERSION = 1
_ENTRIES = {"network": dict, "classes": list, "user": dict}


def header_text(header: dict[str, Any]) -> str:
    """Header as JSON.

    Raises
    ------
    TypeError
        If JSON cannot hold it.
    """
    return json.dumps({"format": _FORMAT_VERSION, **header}, default=_as_list)


def parse_header(text: str) -> dict[str, Any]:
    """Header from JSON, with all its entries of the types that they must have.

    Raises
    ------
    ValueError
        If it is another one.
    """
    try:
        header = json.loads(text)
    except RecursionError as error:  # of brackets without end
        raise ValueError("it is no JSON.") from error
    if not isinstance(header, dict) or header.get("format") != _FORMAT_VERSION:
        raise ValueError(f"it must be a dict of format {_FORMAT_VERSION}.")
    for name, kind in _ENTRIES.items():
        if not isinstance(header.get(name), kind):
            raise ValueError(
                f"{name} must be a {kind.__name__}, got {header.get(name)!r:.100}."
            )
    network = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in header["network"].items()
    }
    classes = class_labels(header["classes"])
    return {"network": network, "classes": classes, "user": header["user"]}


def class_labels(classes: ArrayLike) -> list[Any]:
    """Labels of outputs as a list.

    Raises
    ------
    ValueError
        If they are not all numbers or all strings, or two are the same.
    """
    labels = np.asarray(classes, dtype=object).tolist()
    if not isinstance(labels, list) or not (
        _all_are(str, labels) or _all_are(Real, labels)
    ):
        raise ValueError(
            f"classes must be a list of numbers or of strings, got {classes!r:.100}."
        )
    if len(set(labels)) < len(labels):
        raise ValueError(f"classes must differ, got {labels!r:.100}.")
    return labels


def _all_are(kind: type, values: list[Any]) -> bool:
    return all(isinstance(value, kind) for value in values)


def _as_list(value: Any) -> Any:
    """Arrays, tensors and numbers of numpy as JSON can hold them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(
        f"{value!r} cannot be saved: only numbers, strings, None, and lists and dicts of "
        "them can."
    )
