"""Radii as text, never above the proven radius."""

import math
from decimal import ROUND_FLOOR, Context, Decimal

__all__ = ["format_radius"]

#: float64 has fewer digits than this, before and after the point together.
_EXACT = Context(prec=1100)


def format_radius(radius: float, digits: int) -> str:
    """A radius in decimal notation, rounded down.

    Parameters
    ----------
    radius : float
        At least 0; may be infinite.

    digits : int
        Digits after the decimal point.

    Returns
    -------
    text : str
        The text of a number that is at most `radius`; "inf" for an infinite radius.

    Examples
    --------
    >>> from rs4a.utils.rounding import format_radius
    >>> format_radius(0.4999, digits=3)
    '0.499'
    >>> format_radius(float("inf"), digits=3)
    'inf'
    """
    if math.isinf(radius):
        return "inf"
    place = Decimal(1).scaleb(-digits)
    exact = Decimal(float(radius))  # without rounding
    return format(exact.quantize(place, rounding=ROUND_FLOOR, context=_EXACT), "f")
