"""Clopper-Pearson bounds against statsmodels, exact sums and their own corners."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from statsmodels.stats.proportion import proportion_confint

from rs4a.bounds import ClopperPearson
from rs4a.testing import all_bounds

BOUND = ClopperPearson()


@given(
    n=st.integers(1, 10**6),
    share=st.floats(0, 1),
    alpha=st.floats(1e-9, 0.3),
)
def test_matches_statsmodels(n, share, alpha):
    k = round(share * n)
    expected, _ = proportion_confint(k, n, alpha=2 * alpha, method="beta")
    assert BOUND.prob_lower(k, n, alpha) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def tail(k, n, p):
    """P(at least k of n votes), summed in 50 digits."""
    with mpmath.workdps(50):
        p = mpmath.mpf(p)
        return mpmath.fsum(
            mpmath.binomial(n, j) * p**j * (1 - p) ** (n - j) for j in range(k, n + 1)
        )


@given(n=st.integers(1, 10**8), missing=st.integers(0, 30), alpha=st.floats(1e-12, 0.5))
def test_never_above_the_exact_bound(n, missing, alpha):
    k = max(n - missing, 1)
    p = float(BOUND.prob_lower(k, n, alpha))
    assert tail(k, n, p) <= alpha
    # ... and hardly below it: the next few doubles are too large.
    assert tail(k, n, min(p * (1 + 1e-13), 1.0)) > alpha * (1 - 1e-12)


@pytest.mark.parametrize(
    ("n", "k", "alpha"),
    [
        (10_000, 9001, 1e-20),
        (10**6, 162_908, 1e-6),
        (10**5, 50_700, 1e-3),
        (2000, 1100, 0.05),
    ],
)
def test_never_above_where_the_inverse_is(n, k, alpha):
    """scipy's quantile alone is too high by up to 2^-34.7 of it."""
    p = float(BOUND.prob_lower(k, n, alpha))
    with mpmath.workdps(50):
        q, x = 1 - mpmath.mpf(p), mpmath.mpf(p)
        term = mpmath.binomial(n, k) * x**k * q ** (n - k)
        total, j = mpmath.mpf(0), k
        while term > total * mpmath.mpf(10) ** -30:
            total += term
            j += 1
            term *= (n - j + 1) * x / (j * q)
        assert total <= alpha
        assert total > alpha * (1 - 1e-6)


@pytest.mark.parametrize("n", [1, 2, 10, 1000, 10**9])
@pytest.mark.parametrize("alpha", [0.5, 0.001, 1e-9])
def test_corners(n, alpha):
    assert BOUND.prob_lower(0, n, alpha) == 0.0
    with mpmath.workdps(30):
        unanimous = mpmath.mpf(alpha) ** (mpmath.mpf(1) / n)
    got = float(BOUND.prob_lower(n, n, alpha))
    assert got <= unanimous
    assert got == pytest.approx(float(unanimous), rel=1e-13)
    assert got < 1.0


def test_all_of_alpha_goes_into_the_lower_side():
    two_sided, _ = proportion_confint(990, 1000, alpha=0.001, method="beta")
    assert BOUND.prob_lower(990, 1000, 0.001) > two_sided


@given(n=st.integers(1, 3000), alpha=st.floats(1e-6, 0.4))
def test_monotone_in_successes(n, alpha):
    bounds = BOUND.prob_lower(np.arange(n + 1), n, alpha)
    assert (np.diff(bounds) > 0).all()
    assert (bounds <= np.arange(n + 1) / n).all()


def test_can_certify_needs_enough_votes():
    # Unanimous votes bound the probability by alpha^(1/n) > 1/2 from n = 10 on.
    assert not ClopperPearson(n=9).can_certify(0.001)
    assert ClopperPearson(n=10).can_certify(0.001)


def test_is_a_parameter_object():
    assert repr(ClopperPearson()) == "ClopperPearson()"
    assert clone(ClopperPearson(n=7)).n == 7
    assert ClopperPearson().votes_per_input == 100_000


@pytest.mark.parametrize("n", [0, -5, 2.5, None])
def test_bad_n(n):
    with pytest.raises(ValueError, match="'n' parameter of ClopperPearson must be an int"):
        _ = ClopperPearson(n=n).votes_per_input


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1, 2, float("nan")])
def test_bad_alpha(alpha):
    with pytest.raises(ValueError, match="alpha must be a float in the range"):
        BOUND.prob_lower(5, 10, alpha)


@pytest.mark.parametrize(("k", "n"), [(-1, 10), (11, 10)])
def test_bad_votes(k, n):
    with pytest.raises(ValueError, match="successes must lie in"):
        BOUND.prob_lower(k, n, 0.001)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("bound", [*all_bounds(), ClopperPearson(randomized=True)])
def test_alpha_of_few_digits_costs_no_precision(kind, bound):
    uniforms = {"uniforms": 0.5} if bound.randomized else {}
    for alpha in (kind(0.001), kind(1e-5)):
        for n in (12, 100, 1000):
            args = [n, n - 1, 0], n
            np.testing.assert_array_equal(
                bound.prob_lower(*args, alpha, **uniforms),
                bound.prob_lower(*args, float(alpha), **uniforms),
            )
