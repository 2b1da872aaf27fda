"""Warnings that point to the user's own line, however deep in the package they arise."""

import sys
import warnings

from rs4a.exceptions import CertificationWarning

__all__ = ["warn_user"]

_PACKAGE = __name__.partition(".")[0]


def warn_user(message: str) -> None:
    """Warn at the line that called the package.

    Parameters
    ----------
    message : str
        What the user must know.

    Warns
    -----
    CertificationWarning
        Always.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_ours(frame.f_globals):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, CertificationWarning, stacklevel=level)


def _is_ours(namespace: dict[str, object]) -> bool:
    return str(namespace.get("__name__")).partition(".")[0] == _PACKAGE
