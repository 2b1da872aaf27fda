"""From votes to bounds on the probabilities of the classes."""

from abc import ABC, abstractmethod
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv, gammaln, xlog1py, xlogy
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval

__all__ = ["Bound", "ClopperPearson", "ConfidenceSequence", "TopVotes", "top_votes"]

#: Relative error allowed to a quantile, twice what is usual; tests/test_bounds.py compares
#: with 50-digit arithmetic.
_QUANTILE_ERROR = 2.0**-44
#: Relative error allowed to a tail of the binomial law: a vote's share of it, and at least.
_TAIL_ERROR, _LEAST_TAIL_ERROR = 2e-15, 1e-13
#: Relative errors allowed to the logarithms in a wealth and to the root found from them,
#: many times what tests/test_confidence_sequence.py measures.
_LOG_ERROR, _ROOT_ERROR = 1e-12, 2.0**-42
#: Coefficients of 1/x, 1/x^3, ... in Stirling's series, which is used from 10 on.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)
_STIRLING_FROM = 10.0
#: Roots below it are 0: no certificate needs them, and powers of them underflow.
_SMALLEST_ROOT = 1e-300
_HALF_LOG_2PI = 0.5 * np.log(2.0 * np.pi)


class TopVotes(NamedTuple):
    """What of an input's votes a bound takes: arrays with an entry an input.

    Parameters
    ----------
    top : ndarray of shape (n,), int64
        Votes for the class that other votes chose.

    runner_up : ndarray of shape (n,), int64
        Votes for the strongest of the other classes.

    total : ndarray of shape (n,), int64
        All votes.
    """

    top: NDArray[np.int64]
    runner_up: NDArray[np.int64]
    total: NDArray[np.int64]


def top_votes(counts: NDArray[np.int64], columns: NDArray[np.int64]) -> TopVotes:
    """Votes for the chosen class, for the strongest of the others, and in all.

    Parameters
    ----------
    counts : ndarray of shape (n, n_classes), int64
        Votes.

    columns : ndarray of shape (n,), int64
        Column of the class that other votes chose.

    Returns
    -------
    votes : TopVotes
        The runner-up has 0 votes where there is but one class.

    Examples
    --------
    >>> import numpy as np
    >>> from rs4a.bounds import top_votes
    >>> votes = top_votes(np.array([[90, 7, 3], [20, 50, 30]]), np.array([0, 1]))
    >>> votes.top, votes.runner_up
    (array([90, 50]), array([ 7, 30]))
    """
    rows = np.arange(len(counts))
    others = counts.copy()
    others[rows, columns] = 0
    return TopVotes(counts[rows, columns], others.max(axis=1), counts.sum(axis=1))


class Bound(BaseEstimator, ABC):
    """Base class of confidence bounds: a parameter object, as a noise is.

    Attributes
    ----------
    anytime : bool
        Whether the bound also holds where the votes themselves, a budget or an
        interruption decide when sampling stops.

    runner_up : bool
        Whether the probabilities of the top class and of all others are bounded
        together, each with half of the failure probability.

    randomized : bool
        Whether the bound takes a uniform number an input besides the votes.
    """

    # Of users' bounds too, which need not declare any.
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    anytime: ClassVar[bool] = False
    runner_up: bool = False
    randomized: bool = False

    @property
    @abstractmethod
    def votes_per_input(self) -> int:
        """Number of estimation votes that the bound asks for, at most."""

    @abstractmethod
    def prob_lower(
        self, successes: ArrayLike, n_votes: ArrayLike, alpha: float
    ) -> NDArray[np.float64]:
        """Lower confidence bound on the probability of a class.

        Parameters
        ----------
        successes : array-like of int
            Votes for the class.

        n_votes : array-like of int
            Votes in all; broadcast against `successes`.

        alpha : float
            Probability, in (0, 1), with which the bound may exceed the truth.

        Returns
        -------
        prob_lower : ndarray of float64
            Rounded down.
        """

    def prob_upper(
        self, successes: ArrayLike, n_votes: ArrayLike, alpha: float, **kwargs: Any
    ) -> NDArray[np.float64]:
        """Upper confidence bound: what the votes against a class leave it.

        Parameters
        ----------
        successes : array-like of int
            Votes for the class.

        n_votes : array-like of int
            Votes in all; broadcast against `successes`.

        alpha : float
            Probability, in (0, 1), with which the bound may fall short of the truth.

        **kwargs : dict
            Passed on to `prob_lower`.

        Returns
        -------
        prob_upper : ndarray of float64
            Rounded up; at most 1.
        """
        against = np.asarray(n_votes) - np.asarray(successes)
        upper = 1.0 - self.prob_lower(against, n_votes, alpha, **kwargs)
        return np.minimum(np.nextafter(upper, 2.0), 1.0)

    def top_two(
        self,
        votes: TopVotes,
        *,
        n_others: int,
        alpha: float,
        uniforms: ArrayLike | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Bound the top class from below and every other class from above, together.

        Parameters
        ----------
        votes : TopVotes
            Votes for the class that other votes chose, for the strongest of the others,
            and in all.

        n_others : int
            Number of the other classes. With none there is no runner-up.

        alpha : float
            Probability, in (0, 1), with which any of these bounds may fail.

        uniforms : array-like of float, default=None
            One number an input, uniform on (0, 1), where `randomized` is set.

        Returns
        -------
        prob_lower : ndarray of float64
            Lower bound on the probability of the top class, rounded down.

        prob_runner_up : ndarray of float64
            Upper bound on the probability of each other class, rounded up. Without
            `runner_up` it is what `prob_lower` leaves.
        """
        kwargs = {"uniforms": uniforms} if self.randomized else {}
        if not self.runner_up or n_others == 0:
            lower = self.prob_lower(votes.top, votes.total, alpha, **kwargs)
            return lower, 1.0 - lower
        lower = self.prob_lower(votes.top, votes.total, alpha / 2, **kwargs)
        # The most probable of the others is one class, which no vote chose: its bound
        # needs no share for the rest. The bound of the strongest is as large or larger.
        upper = self.prob_upper(votes.runner_up, votes.total, alpha / 2, **kwargs)
        return lower, np.minimum(upper, 1.0 - lower)

    def can_certify(self, alpha: float) -> bool:
        """Whether a unanimous vote would suffice for a radius above 0.

        Parameters
        ----------
        alpha : float
            Failure probability, in (0, 1).

        Returns
        -------
        possible : bool
            False where every input will be abstained on.
        """
        n = np.array([self.votes_per_input])
        unanimous = TopVotes(n, np.zeros_like(n), n)
        lower, rest = self.top_two(unanimous, n_others=1, alpha=alpha, uniforms=0.0)
        return bool(lower > rest)


class ClopperPearson(Bound):
    """One-sided Clopper-Pearson bound from a number of votes fixed beforehand.

    The largest p such that as many votes for the class, or more, have probability at
    most alpha: the alpha quantile of Beta(k, n - k + 1) for k of n votes. All of the
    failure probability goes into the lower side; the two-sided interval would spend
    only half of it.

    Parameters
    ----------
    n : int, default=100_000
        Number of estimation votes an input.

    randomized : bool, default=False
        Since votes are whole numbers, the bound fails less often than alpha. True: a
        uniform number an input, drawn with the votes and kept in the record, makes it
        fail exactly so often [3]_; it is never below the ordinary bound. Other seeds
        give other bounds for equal votes.

    runner_up : bool, default=False
        Bound the other classes from above as well, together with alpha / 2.
        It helps where several classes share what the top class leaves. For noises that
        make use of it: Gaussian, Uniform and independent Splitting.

    References
    ----------
    .. [1] Clopper, Pearson, "The Use of Confidence or Fiducial Limits Illustrated in
       the Case of the Binomial", Biometrika 26, 1934.
    .. [2] Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized
       Smoothing", ICML 2019, Algorithm 1, arXiv:1902.02918.
    .. [3] Stevens, "Fiducial Limits of the Parameter of a Discontinuous Distribution",
       Biometrika 37, 1950.

    Examples
    --------
    >>> from rs4a.bounds import ClopperPearson
    >>> ClopperPearson().prob_lower([0, 990, 1000], 1000, alpha=0.001).round(4)
    array([0.    , 0.976 , 0.9931])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n": [Interval(Integral, 1, None, closed="left")],
        "randomized": ["boolean"],
        "runner_up": ["boolean"],
    }

    def __init__(
        self, n: int = 100_000, *, randomized: bool = False, runner_up: bool = False
    ):
        self.n = n
        self.randomized = randomized
        self.runner_up = runner_up

    @property
    def votes_per_input(self) -> int:
        """Number of estimation votes an input: `n`."""
        self._validate_params()
        return int(self.n)

    def prob_lower(
        self,
        successes: ArrayLike,
        n_votes: ArrayLike,
        alpha: float,
        uniforms: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Lower confidence bound on the probability of a class.

        Parameters
        ----------
        successes : array-like of int
            Votes for the class.

        n_votes : array-like of int
            Votes in all; broadcast against `successes`.

        alpha : float
            Probability, in (0, 1), with which the bound may exceed the truth.

        uniforms : array-like of float, default=None
            Numbers in [0, 1], drawn independently of the votes; needed with
            ``randomized=True`` and ignored otherwise. 1 gives the ordinary bound.

        Returns
        -------
        prob_lower : ndarray of float64
            Rounded down; 0 without successes, alpha^(1/n) if all n votes agree.

        Raises
        ------
        ValueError
            If `alpha` is outside (0, 1), `successes` outside [0, `n_votes`], or
            `uniforms` are missing or outside [0, 1].
        """
        k, n, alpha = _check_votes(successes, n_votes, alpha)
        if not self.randomized:
            return _clopper_pearson(k, n, alpha)
        return _randomized_clopper_pearson(k, n, alpha, _check_uniforms(uniforms))


class ConfidenceSequence(Bound):
    """Lower bound that holds at all numbers of votes at once, so that sampling may stop.

    A gambler who bets on the votes against the hypothesis p, with a Beta(1/2, 1/2) prior
    on the truth, has after t votes, h of them for the class, the wealth

    log W_t(p) = betaln(h + 1/2, t - h + 1/2) - betaln(1/2, 1/2)
    - h log p - (t - h) log(1 - p).

    If p is true, W ever reaches 1 / alpha with probability at most alpha [1]_, so the
    set {p : W_t(p) < 1 / alpha} holds the truth at every t, whatever makes the sampling
    stop: the votes, a budget, an interruption. `prob_lower` is its lower end.

    Parameters
    ----------
    max_n : int, default=100_000
        Largest number of estimation votes an input.

    radii : float or list of float, default=None
        Radii of interest, in units of X and in the classifier's norm. An input gets
        votes until each of them is decided: certified, or given up. Its radius is then
        known to reach the largest certified one. None: until `rtol` is reached.

    rtol : float, default=0.01
        Without `radii`, an input gets votes until the radii at both ends of the
        sequence differ by at most this share of the larger one.

    runner_up : bool, default=False
        Bound the other classes from above as well, together with alpha / 2.
        It helps where several classes share what the top class leaves. For noises that
        make use of it: Gaussian, Uniform and independent Splitting.

    futility : float, default=0.01
        With `radii`, a radius is given up where the votes so far leave it a chance below
        this of being certified with `max_n` votes (predicted from the share of votes
        with a Beta(1/2, 1/2) prior, in normal approximation). No guarantee depends on
        it: a radius that was given up is just not claimed. 0: only where no votes that
        may come could certify it.

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
        # No one has drawn 2^40 votes; sums over many inputs must fit into 64 bits.
        "max_n": [Interval(Integral, 1, 2**40, closed="both")],
        "radii": "no_validation",  # by _check_radii, which looks at every entry
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
        """Largest number of estimation votes an input: `max_n`."""
        self._validate_params()
        self._check_radii()
        return int(self.max_n)

    def _check_radii(self) -> None:
        """Refuse what is neither None nor a radius nor a list of radii."""
        if self.radii is None:
            return
        try:
            radii = np.atleast_1d(np.asarray(self.radii))
            good = radii.dtype.kind in "iuf" and radii.ndim == 1 and len(radii) > 0
            good = good and bool(np.all((radii > 0) & np.isfinite(radii)))
        except (TypeError, ValueError):  # a list of lists of unequal lengths
            good = False
        if not good:
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
            Probability, in (0, 1), with which the bound may ever exceed the truth.

        Returns
        -------
        prob_lower : ndarray of float64
            Rounded down; 0 without successes.

        Raises
        ------
        ValueError
            If `alpha` is outside (0, 1) or `successes` outside [0, `n_votes`].
        """
        k, n, alpha = _check_votes(successes, n_votes, alpha)
        return _lower_end(k, n, alpha)


# Checks


def _check_votes(
    successes: ArrayLike, n_votes: ArrayLike, alpha: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must be a float in the range (0, 1), got {alpha!r}.")
    k, n = np.broadcast_arrays(
        np.asarray(successes, dtype=np.float64),
        np.asarray(n_votes, dtype=np.float64),
    )
    if not np.all((k >= 0) & (k <= n)):
        raise ValueError(f"successes must lie in [0, n_votes], got {k} of {n} votes.")
    return k, n, float(alpha)  # lest logarithms be taken in its precision


def _check_uniforms(uniforms: ArrayLike | None) -> NDArray[np.float64]:
    if uniforms is None:
        raise ValueError(
            "uniforms must be given for randomized=True: a number in [0, 1] an input, "
            "drawn independently of the votes, got None."
        )
    values = np.asarray(uniforms, dtype=np.float64)
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"uniforms must lie in [0, 1], got {values}.")
    return values


# Clopper-Pearson


def _clopper_pearson(
    k: NDArray[np.float64], n: NDArray[np.float64], alpha: float
) -> NDArray[np.float64]:
    # The corners are set below: they have closed forms and no proper Beta law.
    inner = betaincinv(np.maximum(k, 1.0), np.maximum(n - k, 0.0) + 1.0, alpha)
    unanimous = np.exp(np.log(alpha) / np.maximum(n, 1.0))
    bound = np.where(k == n, unanimous, inner) * (1.0 - _QUANTILE_ERROR)
    return np.where(k == 0, 0.0, _lowered(bound, k, n, alpha))


def _lowered(
    bound: NDArray[np.float64],
    k: NDArray[np.float64],
    n: NDArray[np.float64],
    alpha: float,
) -> NDArray[np.float64]:
    """Bounds lowered until k votes of n or more are rare enough.

    The inverse of the incomplete beta function is wrong by up to 2^-34.7 for many votes,
    the function itself by much less.
    """
    enough = alpha * (1.0 - _LEAST_TAIL_ERROR - _TAIL_ERROR * k)
    step = _QUANTILE_ERROR
    for _ in range(40):
        tail = betainc(np.maximum(k, 1.0), np.maximum(n - k, 0.0) + 1.0, bound)
        too_high = (tail > enough) & (k > 0) & (k < n)
        if not too_high.any():
            break
        bound = np.where(too_high, bound * (1.0 - step), bound)
        step *= 2.0
    return bound


def _randomized_clopper_pearson(
    k: NDArray[np.float64],
    n: NDArray[np.float64],
    alpha: float,
    uniforms: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Solve P(more than k votes) + U P(k votes) = alpha for p, by bisection.

    The root lies between the ordinary bounds for k and for k + 1 votes.
    """
    k, n, u = np.broadcast_arrays(k, n, uniforms)
    low = ordinary = _clopper_pearson(k, n, alpha)
    # Unanimous votes and a small U would prove p = 1. Nothing above the p at which as
    # many votes, or more, have probability 1/2 is claimed.
    median = _clopper_pearson(k, n, max(alpha, 0.5))
    one_more = np.where(k < n, _clopper_pearson(np.minimum(k + 1.0, n), n, alpha), 1.0)
    high = np.maximum(np.minimum(one_more, median), low)
    for _ in range(60):
        middle = 0.5 * (low + high)
        more = np.where(k < n, betainc(k + 1.0, np.maximum(n - k, 1.0), middle), 0.0)
        as_many = np.where(k > 0, betainc(np.maximum(k, 1.0), n - k + 1.0, middle), 1.0)
        enough = (1.0 - u) * more + u * as_many <= alpha * (1.0 - _LOG_ERROR)
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return np.maximum(low * (1.0 - _QUANTILE_ERROR), ordinary)


# The confidence sequence


def _lower_end(
    k: NDArray[np.float64], n: NDArray[np.float64], alpha: float
) -> NDArray[np.float64]:
    """Smallest p with W(p) < 1 / alpha, by Newton's method from below.

    As a function of p, log W is convex and falls up to p = k / n, so that the steps
    approach the root from the left and end at most a rounding error beyond it.
    """
    none, k, n = k == 0.0, np.maximum(k, 1.0), np.maximum(n, 1.0)
    mixture = _log_mixture(k, n)
    target = -np.log(alpha) - mixture
    target = target + _LOG_ERROR * (1.0 + np.abs(mixture))
    share = k / n
    surplus = np.maximum(target + xlogy(k, share) + xlog1py(n - k, -share), 0.0)
    p = np.exp(-target / k)  # leaves out the other term, which is positive
    p = np.maximum(p, share - np.sqrt(surplus / (2.0 * n)))  # Pinsker's inequality
    p = np.clip(p * (1.0 - _QUANTILE_ERROR), _SMALLEST_ROOT, share)
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

    From Stirling's formula, in which the large terms are sums of one sign: scipy's
    betaln loses digits where n is large and k is not.
    """
    a, b, s = k + 0.5, n - k + 0.5, n + 1.0
    log_a = np.where(a > b, np.log1p(-b / s), np.log(a / s))
    log_b = np.where(a > b, np.log(b / s), np.log1p(-a / s))
    rest = _stirling_rest(a) + _stirling_rest(b) - _stirling_rest(s)
    mixture: NDArray[np.float64] = (
        k * log_a + (n - k) * log_b + 0.5 * np.log(2.0 / (np.pi * s)) + rest
    )
    return mixture


def _stirling_rest(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log Gamma(x) less Stirling's formula, (x - 1/2) log x - x + log(2 pi) / 2."""
    large = np.maximum(x, _STIRLING_FROM)
    series = np.polynomial.polynomial.polyval(large**-2.0, _STIRLING) / large
    small = np.minimum(x, _STIRLING_FROM)
    exact = gammaln(small) - ((small - 0.5) * np.log(small) - small + _HALF_LOG_2PI)
    return np.where(x < _STIRLING_FROM, exact, series)
