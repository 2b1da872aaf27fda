"""Warnings that point to the user's own line, from any depth of the package."""

import sys
import warnings

from rs4a.exceptions import CertificationWarning

#: Packages that call each other for the user.
_BETWEEN = {__name__.partition(".")[0], "skorch", "sklearn", "torch", "joblib", "functools"}


def warn_user(message: str, category: type[Warning] = CertificationWarning) -> None:
    """Warn at the line that called the package, directly or through skorch or scikit-learn.

    Parameters
    ----------
    message : str
        Text for the user.

    category : type, default=CertificationWarning
        Class of the warning.

    Warns
    -----
    Warning
        Always, of that class.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_between(frame.f_globals):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_between(namespace: dict[str, object]) -> bool:
    return str(namespace.get("__name__")).partition(".")[0] in _BETWEEN
