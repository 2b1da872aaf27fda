"""The l1 radius of uniform noise against attacks that must stay in a box."""

import numpy as np

from rs4a.radii.rounding import FloatArray

#: Share by which a factor 1 - b / 2 is reduced. It covers the roundings of the factor, of
#: the product, of the sum of lengths and of the quotient: less than 8 of 2^-53.
_FACTOR_ERROR = 2.0**-50


def uniform_l1_in_box(prob_lower: FloatArray, reach: FloatArray, dim: int) -> FloatArray:
    """Radius of noise uniform on [-1, 1]^d, against attacks that stay in a box.

    The noise's cube and its shift by v share the part ``p = prod (1 - |v_i| / 2)``, and the
    vote holds while p is more than t = 3/2 - prob_lower. Among shifts of one l1 length, p
    is least where few coordinates move to the end of the box, because log p is concave in
    every ``|v_i|``. After the first k coordinates the length s_k is spent and the share p_k
    is left; the next coordinate takes the remaining length, so that the radius is

    max over k of s_k + 2 (1 - t / p_k)

    [1]_. The maximum is at the last k with p_k >= t, and every other k gives less. So a
    wrong k, or a p_k that is too small, never makes the radius too large.

    Parameters
    ----------
    prob_lower : ndarray of shape (...), float64
        Lower bounds on the probability of the top class.

    reach : ndarray of shape (..., k), float64
        Farthest moves of the coordinates by an attack, the largest first. Coordinates
        beyond the k-th are taken to move as far as the k-th.

    dim : int
        Number of coordinates.

    Returns
    -------
    radius : ndarray of float64, of the broadcast shape of the two
        0 up to probability 1/2. Where no attack in the box suffices, the sum of all moves.

    References
    ----------
    .. [1] Voracek, Hein, "Improving l1-Certified Robustness via Randomized Smoothing by
       Leveraging Box Constraints", ICML 2023.
    """
    # Rounded up, and a shift by 2 leaves no share.
    reach = np.minimum(np.nextafter(reach[..., :dim], np.inf), 2.0)
    threshold = 1.5 - np.maximum(np.asarray(prob_lower, dtype=np.float64), 0.5)
    threshold = threshold[..., np.newaxis]
    spent, left = _one_by_one(reach)
    last, n_rest = reach[..., -1:], dim - reach.shape[-1]
    tail = _equal_rest(threshold, spent[..., -1:], left[..., -1:], last, n_rest)
    radius = np.maximum(_length(threshold, spent, left).max(axis=-1), tail[..., 0])
    return np.clip(radius, 0.0, spent[..., -1] + n_rest * last[..., 0])


def _one_by_one(reach: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Spent length and left share after 0, 1, ... coordinates."""
    start = [(0, 0)] * (reach.ndim - 1) + [(1, 0)]
    factors = np.pad(_factor(reach), start, constant_values=1.0)
    spent = np.cumsum(np.pad(reach, start), axis=-1, dtype=np.float64)
    return spent, np.cumprod(factors, axis=-1, dtype=np.float64)


def _equal_rest(
    threshold: FloatArray,
    spent: FloatArray,
    left: FloatArray,
    last: FloatArray,
    n_rest: int,
) -> FloatArray:
    """Radius for the best number of further coordinates, all with the last reach."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        n_more = np.floor(np.log(threshold / left) / np.log(_factor(last)))
    n_more = np.clip(np.nan_to_num(n_more), 0, n_rest)
    return _length(threshold, spent + n_more * last, left * _factor(last) ** n_more)


def _factor(reach: FloatArray) -> FloatArray:
    """Share that the move of one coordinate leaves, rounded down."""
    return (1.0 - reach / 2.0) * (1.0 - _FACTOR_ERROR)


def _length(threshold: FloatArray, spent: FloatArray, left: FloatArray) -> FloatArray:
    """Length of a shift whose last part brings the share down to the threshold."""
    with np.errstate(divide="ignore", over="ignore"):  # the share may be nearly 0
        return np.asarray(spent + 2.0 * (1.0 - threshold / left))
