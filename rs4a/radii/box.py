"""The l1 radius of uniform noise against attacks that must stay in a box."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["uniform_l1_in_box"]

FloatArray = NDArray[np.float64]

#: Relative errors allowed a coordinate: to the product of factors 1 - b / 2, and to the sum
#: of lengths b. They are some units in the last place, 2^-53.
_FACTOR_ERROR, _SUM_ERROR = 2.0**-50, 2.0**-51


def uniform_l1_in_box(prob_lower: FloatArray, reach: FloatArray, dim: int) -> FloatArray:
    """Radius of noise uniform on [-1, 1]^d, against attacks that stay in a box.

    A shift by v leaves the share p = prod (1 - |v_i| / 2) of the noise's cube where it
    was, and the vote holds as long as p is more than t = 3/2 - prob_lower. Among shifts
    of one l1 length the one that moves few coordinates, as far as they go, leaves least:
    log p is concave in every |v_i|. After the first k coordinates s_k of the length is
    spent and p_k is left, and the rest goes into the next one, so that the radius is

    max over k of s_k + 2 (1 - t / p_k)

    [1]_. The maximum is where p_k is about to fall below t, and every other k gives less:
    no error in the choice of k makes a radius too large.

    Parameters
    ----------
    prob_lower : ndarray of shape (...), float64
        Lower bounds on the probability of the top class.

    reach : ndarray of shape (..., k), float64
        How far an attack can move the coordinates, the furthest first. Those beyond the
        k-th count as if they reached as far as it does.

    dim : int
        Number of coordinates.

    Returns
    -------
    radius : ndarray of float64, of the shape that the two have together
        0 up to probability 1/2. Where no attack in the box suffices, the sum of all that
        can be moved.

    References
    ----------
    .. [1] Voracek, Hein, "Improving l1-Certified Robustness via Randomized Smoothing by
       Leveraging Box Constraints", ICML 2023.
    """
    reach = np.nextafter(reach[..., :dim], np.inf)  # an attack reaches no further
    threshold = 1.5 - np.maximum(np.asarray(prob_lower, dtype=np.float64), 0.5)
    threshold = threshold[..., np.newaxis] * (1.0 + dim * _FACTOR_ERROR)
    spent, left = _one_by_one(reach)
    lengths = spent + 2.0 * (1.0 - _over(threshold, left))
    n_rest = dim - reach.shape[-1]
    ends = (spent[..., -1:], left[..., -1:], reach[..., -1:])
    tail = _equal_rest(threshold, *ends, n_rest)
    radius = np.maximum(lengths.max(axis=-1), tail[..., 0])
    whole_box = spent[..., -1] + n_rest * reach[..., -1]
    sum_error = 1.0 - spent.shape[-1] * _SUM_ERROR
    return np.clip(radius * sum_error, 0.0, whole_box)


def _one_by_one(reach: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Length spent, and share left, after 0, 1, ... of the coordinates."""
    start = [(0, 0)] * (reach.ndim - 1) + [(1, 0)]
    spent = np.cumsum(np.pad(reach, start), axis=-1)
    factors = np.maximum(1.0 - reach / 2.0, 0.0)
    return spent, np.cumprod(np.pad(factors, start, constant_values=1.0), axis=-1)


def _equal_rest(
    threshold: FloatArray,
    spent: FloatArray,
    left: FloatArray,
    last: FloatArray,
    n_rest: int,
) -> FloatArray:
    """Length after those of the other coordinates, alike, that bring it furthest."""
    factor = np.maximum(1.0 - last / 2.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        n_more = np.floor(np.log(_over(threshold, left)) / np.log(factor))
    n_more = np.clip(np.nan_to_num(n_more), 0, n_rest)
    return spent + n_more * last + 2.0 * (1.0 - _over(threshold, left * factor**n_more))


def _over(threshold: FloatArray, left: FloatArray) -> FloatArray:
    """Quotient; infinite where nothing is left."""
    with np.errstate(divide="ignore"):
        return np.asarray(threshold / left)
