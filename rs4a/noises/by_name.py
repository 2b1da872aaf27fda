"""Noises by the names in files."""

import sys
from typing import Any

from rs4a.noises.base import Noise
from rs4a.utils.params import known_classes

_SCALES = {"sigma", "lambd"}
#: Parameters that files omit for noise that was not drawn exactly. A template without its
#: seed is refused later, when the net is used.
_UNUSUAL = {"exact", "levels", "seed"}


def known_noises() -> dict[str, type[Noise]]:
    """Classes of this package that a file may name, by name."""
    return known_classes(sys.modules[__name__.rpartition(".")[0]])


def make_noise(name: str, **params: Any) -> Noise:
    """Noise by the name of its class.

    Parameters
    ----------
    name : str
        Name of a class of :mod:`rs4a.noises`, in upper or lower case.

    **params : dict
        Its parameters, such as sigma. Only the scale may be omitted: a default would be a
        guess about noise that was drawn before. Without `exact`, noise was not drawn
        exactly.

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
    classes = {each.__name__.lower(): each for each in known_noises().values()}
    kind = classes.get(name.lower())
    if kind is None:
        raise ValueError(
            f"noise must be one of {sorted(known_noises())}, got the name {name!r}. "
            "Give any other noise as noise=, an object of its class."
        )
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
