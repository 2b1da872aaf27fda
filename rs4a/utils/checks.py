"""Checks of arguments, each with one error that names the argument."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rs4a.exceptions import UnsupportedNormError

NORMS = (1.0, 2.0, math.inf)


def _between(low: float, value: Any, high: float) -> bool:
    """Whether a value lies in an open interval; an integer beyond float64 lies in none."""
    try:
        return low < float(value) < high
    except OverflowError:
        return False


def check_positive(name: str, value: Any) -> None:
    """Refuse a parameter that is neither None nor a positive finite number."""
    if value is None or (isinstance(value, Real) and _between(0.0, value, math.inf)):
        return
    raise ValueError(
        f"{name} must be a float in the range (0, inf) or None, got {value!r}."
    )


def check_in_range(
    name: str, value: Any, low: float, high: float, *, closed: bool = False, why: str
) -> None:
    """Refuse a number outside (low, high), or [low, high) if `closed`, and say why."""
    if isinstance(value, Real) and (
        _between(low, value, high) or (closed and value == low)
    ):
        return
    bracket = "[" if closed else "("
    raise ValueError(
        f"{name} must be a float in the range {bracket}{low:.10g}, {high:.10g}), got "
        f"{value!r}: {why}."
    )


def check_box(box: Any) -> tuple[float, float] | None:
    """Return a range of values as two floats, or None where there is none."""
    if box is None:
        return None
    if isinstance(box, tuple | list) and len(box) == 2:
        low, high = box
        real = isinstance(low, Real) and isinstance(high, Real)
        if real and -math.inf < float(low) < float(high) < math.inf:
            return float(low), float(high)
    raise ValueError(
        f"box must be None or a tuple (low, high) of floats with low < high, got {box!r}."
    )


def check_norm(norm: Any) -> float:
    """Return the adversary's norm as a float: 1.0, 2.0 or inf."""
    if isinstance(norm, Real) and float(norm) in NORMS:
        return float(norm)
    raise UnsupportedNormError(
        f"norm must be 1, 2 or inf (math.inf, numpy.inf), got {norm!r}: certified radii "
        "are known for l1, l2 and linf adversaries."
    )


def format_norm(norm: float) -> str:
    """Name of an adversary norm: "l1", "l2" or "linf"."""
    return f"l{norm:g}"


def check_dim(dim: Any) -> int:
    """Return the number of coordinates of an input as an int."""
    if isinstance(dim, Integral) and int(dim) >= 1:
        return int(dim)
    raise ValueError(
        f"dim must be an int in the range [1, inf), the number of coordinates of one "
        f"input, got {dim!r}."
    )


def check_floating_point(dtype: np.dtype, ndim: int) -> None:
    """Refuse images (inputs of more than two axes) of whole numbers: radii have units."""
    if dtype.kind in "iu" and ndim > 2:
        raise ValueError(
            f"X must hold floating-point images, got dtype {dtype}. sigma "
            "and radii are in units of X: scale the images as in the net's training, "
            "X / 255 for bytes, or keep this scale by X.astype('float32')."
        )


def check_probability(name: str, prob_lower: ArrayLike) -> NDArray[np.float64]:
    """Return probabilities as float64; refuse NaN and numbers outside [0, 1]."""
    values = np.asarray(prob_lower)
    if values.dtype.kind == "f" and values.dtype.itemsize < 8:
        raise ValueError(
            f"{name} must be float64, got {values.dtype}: in it 1 - 1e-9 is 1, "
            "which would certify an infinite radius."
        )
    values = np.asarray(values, dtype=np.float64)
    outside = ~((values >= 0.0) & (values <= 1.0))  # NaN compares false
    if outside.any():
        raise ValueError(
            f"{name} must be a probability in [0, 1], got {values[outside].flat[0]}."
        )
    return values
