"""Confidence sequences, randomised bounds and bounds on two classes, in exact arithmetic.

Independent of the code: wealth and tails are computed in 60 digits, coverage by exact
enumeration.
"""

import itertools
import json
import math

import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats
from sklearn.base import clone

from rs4a.bounds import ClopperPearson, ConfidenceSequence, TopVotes, top_votes
from rs4a.noises import Gaussian, Laplace, Uniform
from rs4a.testing import all_bounds
from rs4a.utils.params import from_json, to_json

SEQUENCE = ConfidenceSequence()
KINDS = [type(bound) for bound in all_bounds()]
ORDINARY, RANDOMIZED = ClopperPearson(), ClopperPearson(randomized=True)
ALPHAS = st.one_of(
    st.floats(1e-300, 0.999999), st.floats(1e-12, 0.1), st.just(1 - 2.0**-53)
)


# The confidence sequence


def log_wealth(p, h, t):
    """log W_t(p): the likelihood of h of t votes under the mixture, over that under p."""
    h, t, half = mpmath.mpf(h), mpmath.mpf(t), mpmath.mpf("0.5")
    mixture = (
        mpmath.loggamma(h + half)
        + mpmath.loggamma(t - h + half)
        - mpmath.loggamma(t + 1)
        - mpmath.log(mpmath.pi)
    )
    against = 0 if h == t else (t - h) * mpmath.log1p(-p)
    return mixture - (h * mpmath.log(p) if h else 0) - against


def assert_lower_end(h, t, alpha, room):
    """prob_lower is not above the root of W(p) = 1 / alpha, and at most `room` below."""
    got = float(SEQUENCE.prob_lower(h, t, alpha))
    if h == 0:
        assert got == 0.0
        return
    with mpmath.workdps(60):
        rejected = -mpmath.log(mpmath.mpf(alpha))
        share = mpmath.mpf(h) / t
        if got == 0.0:  # only where the root is close to the end of float64
            assert log_wealth(mpmath.mpf("1e-290"), h, t) < rejected
            return
        assert 0 < got < share
        assert log_wealth(mpmath.mpf(got), h, t) >= rejected
        above = mpmath.mpf(got) * (1 + mpmath.mpf(room))
        assert above >= share or log_wealth(above, h, t) < rejected


def votes_up_to(largest):
    """Numbers of votes of all sizes, with few, many, or some votes for the class."""
    total = st.floats(0, math.log10(largest)).map(lambda size: int(10**size))
    few = st.floats(0, 1).map(lambda share: share**8)
    share = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1), few)
    flip = st.booleans()
    return st.builds(
        lambda t, s, f: (t - round(s * t) if f else round(s * t), t), total, share, flip
    )


@given(votes=votes_up_to(10**6), alpha=ALPHAS)
@example(votes=(1, 1), alpha=0.5)
@example(votes=(1, 2), alpha=1 - 2.0**-53)
@example(votes=(1, 438354), alpha=2.2e-11)
def test_never_above_the_root_and_hardly_below(votes, alpha):
    assert_lower_end(*votes, alpha, room=1e-9)


@given(votes=votes_up_to(10**9), alpha=ALPHAS)
@example(votes=(6, 6349504), alpha=5.5e-10)
@example(votes=(119107, 982598969), alpha=0.1)
@example(votes=(10**9 - 1, 10**9), alpha=1e-3)
@example(votes=(10**9 // 2 + 1, 10**9), alpha=1e-300)
def test_never_above_the_root_after_very_many_votes(votes, alpha):
    assert_lower_end(*votes, alpha, room=3e-8)


@pytest.mark.parametrize("n", [1, 2, 10, 1000, 10**6, 10**9])
@pytest.mark.parametrize("alpha", [1e-300, 1e-9, 0.001, 0.5, 0.999, 1 - 2.0**-53])
def test_corners(n, alpha):
    for h in {0, 1, n - 1, n}:
        assert_lower_end(h, n, alpha, room=1e-8)
    assert SEQUENCE.prob_lower(0, 0, alpha) == 0.0
    assert SEQUENCE.prob_upper(0, 0, alpha) == 1.0
    assert SEQUENCE.prob_upper(n, n, alpha) == 1.0
    assert SEQUENCE.prob_lower(n, n, alpha) < 1.0


@pytest.mark.parametrize("alpha", [1e-310, 5e-324])
def test_the_smallest_alphas_warn_of_nothing(alpha):
    bounds = SEQUENCE.prob_lower([0, 1, 10, 500, 1000], [5, 1, 10, 1000, 1000], alpha)
    assert (bounds >= 0).all()
    assert (bounds[2:] < SEQUENCE.prob_lower([10, 500, 1000], [10, 1000, 1000], 0.1)).all()


@given(n=st.integers(1, 3000), alpha=st.floats(1e-12, 0.999))
def test_monotone_in_successes(n, alpha):
    bounds = SEQUENCE.prob_lower(np.arange(n + 1), n, alpha)
    assert (np.diff(bounds) > 0).all()
    assert (bounds[1:] < np.arange(1, n + 1) / n).all()


def test_monotone_in_alpha_and_below_the_bound_for_a_fixed_number():
    successes = np.arange(0, 1001, 10)
    strict, lax = (SEQUENCE.prob_lower(successes, 1000, a) for a in (0.001, 0.01))
    assert (strict <= lax).all()
    assert (strict <= ORDINARY.prob_lower(successes, 1000, 0.001)).all()


@given(votes=votes_up_to(10**9), alpha=st.floats(1e-12, 0.999))
def test_prob_upper_is_the_mirror_image_rounded_up(votes, alpha):
    h, t = votes
    got = float(SEQUENCE.prob_upper(h, t, alpha))
    assert got <= 1.0
    if h == t:
        assert got == 1.0
        return
    with mpmath.workdps(60):
        # p > h / t is out of the sequence where the gambler has won enough against it.
        rejected = -mpmath.log(mpmath.mpf(alpha))
        share = mpmath.mpf(h) / t
        assert got > share
        assert got == 1.0 or log_wealth(mpmath.mpf(got), h, t) >= rejected
        below = 1 - (1 - mpmath.mpf(got)) * (1 + mpmath.mpf("3e-8")) - mpmath.mpf(2) ** -51
        assert below <= share or log_wealth(below, h, t) < rejected


@pytest.mark.parametrize("bound", [SEQUENCE, ORDINARY])
def test_votes_are_broadcast(bound):
    successes, totals = np.arange(3)[:, np.newaxis], np.array([2, 5, 10, 10**6])
    bounds = bound.prob_lower(successes, totals, 0.01)
    assert bounds.shape == (3, 4)
    assert bounds.dtype == np.float64
    each = [[float(bound.prob_lower(h, t, 0.01)) for t in totals] for h in range(3)]
    np.testing.assert_array_equal(bounds, each)
    assert bound.prob_lower(1, 2, 0.01).shape == ()
    assert bound.prob_lower([], [], 0.01).shape == (0,)
    assert bound.prob_upper(successes, totals, 0.01).shape == (3, 4)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1, 2, float("nan")])
def test_bad_alpha(alpha):
    with pytest.raises(ValueError, match="alpha must be a float in the range"):
        SEQUENCE.prob_lower(5, 10, alpha)


@pytest.mark.parametrize(("h", "t"), [(-1, 10), (11, 10), (float("nan"), 3), (0, -1)])
def test_bad_votes(h, t):
    with pytest.raises(ValueError, match="successes must lie in"):
        SEQUENCE.prob_lower(h, t, 0.001)
    with pytest.raises(ValueError, match="successes must lie in"):
        SEQUENCE.prob_upper(h, t, 0.001)


@pytest.mark.parametrize("alpha", [0.3, 0.01, 0.001, 1e-9])
def test_can_certify_needs_enough_votes(alpha):
    with mpmath.workdps(40):
        half, rejected = mpmath.mpf("0.5"), -mpmath.log(mpmath.mpf(alpha))
        enough = next(n for n in itertools.count(1) if log_wealth(half, n, n) > rejected)
    assert not ConfidenceSequence(max_n=max(enough - 1, 1)).can_certify(alpha)
    assert ConfidenceSequence(max_n=enough).can_certify(alpha)


@pytest.mark.parametrize("kind", [ClopperPearson, ConfidenceSequence])
def test_two_bounds_need_a_few_votes_more(kind):
    name = "n" if kind is ClopperPearson else "max_n"
    one = [kind(**{name: n}).can_certify(0.001) for n in range(1, 40)]
    two = [kind(**{name: n}, runner_up=True).can_certify(0.001) for n in range(1, 40)]
    assert one == sorted(one)
    assert two == sorted(two)
    assert sum(one) - 3 <= sum(two) < sum(one)


@pytest.mark.parametrize(
    "radii", [None, 0.5, np.float64(0.5), [0.25, 1], np.array([0.25, 1.0]), (0.25, 1)]
)
def test_is_a_parameter_object(radii):
    bound = ConfidenceSequence(max_n=777, radii=radii, rtol=0.1, runner_up=True, futility=0)
    data = json.loads(json.dumps(to_json(bound)))
    copies = [
        clone(bound),
        from_json(data, {"ConfidenceSequence": ConfidenceSequence}),
        ConfidenceSequence(**bound.get_params()),
    ]
    for copy in copies:
        assert to_json(copy) == to_json(bound)
        assert copy.votes_per_input == 777
    np.testing.assert_array_equal(copies[0].radii, radii)
    assert repr(ConfidenceSequence()) == "ConfidenceSequence()"
    assert "777" in repr(bound)


@pytest.mark.parametrize(
    "params",
    [
        {"max_n": 0}, {"max_n": 2.5}, {"max_n": None}, {"rtol": -0.1}, {"rtol": 1.0},
        {"futility": -0.1}, {"futility": 0.6}, {"runner_up": "yes"},
    ],
)  # fmt: skip
def test_bad_parameters(params):
    (name,) = params
    with pytest.raises(ValueError, match=f"'{name}' parameter of ConfidenceSequence"):
        _ = ConfidenceSequence(**params).votes_per_input


@pytest.mark.parametrize(
    "radii",
    [
        0.0, -1.0, math.inf, math.nan, "0.5", b"1", [-0.5], [0.0, 1.0], [math.nan],
        [math.inf], ["a"], ["0.5"], [None], [[0.5, 1.0]], {0.5, 1.0}, [], [1j],
    ],
    ids=repr,
)  # fmt: skip
def test_bad_radii(radii):
    """They would be decided without a vote, or fail in the middle of `certify`."""
    with pytest.raises(ValueError, match="radii"):
        _ = ConfidenceSequence(radii=radii).votes_per_input


# Randomised Clopper-Pearson


def tails(k, n, p):
    """P(more than k of n votes) and P(k votes), in exact sums."""
    p = mpmath.mpf(p)

    def prob(j):
        return mpmath.binomial(n, j) * p**j * (1 - p) ** (n - j)

    return mpmath.fsum(prob(j) for j in range(k + 1, n + 1)), prob(k)


UNIFORMS = st.one_of(
    st.floats(0, 1), st.floats(0, 1).map(lambda u: u**8), st.sampled_from([0.0, 1.0])
)


@given(
    n=st.one_of(st.integers(1, 200), st.integers(200, 10**8)),
    share=st.floats(0, 1),
    alpha=st.one_of(st.floats(1e-12, 0.5), st.floats(0.5, 0.999)),
    u=UNIFORMS,
)
def test_randomised_bound_solves_its_equation(n, share, alpha, u):
    k = n - round(share * min(n, 40 if n > 200 else n))
    got = float(RANDOMIZED.prob_lower(k, n, alpha, uniforms=u))
    ordinary, cap = (float(ORDINARY.prob_lower(k, n, a)) for a in (alpha, max(alpha, 0.5)))
    assert ordinary <= got <= max(cap, ordinary)
    if k < n:
        assert got <= ORDINARY.prob_lower(k + 1, n, alpha)
    if k == 0 and u >= alpha:
        assert got == 0.0  # also p = 0 has such votes with probability U
        return
    with mpmath.workdps(50):
        more, as_many = tails(k, n, got)
        assert more + u * as_many <= alpha
        more, as_many = tails(k, n, min(got * (1 + 3e-13), 1.0))
        close = more + u * as_many > alpha * (1 - mpmath.mpf("1e-11"))
    assert close or got >= cap * (1 - 3e-13)


@given(n=st.integers(1, 200), alpha=st.floats(1e-9, 0.9), u=st.floats(0, 1))
def test_randomised_bound_lies_between_its_neighbours(n, alpha, u):
    k = np.arange(n + 1)
    got = RANDOMIZED.prob_lower(k, n, alpha, uniforms=u)
    ordinary = ORDINARY.prob_lower(k, n, alpha)
    assert (got >= ordinary).all()
    assert (got[:-1] <= ordinary[1:]).all()
    assert (np.diff(got) >= 0).all()
    one = RANDOMIZED.prob_lower(k, n, alpha, uniforms=1.0)
    np.testing.assert_allclose(one, ordinary, rtol=1e-12)


def test_randomised_bound_falls_with_its_uniforms():
    u = np.linspace(0, 1, 101)
    for k in (0, 1, 7, 19, 20):
        assert (np.diff(RANDOMIZED.prob_lower(k, 20, 0.05, uniforms=u)) <= 0).all()


@pytest.mark.parametrize("n", [1, 2, 5, 20, 60])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.3, 0.7])
def test_randomised_bound_fails_with_probability_alpha(n, alpha):
    k, p = np.arange(n + 1), np.linspace(0.02, 0.995, 20)[:, np.newaxis]

    def wrong(u):
        return RANDOMIZED.prob_lower(np.broadcast_to(k, u.shape), n, alpha, uniforms=u) > p

    # The bound falls with U, so that it is above p up to some U.
    low, high = np.zeros((20, n + 1)), np.ones((20, n + 1))
    always, never = wrong(high), ~wrong(low)
    for _ in range(40):
        middle = 0.5 * (low + high)
        is_wrong = wrong(middle)
        low, high = np.where(is_wrong, middle, low), np.where(is_wrong, high, middle)
    failing = np.where(always, 1.0, np.where(never, 0.0, high))
    votes = stats.binom.pmf(k, n, p)
    failure = (votes * failing).sum(axis=1)
    ordinary = (votes * (ORDINARY.prob_lower(k, n, alpha) > p)).sum(axis=1)
    assert (ordinary <= failure * (1 + 1e-9)).all()
    assert (failure <= alpha * (1 + 1e-9)).all()
    # Exactly alpha, where p is below the median of the votes that fail with some U only:
    # then nothing is capped.
    at_least = stats.binom.sf(k - 1, n, p)
    smallest = np.where(at_least > alpha, at_least, 1.0).min(axis=1)
    np.testing.assert_allclose(failure[smallest < 0.5], alpha, rtol=1e-6)
    assert (smallest < 0.5).any() or alpha > 0.5


@pytest.mark.parametrize("uniforms", [None, -0.1, 1.1, [0.5, float("nan")]])
def test_bad_uniforms(uniforms):
    with pytest.raises(ValueError, match="uniforms must"):
        RANDOMIZED.prob_lower([5, 6], 10, 0.01, uniforms=uniforms)


# Two classes


def all_votes(n, n_classes):
    """Every way in which n votes can fall."""
    cells = itertools.product(range(n + 1), repeat=n_classes - 1)
    return np.array([(*c, n - sum(c)) for c in cells if sum(c) <= n])


def probabilities(n_classes):
    """Points of the simplex, edges and a nearly unanimous one among them."""
    grid = [p for p in itertools.product(range(11), repeat=n_classes) if sum(p) == 10]
    thin = [np.array(p) / 10 for p in grid[:: max(1, len(grid) // 40)]]
    nearly = np.array([97.0, 2.0, 1.0, 0.0][:n_classes])
    return [*thin, nearly / nearly.sum()]


TWO_BOUNDS = [
    (ClopperPearson(runner_up=True), 0.05),
    (ClopperPearson(runner_up=True), 0.4),
    (ClopperPearson(runner_up=True, randomized=True), 0.3),
    (ClopperPearson(), 0.2),
    (ConfidenceSequence(runner_up=True), 0.4),
]


@pytest.mark.parametrize(("bound", "alpha"), TWO_BOUNDS, ids=str)
@pytest.mark.parametrize(("n", "n_classes"), [(3, 3), (15, 3), (9, 4), (10, 2), (10, 1)])
def test_bounds_on_two_classes_fail_together_with_alpha_at_most(bound, alpha, n, n_classes):
    counts = all_votes(n, n_classes)
    votes = top_votes(counts, np.zeros(len(counts), dtype=np.int64))
    # Of every uniform number in a cell, its right end gives the smallest bound: the mean
    # over the cells is below the truth, by 1 / 200 of it.
    uniforms = np.arange(1, 201) / 200 if bound.randomized else [None]
    bounds = [
        bound.top_two(votes, n_others=n_classes - 1, alpha=alpha, uniforms=u)
        for u in uniforms
    ]
    largest = 0.0
    for p in probabilities(n_classes):
        other = p[1:].max(initial=0.0)
        wrong = np.mean([(low > p[0]) | (up < other - 1e-12) for low, up in bounds], axis=0)
        failure = stats.multinomial.pmf(counts, n, p) @ wrong
        assert failure <= alpha * (1 + 1e-9)
        largest = max(largest, failure)
    if isinstance(bound, ClopperPearson) and n_classes > 1:
        assert largest > alpha / 20


@pytest.mark.parametrize("kind", KINDS)
def test_upper_bounds_grow_with_the_count(kind):
    """So that of all other classes the strongest one's bound is the largest."""
    for n in (1, 2, 7, 100, 5000):
        counts = np.unique(np.linspace(0, n, 301).astype(np.int64))
        for alpha in (0.4, 0.01, 1e-6):
            assert (np.diff(kind().prob_upper(counts, n, alpha)) >= -1e-15).all()


def test_runner_up_is_the_strongest_of_the_others():
    counts = np.array([[5, 3, 2], [1, 0, 9], [0, 0, 4]])
    votes = top_votes(counts, np.array([0, 1, 2]))
    assert votes.top.tolist() == [5, 0, 4]
    assert votes.runner_up.tolist() == [3, 9, 0]
    assert votes.total.tolist() == [10, 10, 4]
    assert counts.tolist() == [[5, 3, 2], [1, 0, 9], [0, 0, 4]]


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if "runner_up" in kind().get_params()]
)
def test_runner_up_costs_half_of_alpha_however_many_classes_there_are(kind):
    votes = TopVotes(*np.array([[600, 900], [150, 100], [1000, 1000]]))
    lower, upper = kind(runner_up=True).top_two(votes, n_others=9, alpha=0.01)
    np.testing.assert_array_equal(lower, kind().prob_lower(votes.top, 1000, 0.005))
    np.testing.assert_array_equal(
        upper,
        np.minimum(kind().prob_upper(votes.runner_up, 1000, 0.005), 1.0 - lower),
    )
    lower, rest = kind().top_two(votes, n_others=9, alpha=0.01)
    np.testing.assert_array_equal(lower, kind().prob_lower(votes.top, 1000, 0.01))
    np.testing.assert_array_equal(rest, 1.0 - lower)


# Radii from two bounds

PAIRS = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(
    lambda pair: (pair[0], min(pair[1], 1.0 - pair[0]))
)


def exact_gaussian(top, other):
    """Distance at which two half-lines of these probabilities have equal ones, sigma 1."""

    def quantile(p):
        return mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1)

    return (quantile(mpmath.mpf(top)) - quantile(mpmath.mpf(other))) / 2


@given(pair=PAIRS)
@example(pair=(0.999, 0.0005))
@example(pair=(0.4, 0.1))
@example(pair=(0.5, 0.5))
@example(pair=(1 - 2.0**-53, 2.0**-53))
@example(pair=(0.2, 1e-300))
def test_gaussian_two_bound_radius(pair):
    top, other = pair
    got = float(Gaussian(sigma=2.0).radius(top, 2, 7, prob_runner_up=other))
    if top <= other:
        assert got == 0.0
        return
    if not 1e-30 < other < top < 1.0:
        assert 0.0 <= got < 2 * 9
        return
    with mpmath.workdps(80):
        exact = float(2 * exact_gaussian(top, other))
        assert got <= 2 * exact_gaussian(top, other)
    assert got >= 0.98 * min(exact, 2 * 8) - 1e-9  # there is no float64 nearer to 1
    if exact < 2 * 5:
        assert got == pytest.approx(exact, rel=1e-9, abs=1e-9)


@given(pair=PAIRS, dim=st.sampled_from([1, 2, 50]))
@example(pair=(0.999, 0.0005), dim=1)
@example(pair=(0.4, 0.1), dim=2)
def test_uniform_two_bound_radius(pair, dim):
    top, other = (mpmath.mpf(each) for each in pair)
    got = {
        norm: float(Uniform(lambd=3.0).radius(pair[0], norm, dim, prob_runner_up=pair[1]))
        for norm in (1, math.inf)
    }
    with mpmath.workdps(60):
        # A shift takes half the difference away from the top class and gives as much.
        l1 = max(3 * (top - other), 0)
        one_axis = mpmath.power(1 - max((top - other) / 2, 0), mpmath.mpf(1) / dim)
        linf = 2 * 3 * (1 - one_axis)
        assert got[1] <= l1
        assert got[math.inf] <= linf
    assert got[1] == pytest.approx(float(l1), rel=1e-9, abs=1e-9)
    assert got[math.inf] == pytest.approx(float(linf), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("top", "other"), [(0.6, 0.1), (0.4, 0.3), (0.45, 0.001)])
def test_worst_cases_turn_the_vote_just_beyond_the_radius(top, other):
    """Two half-lines, and two intervals whose masses a shift moves as far as can be."""
    inside, beyond = 1 - 1e-6, 1 + 1e-6
    radius = float(Gaussian(sigma=0.5).radius(top, 2, 1, prob_runner_up=other))

    def gaussian_votes(shift):
        z = stats.norm.ppf([top, other])
        return stats.norm.cdf(z[0] - shift / 0.5), stats.norm.cdf(z[1] + shift / 0.5)

    def uniform_votes(shift):  # top at the left end, the runner-up at the right and beyond
        lost = min(shift / 1.0, top)
        return top - lost, other + shift / 1.0

    uniform = float(Uniform(lambd=0.5).radius(top, 1, 1, prob_runner_up=other))
    for votes, r in ((gaussian_votes, radius), (uniform_votes, uniform)):
        assert np.subtract(*votes(r * inside)) > 0
        assert np.subtract(*votes(r * beyond)) < 0


@pytest.mark.parametrize("noise", [Gaussian(sigma=0.3), Uniform(sigma=0.3)], ids=str)
@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_two_bounds_that_say_no_more_than_one_give_its_radius(noise, norm):
    top = np.linspace(0, 1, 101)
    one = noise.radius(top, norm, 9)
    two = noise.radius(top, norm, 9, prob_runner_up=1.0 - top)
    assert (two <= one * (1 + 1e-12)).all()
    np.testing.assert_allclose(two[:-1], one[:-1], rtol=1e-9, atol=1e-9)
    better = noise.radius(top, norm, 9, prob_runner_up=0.5 * (1.0 - top))
    assert (better[1:-1] > two[1:-1])[top[1:-1] > 0.34].all()


def test_two_bounds_need_a_noise_that_makes_use_of_them():
    with pytest.raises(ValueError, match="Splitting or Uniform has"):
        Laplace(sigma=1.0).radius(0.7, 1, 3, prob_runner_up=0.1)
    with pytest.raises(ValueError, match="prob_runner_up must be a probability"):
        Gaussian(sigma=1.0).radius(0.7, 2, 3, prob_runner_up=-0.1)
    with pytest.raises(ValueError, match="prob_runner_up must be float64"):
        Gaussian(sigma=1.0).radius(0.7, 2, 3, prob_runner_up=np.float32(0.1))
