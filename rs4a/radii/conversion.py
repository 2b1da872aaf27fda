"""What a certified radius in one norm says about another norm."""

import math

__all__ = ["conversion_factor"]


def conversion_factor(source_norm: float, target_norm: float, dim: int) -> float:
    """Factor that turns an l_p radius into an l_q radius in `dim` coordinates.

    ||v||_p <= ||v||_q for q <= p, so the radius holds as it is; for q > p the longest v
    of an l_q ball has ||v||_p = d^(1/p - 1/q) ||v||_q.

    Parameters
    ----------
    source_norm, target_norm : {1, 2, inf}
        p, the norm of the direct guarantee, and q, the norm of the adversary.

    dim : int
        Number of coordinates d of an input.

    Returns
    -------
    factor : float
        At most 1.
    """
    if target_norm <= source_norm:
        return 1.0
    target_share = 0.0 if math.isinf(target_norm) else 1.0 / target_norm
    return float(dim) ** (target_share - 1.0 / source_norm)
