"""When votes stop: the schedule, the rule, its exact coverage, and how votes are drawn."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import fftconvolve

from rs4a import Certification
from rs4a.bounds import ConfidenceSequence, TopVotes, top_votes
from rs4a.noises import Gaussian, Laplace, Uniform
from rs4a.voting.sequential import sequential_votes
from rs4a.voting.stopping import StoppingRule, look_schedule

NORMS = {Gaussian: 2.0, Laplace: 1.0, Uniform: 1.0}
NOISE = Gaussian(sigma=1.0)


def make_rule(noise=NOISE, alpha=0.01, n_classes=2, **params):
    bound = ConfidenceSequence(**{"max_n": 400, **params})
    return StoppingRule(bound, noise, NORMS[type(noise)], 3, alpha, n_classes)


def make_votes(top, runner_up, total):
    parts = np.broadcast_arrays(*(np.asarray(p, dtype=np.int64) for p in (top, runner_up)))
    return TopVotes(*parts, np.broadcast_to(np.asarray(total), parts[0].shape).copy())


def all_votes(totals):
    """Every vote of two classes, with these totals."""
    pairs = [(h, t) for t in totals for h in range(t + 1)]
    h, t = np.array(pairs).T
    return make_votes(h, t - h, t)


# The schedule


@given(max_n=st.one_of(st.integers(1, 3000), st.integers(1, 10**18)))
def test_looks_ascend_to_max_n_in_powers_of_two(max_n):
    looks = look_schedule(max_n)
    assert looks.dtype == np.int64
    assert looks[-1] == max_n
    assert looks[0] == min(32, max_n)
    steps = np.diff(looks)
    assert (steps > 0).all()
    full = steps[:-1]
    assert (full & (full - 1) == 0).all()
    assert (full >= 32).all()
    assert (np.diff(full) >= 0).all()
    assert (full <= np.maximum(looks[:-2] // 16, 32)).all()
    assert (looks[:-1] % np.append(steps[:-1], 1) == 0).all()


@given(one=st.integers(1, 10**7), other=st.integers(1, 10**7))
def test_schedules_agree_up_to_their_last_looks(one, other):
    a, b = look_schedule(one), look_schedule(other)
    common = min(len(a), len(b)) - 1
    np.testing.assert_array_equal(a[:common], b[:common])


def test_looks_are_few():
    assert len(look_schedule(10**6)) < 350
    assert len(look_schedule(10**9)) < 700


# The rule


RULES = [
    {"radii": [0.5]},
    {"radii": 0.5, "futility": 0},
    {"radii": [1.5, 0.2, 0.2, 0.9], "futility": 0.1},
    {"radii": np.array([0.3, 1.0]), "futility": 0.5},
    {"radii": [0.1, 0.4], "runner_up": True},
    {"radii": [0.5, 50.0], "futility": 0},
    {"rtol": 0.1},
    {"rtol": 0.5, "runner_up": True},
    {"rtol": 0.0},
]


def possible_totals(max_n):
    return sorted({0, 1, 5, 32, 77, 160, max_n - 1, max_n} - {max_n + 1})


@pytest.mark.parametrize("params", RULES, ids=str)
@pytest.mark.parametrize("noise", [NOISE, Uniform(lambd=1.5)], ids=str)
def test_no_vote_is_drawn_beyond_max_n(params, noise):
    rule = make_rule(noise, **params)
    votes = all_votes([400])
    assert not rule.undecided(votes).any()
    assert not rule.votes_to_go(votes).any()


@pytest.mark.parametrize("params", RULES, ids=str)
def test_more_votes_than_max_n_are_enough(params):
    """An earlier record may have more votes than a later, smaller max_n."""
    rule = make_rule(**params)
    votes = make_votes([900, 500, 0], [100, 500, 1000], 1000)
    assert not rule.undecided(votes).any()
    assert not rule.votes_to_go(votes).any()


@pytest.mark.parametrize("params", RULES, ids=str)
def test_votes_to_go_are_positive_where_undecided(params):
    rule = make_rule(**params)
    votes = all_votes(possible_totals(400))
    to_go = rule.votes_to_go(votes)
    np.testing.assert_array_equal(to_go > 0, rule.undecided(votes))
    assert (to_go <= 400 - votes.total).all()
    assert to_go.dtype == np.int64


def test_votes_to_go_foresee_the_decision_of_a_steady_share():
    rule = make_rule(max_n=100_000, radii=[0.5], futility=0.01)
    shares, total = np.array([0.7, 0.72, 0.75, 0.8, 0.95]), 400
    top = np.round(shares * total).astype(int)
    foreseen = total + rule.votes_to_go(make_votes(top, total - top, total))
    for share, t in zip(top / total, foreseen, strict=True):
        n = np.arange(total, 100_001, 16)
        h = np.floor(share * n).astype(int)
        undecided = rule.undecided(make_votes(h, n - h, n))
        first = n[np.argmin(undecided)] if not undecided.all() else 100_000
        assert first / 1.05 - 16 <= t <= 1.55 * first + 16


def certified(rule, votes, counts=None):
    """What the record of these votes proves, and that the rule looks at no other."""
    if counts is None:
        counts = np.stack([votes.top, votes.runner_up], axis=1)
    return Certification.from_counts(
        counts,
        labels=np.zeros(len(counts), dtype=int),
        noise=rule.noise,
        dim=rule.dim,
        bound=rule.bound,
        alpha=rule.alpha,
        norm=rule.norm,
    ).radius(rule.norm)


@pytest.mark.parametrize("noise", [NOISE, Uniform(lambd=1.5), Laplace(lambd=1.0)], ids=str)
@pytest.mark.parametrize("futility", [0, 0.01, 0.3])
def test_decided_is_certified_or_given_up(noise, futility):
    """Radius by radius, against a rule that knows no other."""
    radii, votes = [1.2, 0.1, 0.5], all_votes(possible_totals(400))
    together = make_rule(noise, radii=radii, futility=futility).undecided(votes)
    alone = []
    for r in radii:
        rule = make_rule(noise, radii=r, futility=futility)
        alone.append(rule.undecided(votes))
        assert not alone[-1][certified(rule, votes) >= r].any()
    np.testing.assert_array_equal(together, np.any(alone, axis=0))
    assert together.any()
    assert not together.all()


def can_still_certify(rule, votes, r):
    """Whether votes that may come certify r, at whatever number of votes: brute force."""
    possible = np.zeros(len(votes.total), dtype=bool)
    for more in range(rule.bound.max_n + 1):
        here = votes.total + more <= rule.bound.max_n
        ahead = make_votes(votes.top + more, votes.runner_up, votes.total + more)
        ahead = TopVotes(*(part[here] for part in ahead))
        counts = np.stack([ahead.top, ahead.runner_up], axis=1)
        if rule.n_classes > 2:  # the rest of the votes, on as many others as there are
            rest = ahead.total - ahead.top - ahead.runner_up
            counts = np.column_stack([counts, rest // 2, rest - rest // 2])
        possible[here] |= certified(rule, ahead, counts) >= r
    return possible


@pytest.mark.parametrize("r", [0.2, 1.0, 1.4])
@pytest.mark.parametrize("alpha", [0.001, 0.2])
def test_no_futility_gives_up_only_what_no_votes_can_certify(r, alpha):
    rule = make_rule(max_n=150, radii=r, futility=0, alpha=alpha)
    votes = all_votes(range(0, 150, 7))
    missing = certified(rule, votes) < r
    expected = missing & can_still_certify(rule, votes, r)
    np.testing.assert_array_equal(rule.undecided(votes), expected)
    assert expected.any()
    assert (missing & ~expected).any()


def test_no_futility_gives_up_only_what_no_votes_can_certify_with_two_bounds():
    rule = make_rule(
        max_n=90, radii=0.5, futility=0, alpha=0.05, runner_up=True, n_classes=4
    )
    tops = [(a, b, t) for t in (6, 30, 63) for a in range(0, t + 1, 3)
            for b in range(-(-(t - a) // 3), t - a + 1, 3)]  # fmt: skip
    a, b, t = np.array(tops).T
    votes = make_votes(a, b, t)
    rest = t - a - b
    counts = np.column_stack([a, b, rest // 2, rest - rest // 2])
    assert (counts[:, 2:] <= b[:, None]).all()
    missing = certified(rule, votes, counts) < 0.5
    expected = missing & can_still_certify(rule, votes, 0.5)
    np.testing.assert_array_equal(rule.undecided(votes), expected)
    assert expected.any()


@pytest.mark.parametrize(
    "params", [{"radii": [0.4, 1.0]}, {"radii": 0.2, "runner_up": True}]
)
def test_larger_futility_stops_earlier(params):
    votes = all_votes(possible_totals(400))
    waiting = [
        make_rule(futility=each, **params).undecided(votes)
        for each in (0, 1e-6, 0.01, 0.1, 0.5)
    ]
    for patient, hasty in itertools.pairwise(waiting):
        assert (hasty <= patient).all()
        assert hasty.sum() < patient.sum()


def test_futility_is_the_chance_of_what_is_given_up():
    """Against the exact beta-binomial law of the votes to come."""
    max_n, r, alpha = 2000, 0.5, 0.01
    bound = ConfidenceSequence()
    h = np.arange(max_n + 1)
    needed = int(np.argmax(NOISE.radius(bound.prob_lower(h, max_n, alpha), 2, 3) >= r))
    votes = all_votes([200, 400, 800, 1200, 1600])
    votes = TopVotes(*(part[votes.top > 0.5 * votes.total] for part in votes))
    chance = stats.betabinom.sf(
        needed - votes.top - 1,
        max_n - votes.total,
        votes.top + 0.5,
        votes.runner_up + 0.5,
    )
    for futility in (0.01, 0.1, 0.3):
        rule = make_rule(max_n=max_n, radii=r, alpha=alpha, futility=futility)
        given_up = ~rule.undecided(votes) & (certified(rule, votes) < r)
        assert chance[given_up].max() < 2.5 * futility
        assert chance[rule.undecided(votes)].min() > futility / 2.5


@pytest.mark.parametrize("radii", [50.0, [50.0], [9.0, 50.0, 50.0]])
@pytest.mark.parametrize("futility", [0, 0.5])
def test_radii_out_of_reach_cost_no_vote(radii, futility):
    rule = make_rule(max_n=10**6, radii=radii, futility=futility)
    assert not rule.undecided(all_votes([0, 1, 32, 1000])).any()


def test_a_number_is_a_list_of_one_radius_and_order_does_not_matter():
    votes = all_votes([0, 32, 100])
    one, *others = (
        make_rule(radii=radii).undecided(votes)
        for radii in (0.5, [0.5], np.float64(0.5), np.array(0.5), [0.5, 0.5])
    )
    for other in others:
        np.testing.assert_array_equal(one, other)
    up, down = (make_rule(radii=r).undecided(votes) for r in ([0.1, 0.9], [0.9, 0.1]))
    np.testing.assert_array_equal(up, down)


@pytest.mark.parametrize("rtol", [0.0, 0.05, 0.3, 0.9])
@pytest.mark.parametrize("runner_up", [False, True])
def test_rtol_compares_the_radii_at_both_ends(rtol, runner_up):
    rule = make_rule(max_n=10**6, rtol=rtol, runner_up=runner_up)
    votes = all_votes([0, 1, 100, 1000])
    bound, alpha = rule.bound, rule.alpha / (2 if runner_up else 1)
    top = bound.prob_upper(votes.top, votes.total, alpha)
    other = np.minimum(bound.prob_lower(votes.runner_up, votes.total, alpha), top)
    largest = NOISE.radius(top, 2, 3, prob_runner_up=other if runner_up else None)
    smallest = certified(rule, votes)
    assert (smallest <= largest).all()
    finite = np.isfinite(largest)
    near = largest[finite] - smallest[finite] <= rtol * largest[finite]
    np.testing.assert_array_equal(rule.undecided(votes)[finite], ~near)
    assert rule.undecided(votes)[~finite].all()
    assert near.any()


def test_hopeless_inputs_stop_also_without_radii():
    rule = make_rule(max_n=10**6, rtol=0.01)
    votes = make_votes([0, 20, 400], [100, 80, 600], [100, 100, 1000])
    assert not rule.undecided(votes).any()


def test_two_bounds_decide_earlier_where_others_share_the_rest():
    n = np.arange(32, 4000, 32)
    top, runner_up = n // 2, n // 10
    votes = make_votes(top, runner_up, n)
    first = [
        n[np.argmin(make_rule(max_n=4000, radii=0.3, runner_up=two, n_classes=6,
                              futility=0).undecided(votes))]
        for two in (True, False)
    ]  # fmt: skip
    assert first[0] < 500
    assert first[1] > 1500  # given up: one bound proves nothing below one half


# Exact coverage: the law of the votes at which sampling stops, without simulation

THRESHOLDS = [
    (Gaussian(sigma=1.0), 0.3, stats.norm.cdf(0.3)),
    (Gaussian(sigma=1.0), 1.0, stats.norm.cdf(1.0)),
    (Uniform(lambd=1.0), 0.5, 0.75),
    (Laplace(lambd=1.0), 0.4, 1 - 0.5 * math.exp(-0.4)),
]


def stopped_votes(rule, p, looks):
    """Probabilities of (votes for the class, votes) at which an input stops."""
    alive, before = np.ones(1), 0
    for t in map(int, looks):
        alive = np.convolve(
            alive, stats.binom.pmf(np.arange(t - before + 1), t - before, p)
        )
        h, before = np.arange(t + 1), t
        stops = ~rule.undecided(make_votes(h, t - h, t))
        yield h, t, np.where(stops, alive, 0.0)
        alive = np.where(stops, 0.0, alive)
    assert alive.sum() < 1e-12


def failure_probability(rule, p, looks=None):
    """P(the record of the votes at the stop claims a probability above p)."""
    looks = look_schedule(rule.bound.max_n) if looks is None else looks
    total = failure = 0.0
    for h, t, mass in stopped_votes(rule, p, looks):
        total += mass.sum()
        failure += mass[rule.bound.prob_lower(h, t, rule.alpha) > p].sum()
    assert total == pytest.approx(1.0, abs=1e-9)
    return failure


@pytest.mark.parametrize("threshold", THRESHOLDS, ids=str)
@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
@pytest.mark.parametrize(
    "futility", [0.01, *(pytest.param(each, marks=pytest.mark.slow) for each in (0, 0.5))]
)
def test_stopping_by_radii_fails_with_alpha_at_most(threshold, alpha, futility):
    noise, r, p = threshold
    rule = make_rule(noise, alpha, max_n=2000, radii=[r], futility=futility)
    for gap in (1e-9, 0.01, 0.05, 0.15):
        assert failure_probability(rule, p - gap) <= alpha
    # The chance is taken: not only is the failure possible, it uses up a part of alpha.
    assert alpha / 25 < failure_probability(rule, p) <= alpha


@pytest.mark.parametrize(
    "looks",
    [pytest.param(range(1, 301), marks=pytest.mark.slow), [7, 50, 77, 300], [300]],
    ids=len,
)
def test_stopping_fails_with_alpha_at_most_whenever_one_looks(looks):
    for radii, futility in ([0.5], 0.01), ([0.2, 0.5, 1.0], 0.0):
        rule = make_rule(alpha=0.1, max_n=300, radii=radii, futility=futility)
        for p in (0.5, stats.norm.cdf(0.2), 0.65, stats.norm.cdf(0.5), 0.8, 0.97):
            assert failure_probability(rule, p, looks) <= 0.1


@pytest.mark.parametrize("rtol", [0.05, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("alpha", [0.2, 0.01])
def test_stopping_by_rtol_fails_with_alpha_at_most(rtol, alpha):
    rule = make_rule(alpha=alpha, max_n=2000, rtol=rtol)
    failures = [failure_probability(rule, p) for p in (0.5, 0.52, 0.7, 0.9, 0.99)]
    assert 0 < max(failures) <= alpha


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.2, 0.01])
def test_stopping_as_soon_as_the_bound_is_wrong_fails_with_alpha_at_most(alpha):
    """Of all ways to stop, the worst one: it knows p and looks after every vote."""
    bound, largest = ConfidenceSequence(), 0.0
    for p in (0.1, 0.5, 0.75, 0.9, 0.99):
        alive, failure = np.ones(1), 0.0
        for t in range(1, 1001):
            alive = np.convolve(alive, [1 - p, p])
            wrong = bound.prob_lower(np.arange(t + 1), t, alpha) > p
            failure += alive[wrong].sum()
            alive = np.where(wrong, 0.0, alive)
        assert failure + alive.sum() == pytest.approx(1.0, abs=1e-9)
        assert failure <= alpha
        largest = max(largest, failure)
    assert largest > alpha / 4


@pytest.mark.parametrize("p", [(0.4, 0.4, 0.2), (0.5, 0.3, 0.2), (0.6, 0.2, 0.2)])
def test_stopping_with_two_bounds_fails_with_alpha_at_most(p):
    """Three classes; a failure is any bound that does not hold."""
    alpha = 0.2
    rule = make_rule(alpha=alpha, max_n=128, radii=[0.05, 0.2], runner_up=True, n_classes=3)
    step = np.arange(33)
    a, b = np.meshgrid(step, step, indexing="ij")
    rest = np.maximum(32 - a - b, 0)
    flat = np.stack([a, b, rest], axis=-1).reshape(-1, 3)
    draws = np.where(
        (a + b <= 32).ravel(),
        stats.multinomial.pmf(np.where((a + b <= 32).ravel()[:, None], flat, [32, 0, 0]),
                              32, p), 0.0).reshape(33, 33)  # fmt: skip
    alive, failure, stopped = np.ones((1, 1)), 0.0, 0.0
    for t in look_schedule(128):
        alive = np.maximum(fftconvolve(alive, draws), 0.0)
        first, second = np.nonzero(np.add.outer(range(t + 1), range(t + 1)) <= t)
        counts = np.stack([first, second, t - first - second], axis=1)
        votes = top_votes(counts, np.zeros(len(counts), dtype=np.int64))
        stops = ~rule.undecided(votes)
        lower, other = rule.bound.top_two(votes, n_others=2, alpha=alpha)
        wrong = (lower > p[0]) | (other < max(p[1:]))
        mass = alive[first, second]
        failure += mass[stops & wrong].sum()
        stopped += mass[stops].sum()
        alive[:] = 0.0
        alive[first, second] = np.where(stops, 0.0, mass)
    assert stopped == pytest.approx(1.0, abs=1e-9)
    assert 0 < failure <= alpha


# The votes, look by look


class Urn:
    """Votes settled beforehand, each a function of its input and its number alone."""

    def __init__(self, probabilities, max_n, seed=0, n_classes=2):
        rng = np.random.default_rng(seed)
        self.keys = rng.integers(2**63, size=(len(probabilities), 3)).astype(np.uint64)
        drawn = rng.random((len(probabilities), max_n))
        classes = (drawn > np.asarray(probabilities)[:, np.newaxis]).astype(int)
        classes *= rng.integers(1, n_classes, size=classes.shape) if n_classes > 2 else 1
        votes = classes[:, :, np.newaxis] == np.arange(n_classes)
        first = np.zeros((len(votes), 1, n_classes), dtype=np.int64)
        self.running = np.concatenate([first, votes.cumsum(axis=1)], axis=1)
        self.calls = []
        self.interrupt_at = None

    def until(self, totals):
        return self.running[np.arange(len(self.running)), totals]

    def draw(self, rows):
        """The function that draws votes of these rows, in this order."""

        def draw(requests):
            assert (requests.starts < requests.stops).all()
            if self.interrupt_at is not None and len(self.calls) >= self.interrupt_at:
                raise KeyboardInterrupt
            self.calls.append(int((requests.stops - requests.starts).sum()))
            which = rows[requests.rows]
            return (
                self.running[which, requests.stops] - self.running[which, requests.starts]
            )

        return draw

    def run(self, rule, *, order=None, counts=None, batch_size=1024, **kwargs):
        """Votes in the order of the urn, whatever the order in which they are asked for."""
        rows = np.arange(len(self.running)) if order is None else np.asarray(order)
        counts = np.zeros_like(self.running[:, 0]) if counts is None else counts
        before = counts.copy()
        self.calls = []
        outcome = sequential_votes(
            self.draw(rows),
            rule,
            np.zeros(len(rows), dtype=np.int64),
            counts=counts[rows],
            keys=self.keys[rows],
            batch_size=batch_size,
            **kwargs,
        )
        np.testing.assert_array_equal(counts, before)
        result = np.empty_like(outcome.counts)
        result[rows] = outcome.counts
        # No vote is counted twice, and none left out.
        np.testing.assert_array_equal(result, self.until(result.sum(axis=1)))
        return result, outcome.interrupted


RULE = make_rule(max_n=1000, radii=[0.5, 1.0])
SHARES = np.concatenate([np.linspace(0.4, 1.0, 40), [0.69, 0.7, 0.84, 0.85, 1.0, 0.0]])


@pytest.fixture
def urn():
    return Urn(SHARES, 1000)


def orders(n):
    rng = np.random.default_rng(1)
    return [np.arange(n), np.arange(n)[::-1], rng.permutation(n), rng.permutation(n)]


@pytest.mark.parametrize("max_votes", [None, 0, 1, 33, 1000, 4001, 10_000, 10**12])
def test_votes_depend_on_neither_batches_nor_order(urn, max_votes):
    expected, _ = urn.run(RULE, max_votes=max_votes)
    for batch_size, order in zip((1, 31, 100, 10**6), orders(len(SHARES)), strict=True):
        got, interrupted = urn.run(
            RULE, max_votes=max_votes, batch_size=batch_size, order=order
        )
        assert not interrupted
        np.testing.assert_array_equal(got, expected)


def test_without_a_budget_inputs_do_not_depend_on_each_other(urn):
    expected, _ = urn.run(RULE)
    for row in range(len(SHARES)):
        outcome = sequential_votes(
            urn.draw(np.array([row])),
            RULE,
            np.zeros(1, dtype=np.int64),
            counts=np.zeros((1, 2), dtype=np.int64),
            keys=urn.keys[[row]],
            batch_size=1024,
        )
        np.testing.assert_array_equal(outcome.counts[0], expected[row])


def test_every_input_stops_at_its_first_look_that_decides(urn):
    counts, _ = urn.run(RULE)
    looks = look_schedule(1000)
    for row, total in enumerate(counts.sum(axis=1)):
        at_looks = urn.running[row, looks]
        undecided = RULE.undecided(top_votes(at_looks, np.zeros(len(looks), dtype=int)))
        assert total == looks[np.argmin(undecided)]


@pytest.mark.parametrize("max_votes", [0, 1, 31, 32, 33, 500, 1472, 1473, 3000, 9999])
@pytest.mark.parametrize("batch_size", [1, 100, 1024])
def test_budget_is_kept_and_spent(urn, max_votes, batch_size):
    everything, _ = urn.run(RULE)
    counts, _ = urn.run(RULE, max_votes=max_votes, batch_size=batch_size)
    assert counts.sum() == min(max_votes, everything.sum())
    assert (counts.sum(axis=1) <= everything.sum(axis=1)).all()


@pytest.mark.parametrize("rtol", [0.0, 0.3])
def test_budget_is_kept_also_by_rtol(urn, rtol):
    rule = make_rule(max_n=1000, rtol=rtol)
    everything, _ = urn.run(rule)
    for max_votes in (100, 5000, 12_345):
        counts, _ = urn.run(rule, max_votes=max_votes)
        assert counts.sum() == min(max_votes, everything.sum())


def test_equal_inputs_share_a_budget_whatever_their_order(urn):
    """Equal inputs have equal keys: only which of them comes first is left to the order."""
    twins = np.repeat(np.arange(len(SHARES)), 2)
    totals = []
    for order in (twins, twins[::-1], np.random.default_rng(0).permutation(twins)):
        outcome = sequential_votes(
            urn.draw(order),
            RULE,
            np.zeros(len(order), dtype=np.int64),
            counts=np.zeros((len(order), 2), dtype=np.int64),
            keys=urn.keys[order],
            batch_size=100,
            max_votes=7777,
        )
        n_votes = outcome.counts.sum(axis=1)
        np.testing.assert_array_equal(outcome.counts, urn.running[order, n_votes])
        totals.append(sorted(zip(order.tolist(), n_votes.tolist(), strict=True)))
    assert totals[0] == totals[1] == totals[2]


def test_going_on_gives_what_one_run_gives(urn):
    expected, _ = urn.run(RULE)
    np.testing.assert_array_equal(urn.run(RULE, counts=expected)[0], expected)
    assert urn.calls == []
    # From any look on: a smaller max_n that is a look, and an interruption.
    early, _ = urn.run(make_rule(max_n=512, radii=[0.5, 1.0], futility=0))
    early = urn.until(np.minimum(early.sum(axis=1), expected.sum(axis=1)))
    np.testing.assert_array_equal(urn.run(RULE, counts=early)[0], expected)
    for urn.interrupt_at in (0, 1, 3, 10):
        part, interrupted = urn.run(RULE, batch_size=100)
        assert interrupted
        urn.interrupt_at = None
        np.testing.assert_array_equal(urn.run(RULE, counts=part)[0], expected)


@pytest.mark.parametrize("max_n", [1, 50, 77, 333])
def test_going_on_from_between_two_looks_counts_every_vote_once(urn, max_n):
    part, _ = urn.run(make_rule(max_n=max_n, radii=[0.5, 1.0], futility=0))
    assert (part.sum(axis=1) <= max_n).all()
    for batch_size in (1, 100, 1024):
        whole, _ = urn.run(RULE, counts=part, batch_size=batch_size)  # checks the counts
        assert (whole >= part).all()
        assert not RULE.undecided(top_votes(whole, np.zeros(len(whole), dtype=int))).any()


def test_a_budget_in_portions_counts_every_vote_once(urn):
    counts, _ = urn.run(RULE, max_votes=100)
    while True:
        more, _ = urn.run(RULE, max_votes=777, counts=counts, batch_size=100)
        gained = more.sum() - counts.sum()
        assert 0 <= gained <= 777
        counts = more
        if gained < 777:
            break
    assert not RULE.undecided(top_votes(counts, np.zeros(len(counts), dtype=int))).any()


@pytest.mark.parametrize("batch_size", [1, 100, 1024])
def test_an_interruption_keeps_the_votes_so_far(urn, batch_size):
    complete, _ = urn.run(RULE, batch_size=batch_size)
    n_calls = len(urn.calls)
    for urn.interrupt_at in (0, 1, n_calls // 2, n_calls - 1):
        part, interrupted = urn.run(RULE, batch_size=batch_size)
        assert interrupted
        assert (part <= complete).all()
        assert (part.sum() == 0) == (urn.interrupt_at == 0)


def test_an_interruption_of_the_rule_keeps_the_votes_so_far(urn, monkeypatch):
    """Ctrl-C does not wait for a forward pass."""
    calls = itertools.count()
    undecided = StoppingRule.undecided

    def interrupted_undecided(self, votes):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return undecided(self, votes)

    monkeypatch.setattr(StoppingRule, "undecided", interrupted_undecided)
    try:
        part, interrupted = urn.run(RULE)
    except KeyboardInterrupt:
        pytest.fail("the votes so far are lost")
    assert interrupted
    assert part.sum() > 0


@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_other_errors_are_raised(urn, error):
    def draw(requests):
        raise error("broken")

    with pytest.raises(error, match="broken"):
        sequential_votes(
            draw, RULE, np.zeros(len(SHARES), dtype=int),
            counts=np.zeros((len(SHARES), 2), dtype=np.int64), keys=urn.keys,
            batch_size=64)  # fmt: skip


@pytest.mark.parametrize("batch_size", [64, 128, 512, 1024, 4096])
@pytest.mark.parametrize("n", [1, 5, 33, 46])
def test_votes_fill_whole_batches(batch_size, n):
    """Apart from the last one, where little is left to draw."""
    urn = Urn(np.concatenate([SHARES[n % 2 :: 2], SHARES])[:n], 1000)
    urn.run(make_rule(max_n=1000, radii=[0.5, 1.0]), batch_size=batch_size)
    unfilled = [call % batch_size for call in urn.calls[:-1]]
    room = n * 1000 - np.cumsum(urn.calls)[:-1]  # what is left of all votes there could be
    halves = [
        rest for rest, left in zip(unfilled, room, strict=True)
        if 0 < rest < batch_size / 2 and left > batch_size
    ]  # fmt: skip
    assert not halves, urn.calls


def test_looking_ahead_draws_no_vote_twice():
    urn = Urn(SHARES[:5], 1000)
    counts, _ = urn.run(RULE, batch_size=1024)
    assert counts.sum() <= sum(urn.calls) <= counts.sum() + 5 * 1024
    alone, _ = urn.run(RULE, batch_size=1)
    assert sum(urn.calls) == alone.sum()


def test_a_budget_decides_more_than_votes_that_are_spread_evenly():
    shares = np.repeat([0.99, 0.9, 0.8, 0.72, 0.7, 0.68, 0.6], 30)
    urn = Urn(shares, 4000)
    rule = make_rule(max_n=4000, radii=[0.5], alpha=0.001, futility=0.001)
    columns = np.zeros(len(shares), dtype=int)
    budget = 64 * len(shares)
    counts, _ = urn.run(rule, max_votes=budget)
    assert counts.sum() == budget
    evenly = urn.until(np.full(len(shares), budget // len(shares)))
    decided, spread = (~rule.undecided(top_votes(c, columns)) for c in (counts, evenly))
    assert decided.sum() > 1.2 * spread.sum()
    proved, evenly_proved = (certified(rule, None, c) >= 0.5 for c in (counts, evenly))
    assert proved.sum() > 1.2 * evenly_proved.sum()


def test_more_classes_and_two_bounds():
    urn = Urn(np.linspace(0.2, 0.9, 40), 1000, n_classes=5)
    rule = make_rule(max_n=1000, radii=[0.2, 0.5], runner_up=True, n_classes=5)
    expected, _ = urn.run(rule)
    for batch_size, order in itertools.product((1, 10**6), orders(40)):
        got, _ = urn.run(rule, batch_size=batch_size, order=order)
        np.testing.assert_array_equal(got, expected)
    assert (certified(rule, None, expected) >= 0.2).sum() > 10


def test_progress_counts_decisions_and_votes(urn):
    seen = []
    counts, _ = urn.run(RULE, progress=lambda *done: seen.append(done))
    decided, spent = zip(*seen, strict=True)
    assert list(decided) == sorted(decided)
    assert list(spent) == sorted(spent)
    assert seen[0][1] == 0
    assert seen[-1] == (len(SHARES), counts.sum())


def test_no_inputs_and_no_undecided_inputs_draw_nothing(urn):
    out_of_reach = make_rule(max_n=1000, radii=50.0)
    counts, interrupted = urn.run(out_of_reach)
    assert counts.sum() == 0
    assert not interrupted
    assert urn.calls == []


# In a box that attacks must stay in

IN_BOX = Uniform(lambd=2.0)


def in_box(n, dim=3, seed=0, **params):
    """A rule about n inputs that differ in their reach, all of it large."""
    reach = -np.sort(-np.random.default_rng(seed).uniform(0.5, 1.0, (n, 20)), axis=1)
    return replace(make_rule(IN_BOX, **params), dim=60, reach=reach)


def rows_of(votes, rows):
    return TopVotes(*(part[rows] for part in votes))


BOX_RULES = [
    {"radii": [0.5, 2.2]}, {"radii": 1.1, "futility": 0}, {"rtol": 0.2},
    {"radii": [0.4, 2.1], "runner_up": True}, {"rtol": 0.5, "runner_up": True},
]  # fmt: skip


@pytest.mark.parametrize("params", BOX_RULES, ids=str)
def test_every_input_is_decided_by_its_own_reach(params):
    votes = rows_of(all_votes([0, 32, 160, 399]), slice(None, None, 7))
    rule = in_box(len(votes.total), **params)
    undecided, to_go = rule.undecided(votes), rule.votes_to_go(votes)
    for i in range(len(votes.total)):
        single, vote = rule.of(np.array([i])), rows_of(votes, [i])
        assert single.reach.shape == (1, 20)
        assert single.undecided(vote)[0] == undecided[i]
        assert single.votes_to_go(vote)[0] == to_go[i]
    rows = np.random.default_rng(0).permutation(len(votes.total))[:50]
    part = rule.of(rows)
    np.testing.assert_array_equal(part.reach, rule.reach[rows])
    np.testing.assert_array_equal(part.undecided(rows_of(votes, rows)), undecided[rows])
    np.testing.assert_array_equal(part.votes_to_go(rows_of(votes, rows)), to_go[rows])


def test_rules_without_reach_or_with_one_for_all_are_those_of_every_input():
    for rule in (make_rule(IN_BOX), replace(in_box(1), reach=np.ones((1, 1)))):
        assert rule.of(np.array([5, 7])) is rule


def test_one_reach_for_all_is_the_reach_of_each():
    votes = all_votes(possible_totals(400))
    rule = in_box(1, radii=[0.5, 2.2])
    repeated = replace(rule, reach=np.repeat(rule.reach, len(votes.total), axis=0))
    np.testing.assert_array_equal(rule.undecided(votes), repeated.undecided(votes))
    np.testing.assert_array_equal(rule.votes_to_go(votes), repeated.votes_to_go(votes))


@pytest.mark.parametrize("runner_up", [False, True])
def test_decisions_are_those_of_the_radius_in_the_box(runner_up):
    """Without futility: certified, or not to be certified by any votes to come."""
    votes = all_votes([0, 50, 100, 150])
    rule = in_box(len(votes.total), max_n=200, radii=[0.3, 2.1], futility=0,
                  runner_up=runner_up)  # fmt: skip

    def radius(now):
        lower, other = rule.bound.top_two(now, n_others=1, alpha=rule.alpha)
        others = other if runner_up else None
        return IN_BOX.radius(lower, 1, 60, prob_runner_up=others, reach=rule.reach)

    more = 200 - votes.total
    best = radius(TopVotes(votes.top + more, votes.runner_up, votes.total + more))
    expected = np.zeros(len(best), dtype=bool)
    for r in (0.3, 2.1):
        expected |= (radius(votes) < r) & (best >= r)
    np.testing.assert_array_equal(rule.undecided(votes), expected)
    plain = replace(rule, reach=None).undecided(votes)
    assert (expected != plain).any()


def test_radii_beyond_the_plain_ones_are_in_reach():
    """Without a box no vote is drawn for them: 2.2 is above lambda."""
    votes = all_votes([0, 32, 100])
    rule = in_box(len(votes.total), max_n=1000, radii=2.2, futility=0)
    assert not replace(rule, reach=None).undecided(votes).any()
    assert rule.undecided(votes).any()


@pytest.mark.parametrize("max_votes", [None, 4001, 9000])
def test_votes_in_a_box_depend_on_neither_batches_nor_order(urn, max_votes):
    rule = in_box(len(SHARES), max_n=1000, radii=[0.5, 1.4, 2.1])
    expected, _ = urn.run(rule, max_votes=max_votes)
    for batch_size, order in zip((1, 31, 100, 10**6), orders(len(SHARES)), strict=True):
        of_order = replace(rule, reach=rule.reach[order])
        got, _ = urn.run(of_order, max_votes=max_votes, batch_size=batch_size, order=order)
        np.testing.assert_array_equal(got, expected)
    # The reach of other inputs is not their own.
    other, _ = urn.run(replace(rule, reach=rule.reach[::-1]), max_votes=max_votes)
    assert (other != expected).any()


def test_every_input_stops_at_its_first_look_that_decides_in_the_box(urn):
    rule = in_box(len(SHARES), max_n=1000, radii=[0.5, 1.4, 2.1])
    counts, _ = urn.run(rule)
    looks = look_schedule(1000)
    for row, total in enumerate(counts.sum(axis=1)):
        at_looks = top_votes(urn.running[row, looks], np.zeros(len(looks), dtype=int))
        undecided = rule.of(np.array([row])).undecided(at_looks)
        assert total == looks[np.argmin(undecided)]


@pytest.mark.parametrize("runner_up", [False, True])
def test_a_box_takes_fewer_votes_and_certifies_more(runner_up):
    urn = Urn(np.repeat([0.99, 0.95, 0.9, 0.86], 20), 4000)
    rule = in_box(80, max_n=4000, radii=1.2, runner_up=runner_up)
    plain = replace(rule, reach=None)
    n_votes, n_certified = [], []
    for each in (rule, plain):
        counts, _ = urn.run(each)
        votes = top_votes(counts, np.zeros(80, dtype=int))
        lower, other = each.bound.top_two(votes, n_others=1, alpha=each.alpha)
        radius = IN_BOX.radius(
            lower, 1, 60, prob_runner_up=other if runner_up else None, reach=each.reach
        )
        n_votes.append(counts.sum())
        n_certified.append((radius >= 1.2).sum())
    assert n_votes[0] < 0.9 * n_votes[1]
    assert n_certified[0] >= n_certified[1]
    assert n_certified[0] > 60
