"""Classes by their code, so that a changed class is not taken for what it was."""

import inspect

import joblib

__all__ = ["class_code"]

#: Packages whose code is known by their version.
_VERSIONED = {"torch", "torchvision", "skorch", "sklearn"}


def class_code(kind: type) -> str:
    """Name of a class, with a digest of its source where that may change.

    Parameters
    ----------
    kind : type
        The class.

    Returns
    -------
    code : str
        The name alone for classes that were typed in, whose source nobody has.
    """
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__.partition(".")[0] in _VERSIONED:
        return name
    try:
        return f"{name} {joblib.hash(inspect.getsource(kind))}"
    except (OSError, TypeError):
        return name
