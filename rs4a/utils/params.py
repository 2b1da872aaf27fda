"""Parameter objects as JSON, without pickle."""

from inspect import isabstract
from types import ModuleType
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

_JSON_TYPES = (bool, int, float, str, type(None))


def to_json(obj: BaseEstimator) -> dict[str, Any]:
    """Class name and parameters of a parameter object, in values that JSON can hold.

    Raises
    ------
    TypeError
        If a parameter is neither a number, a string, None nor a list of these.
    """
    params = {name: _plain(name, value) for name, value in obj.get_params().items()}
    return {"class": type(obj).__name__, "params": params}


def from_json(data: Any, known: dict[str, type[Any]]) -> Any:
    """Build the object that `to_json` described, from the classes in `known` only.

    Raises
    ------
    ValueError
        If the class is not in `known`, or has no such parameters.
    """
    try:
        name, params = str(data["class"]), dict(data["params"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"The file must name a class and its params, got {data!r:.200}."
        ) from error
    if name not in known:
        raise ValueError(
            f"The file names the class {name!r}, which is none of {sorted(known)}. Give "
            "load the object that was used, as noise= or bound=."
        )
    params = without_former(known[name], params)
    if unknown := set(params) - set(known[name]._get_param_names()):
        raise ValueError(
            f"The file gives {name} parameters that it does not have: {sorted(unknown)}."
        )
    return known[name](**params)


def without_former(kind: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Parameters that a file states, without those of earlier versions of the class."""
    former = getattr(kind, "_former_params", ())
    return {name: value for name, value in params.items() if name not in former}


def check_own_name(name: str, obj: Any, known: dict[str, type[Any]]) -> None:
    """Refuse an object whose class has the name of another class in `known`."""
    kind = type(obj)
    if known.get(kind.__name__, kind) is not kind:
        raise ValueError(
            f"{name} must be of a class with another name than rs4a's {kind.__name__} to "
            f"be saved, got {kind.__module__}.{kind.__qualname__}."
        )


def known_classes(module: ModuleType) -> dict[str, type[Any]]:
    """Classes of a module that a file may name, by name."""
    public = {name: getattr(module, name) for name in module.__all__}
    return {
        name: each
        for name, each in public.items()
        if isinstance(each, type)
        and issubclass(each, BaseEstimator)
        and not isabstract(each)
    }


def _plain(name: str, value: Any) -> Any:
    if not isinstance(value, str) and np.ndim(value) == 1:
        return [_plain(name, each) for each in np.asarray(value).tolist()]
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, _JSON_TYPES):
        raise TypeError(
            f"The parameter {name}={value!r} cannot be saved: only numbers, strings, "
            "None and lists of them can."
        )
    return value
