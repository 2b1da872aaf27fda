"""Noises by the names that files have for them."""

import sys
from typing import Any

from rs4a.noises.base import Noise
from rs4a.utils.params import known_classes

__all__ = ["known_noises", "make_noise"]

_SCALES = {"sigma", "lambd"}
#: Files say nothing of them where noise was drawn as usual. A template without its seed is
#: refused later, by the net that it belongs to.
_UNUSUAL = {"exact", "levels", "seed"}


def known_noises() -> dict[str, type[Noise]]:
    """Classes of this package that a file may name, by name."""
    return known_classes(sys.modules[__name__.rpartition(".")[0]])


def make_noise(name: str, **params: Any) -> Noise:
    """Noise by the name of its class.

    Parameters
    ----------
    name : str
        Name of a class of :mod:`rs4a.noises`; case does not matter.

    **params : dict
        Its parameters, sigma above all. None but the scale may be left out: a default
        would be a guess about noise that was drawn before. Noise that is not called
        `exact` was not drawn exactly.

    Returns
    -------
    noise : Noise
        The noise.

    Raises
    ------
    ValueError
        If there is no such noise, or a parameter is missing or unknown.

    Examples
    --------
    >>> from rs4a.noises import make_noise
    >>> make_noise("expinf", sigma=0.5, k=10, j=0)
    ExpInf(j=0, k=10, sigma=0.5)
    """
    by_lower = {known.lower(): known for known in known_noises()}
    if name.lower() not in by_lower:
        raise ValueError(
            f"noise must be one of {sorted(by_lower.values())}, got the name {name!r}. "
            "Give others as noise=, an object of their class."
        )
    kind = known_noises()[by_lower[name.lower()]]
    known = set(kind._get_param_names())
    usual = not params.get("exact", False)
    needed = known - _SCALES - (_UNUSUAL if usual else set())
    missing, unknown = sorted(needed - set(params)), sorted(set(params) - known)
    if missing or unknown:
        raise ValueError(
            f"{kind.__name__} noise takes {', '.join(sorted(needed | {'sigma'}))}, got "
            f"{', '.join(sorted(params)) or 'nothing'}. Where a file or its name does not "
            f"say all of them, give the noise as noise={kind.__name__}(...)."
        )
    return kind(**params)
