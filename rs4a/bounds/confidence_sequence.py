"""A bound that holds at any time, so that sampling may stop early."""

from __future__ import annotations

from contextlib import suppress
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlog1py, xlogy
from sklearn.utils._param_validation import Interval

from rs4a.bounds.base import LOG_ERROR, QUANTILE_ERROR, Bound, check_votes

#: Relative error that the bound allows the root of a logarithm of wealth, many times the
#: error that tests/test_confidence_sequence.py measures.
_ROOT_ERROR = 2.0**-42
#: Coefficients of 1/x, 1/x^3, ... in Stirling's series, for x of at least 10.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)
_STIRLING_FROM = 10.0
#: Smaller roots become 0: no certificate needs them, and powers of them underflow.
_SMALLEST_ROOT = 1e-300
_HALF_LOG_2PI = 0.5 * np.log(2.0 * np.pi)


class ConfidenceSequence(Bound):
    """Lower bound that holds at all numbers of votes at once, so that sampling may stop.

    A gambler who bets on the votes against the hypothesis p, with a Beta(1/2, 1/2) prior
    on the truth, has after t votes, h of them for the class, the wealth

    log W_t(p) = betaln(h + 1/2, t - h + 1/2) - betaln(1/2, 1/2)
    - h log p - (t - h) log(1 - p).

    If p is true, W reaches 1 / alpha at some t with probability at most alpha [1]_. So
    the set {p : W_t(p) < 1 / alpha} contains the truth at every t, whether the votes, a
    budget or an interruption stop the sampling. `prob_lower` is the lower end of the set.

    Parameters
    ----------
    max_n : int, default=100_000
        Largest number of estimation votes per input.

    radii : float or list of float, default=None
        Radii of interest, in units of X and in the classifier's norm. An input gets
        votes until each of these radii is decided: certified, or given up. Its certified
        radius is then at least the largest certified one of these. None: an input gets
        votes until `rtol` is reached.

    rtol : float, default=0.01
        Without `radii`, an input gets votes until the radii at both ends of the sequence
        differ by at most this share of the larger one.

    runner_up : bool, default=False
        Whether the other classes are bounded from above as well, with alpha / 2 for each
        side. It helps if several classes share the rest of the votes. For noises with a
        radius of two bounds: Gaussian, Uniform and independent Splitting.

    futility : float, default=0.01
        With `radii`, a radius is given up if the chance that `max_n` votes certify it is
        below this number (predicted from the share of votes with a Beta(1/2, 1/2) prior,
        in normal approximation). No guarantee depends on it, because a radius that was
        given up is not claimed. 0: a radius is given up if no further votes can certify
        it.

    References
    ----------
    .. [1] Waudby-Smith, Ramdas, "Estimating Means of Bounded Random Variables by
       Betting", JRSS-B 86, 2024, arXiv:2010.09686.
    .. [2] Krichevsky, Trofimov, "The Performance of Universal Encoding", IEEE
       Transactions on Information Theory 27, 1981.
    .. [3] Voracek, "Treatment of Statistical Estimation Problems in Randomized Smoothing
       for Adversarial Robustness", NeurIPS 2024, arXiv:2406.17830.

    Examples
    --------
    >>> from rs4a.bounds import ConfidenceSequence
    >>> bound = ConfidenceSequence(max_n=10_000, radii=[0.5, 1.0])
    >>> bound.prob_lower([0, 990, 1000], 1000, alpha=0.001).round(4)
    array([0.    , 0.968 , 0.9891])
    """

    anytime: ClassVar[bool] = True

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        # Sums of votes over many inputs must fit into 64 bits.
        "max_n": [Interval(Integral, 1, 2**40, closed="both")],
        "radii": "no_validation",  # `_check_radii` checks every entry
        "rtol": [Interval(Real, 0, 1, closed="left")],
        "runner_up": ["boolean"],
        "futility": [Interval(Real, 0, 0.5, closed="both")],
    }

    def __init__(
        self,
        max_n: int = 100_000,
        radii: ArrayLike | None = None,
        rtol: float = 0.01,
        runner_up: bool = False,
        *,
        futility: float = 0.01,
    ):
        self.max_n = max_n
        self.radii = radii
        self.rtol = rtol
        self.runner_up = runner_up
        self.futility = futility

    @property
    def votes_per_input(self) -> int:
        """Largest number of estimation votes per input: `max_n`."""
        self._validate_params()
        self._check_radii()
        return int(self.max_n)

    def _check_radii(self) -> None:
        """Refuse anything but None, a radius or a list of radii."""
        if self.radii is None:
            return
        with suppress(TypeError, ValueError):  # a list of lists of unequal lengths
            radii = np.atleast_1d(np.asarray(self.radii))
            numbers = radii.dtype.kind in "iuf" and radii.ndim == 1 and len(radii) > 0
            if numbers and np.all((radii > 0) & np.isfinite(radii)):
                return
        raise ValueError(
            "radii of ConfidenceSequence must be a number above 0, a list of such "
            f"numbers or None, got {self.radii!r}."
        )

    def prob_lower(
        self, successes: ArrayLike, n_votes: ArrayLike, alpha: float
    ) -> NDArray[np.float64]:
        """Lower end of the sequence after a number of votes.

        Parameters
        ----------
        successes : array-like of int
            Votes for the class.

        n_votes : array-like of int
            Votes in all; broadcast against `successes`.

        alpha : float
            Probability, in (0, 1), with which the bound may exceed the truth at any time.

        Returns
        -------
        prob_lower : ndarray of float64
            Rounded down; 0 without successes.

        Raises
        ------
        ValueError
            If `alpha` is outside (0, 1) or `successes` outside [0, `n_votes`].
        """
        k, n, alpha = check_votes(successes, n_votes, alpha)
        return _lower_end(k, n, alpha)


def _lower_end(
    k: NDArray[np.float64], n: NDArray[np.float64], alpha: float
) -> NDArray[np.float64]:
    """Smallest p with W(p) < 1 / alpha, by Newton's method from below.

    As a function of p, log W is convex and falls up to p = k / n. So the steps approach
    the root from the left, and end at most a rounding error beyond it.
    """
    none, k, n = k == 0.0, np.maximum(k, 1.0), np.maximum(n, 1.0)
    mixture = _log_mixture(k, n)
    target = -np.log(alpha) - mixture
    target = target + LOG_ERROR * (1.0 + np.abs(mixture))
    share = k / n
    surplus = np.maximum(target + xlogy(k, share) + xlog1py(n - k, -share), 0.0)
    p = np.exp(-target / k)  # without the other term, which is positive
    p = np.maximum(p, share - np.sqrt(surplus / (2.0 * n)))  # Pinsker's inequality
    p = np.clip(p * (1.0 - QUANTILE_ERROR), _SMALLEST_ROOT, share)
    for _ in range(100):
        excess = -xlogy(k, p) - xlog1py(n - k, -p) - target
        slope = k / p - (n - k) / np.maximum(1.0 - p, np.finfo(np.float64).tiny)
        step = np.where((excess > 0.0) & (slope > 0.0), excess, 0.0)
        step = step / np.where(slope > 0.0, slope, 1.0)
        if not np.any(step > 1e-15 * p):
            break
        p = np.minimum(p + step, share)
    return np.where(none | (p <= _SMALLEST_ROOT), 0.0, p * (1.0 - _ROOT_ERROR))


def _log_mixture(k: NDArray[np.float64], n: NDArray[np.float64]) -> NDArray[np.float64]:
    """betaln(k + 1/2, n - k + 1/2) - betaln(1/2, 1/2).

    From Stirling's formula, whose large terms are sums of one sign: scipy's betaln loses
    digits if n is large and k is small.
    """
    a, b, s = k + 0.5, n - k + 0.5, n + 1.0
    log_a = np.where(a > b, np.log1p(-b / s), np.log(a / s))
    log_b = np.where(a > b, np.log(b / s), np.log1p(-a / s))
    rest = _stirling_rest(a) + _stirling_rest(b) - _stirling_rest(s)
    constant: NDArray[np.float64] = 0.5 * np.log(2.0 / (np.pi * s))
    return k * log_a + (n - k) * log_b + constant + rest


def _stirling_rest(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log Gamma(x) minus Stirling's formula, (x - 1/2) log x - x + log(2 pi) / 2."""
    large = np.maximum(x, _STIRLING_FROM)
    series = np.polynomial.polynomial.polyval(large**-2.0, _STIRLING) / large
    small = np.minimum(x, _STIRLING_FROM)
    exact = gammaln(small) - ((small - 0.5) * np.log(small) - small + _HALF_LOG_2PI)
    return np.where(x < _STIRLING_FROM, exact, series)
