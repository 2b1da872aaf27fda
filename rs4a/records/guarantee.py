"""The guarantee of a certificate, in words."""

from decimal import Decimal

from rs4a.noises import Noise
from rs4a.utils.checks import format_norm

__all__ = ["guarantee_in_words", "guarantee_of_log"]


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
    kept = [] if box is None else [f"in [{_decimal(box[0])}, {_decimal(box[1])}]"]
    if noise.input_levels is not None:
        kept.append(f"on multiples of 1/{noise.input_levels}")
    within = f" that leaves it {' and '.join(kept)}" if kept else ""
    change = (
        f"No change of an input{within} by less than its certified radius, in "
        f"{format_norm(norm)} norm, alters the answer of the smoothed classifier"
    )
    if noise.deterministic:
        return f"{change}; all views of the noise vote, and nothing is left to chance."
    probability = f"probability at least {_complement(alpha)} over the noise"
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
    within = (
        ""
        if box is None
        else f" that leaves it in [{_decimal(box[0])}, {_decimal(box[1])}]"
    )
    return (
        f"The log claims that no change of an input{within} by less than its certified "
        f"radius, in {format_norm(norm)} norm, alters the answer of the smoothed "
        "classifier. It does not state with what probability."
    )


def _decimal(number: float) -> str:
    """A number with all its digits, so that no other number reads the same."""
    return repr(float(number)).removesuffix(".0")


def _complement(alpha: float) -> str:
    """1 - alpha as people write it."""
    text = repr(float(alpha))
    return f"1 - {text}" if "e" in text else str(1 - Decimal(text))
