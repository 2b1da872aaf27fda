"""The guarantee of certificates and the spread of their radii, in words."""

import math
from decimal import Decimal
from typing import Any

import numpy as np

from rs4a.noises import Noise
from rs4a.utils.checks import format_norm
from rs4a.utils.rounding import format_radius


def guarantee_in_words(
    noise: Noise,
    *,
    alpha: float,
    norm: float,
    box: tuple[float, float] | None = None,
) -> str:
    """One sentence: the proven property, the attacks, and the probability.

    Parameters
    ----------
    noise : Noise
        Smoothing noise.

    alpha : float
        Failure probability of each certificate; deterministic noise has none.

    norm : {1, 2, inf}
        Norm of the adversary.

    box : tuple of two floats, default=None
        Smallest and largest value of a coordinate that attacks respect. None: no limit.

    Returns
    -------
    words : str
        The sentence.

    Examples
    --------
    >>> from rs4a.records.guarantee import guarantee_in_words
    >>> from rs4a.noises import Uniform
    >>> guarantee_in_words(Uniform(sigma=0.5), alpha=0.001, norm=1)
    'No change of an input by less than its certified radius, in l1 norm, alters the answer
    of the smoothed classifier, with probability at least 0.999 over the noise, for each
    input separately.'
    """
    change = f"No {_change(norm, box, noise.input_levels)}"
    if noise.deterministic:
        return f"{change}; all views of the noise vote, and nothing is left to chance."
    text = repr(float(alpha))
    complement = f"1 - {text}" if "e" in text else str(1 - Decimal(text))
    probability = f"probability at least {complement} over the noise"
    return f"{change}, with {probability}, for each input separately."


def guarantee_of_log(norm: float, box: tuple[float, float] | None = None) -> str:
    """One sentence: the claim of a log, whose votes are not known.

    Parameters
    ----------
    norm : {1, 2, inf}
        Norm of the radii.

    box : tuple of two floats, default=None
        Smallest and largest value of a coordinate that attacks respect. None: no limit.

    Returns
    -------
    words : str
        The sentence.
    """
    return (
        f"The log claims that no {_change(norm, box)}. It does not state with which "
        "probability."
    )


def spread_in_words(record: Any, norm: float) -> list[str]:
    """Two lines: abstentions, and the median and largest radius.

    Parameters
    ----------
    record : CertifiedPredictions
        At least one input.

    norm : {1, 2, inf}
        Norm of the radii.

    Returns
    -------
    lines : list of str
        Radii have three significant digits at least, and are rounded down.
    """
    radius = record.radius(norm)
    median, largest = map(_rounded, (np.median(radius), radius.max()))
    return [
        f"abstained: {int(record.abstained.sum())} of {len(record)}",
        f"{format_norm(norm)} radius: median {median}, largest {largest}",
    ]


def _change(norm: float, box: tuple[float, float] | None, levels: int | None = None) -> str:
    """The changes of an input that alter no answer."""
    # All digits of the box, so that no other number reads the same.
    low, high = (repr(float(end)).removesuffix(".0") for end in box or (0, 0))
    stays = [] if box is None else [f"in [{low}, {high}]"]
    if levels is not None:
        stays.append(f"on multiples of 1/{levels}")
    within = f" that leaves it {' and '.join(stays)}" if stays else ""
    return (
        f"change of an input{within} by less than its certified radius, in "
        f"{format_norm(norm)} norm, alters the answer of the smoothed classifier"
    )


def _rounded(radius: float) -> str:
    """A radius with three significant digits, rounded down."""
    if not 0.0 < radius < 0.1:
        return format_radius(radius, 3)
    return format_radius(radius, 2 - math.floor(math.log10(radius)))
