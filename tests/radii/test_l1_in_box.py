"""The l1 radius of uniform noise in a box, against its loop in 50-digit arithmetic."""

import math

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs4a.noises import Gaussian, Laplace, Uniform
from rs4a.radii import uniform_l1, uniform_l1_in_box
from rs4a.records import coordinate_reach, input_free_reach

NEAR_HALF, NEAR_ONE = [0.5 + 2**-53, 0.5 + 1e-9, 0.5 + 1e-6], [1 - 1e-6, 1 - 2**-53, 1.0]
PROBS = np.array([*NEAR_HALF, 0.51, 0.6, 0.75, 0.9, 0.99, 0.999, *NEAR_ONE])
SCALES = [0.01, 0.1, 0.3, 1.0, 3.7, 30.0, 1000.0]
DIMS = [1, 2, 3, 17, 784, 3072, 150_528]
UNIT_BOX = (0.0, 1.0)

reaches = st.lists(st.floats(0.0, 3.0), min_size=1, max_size=12).map(
    lambda each: -np.sort(-np.array(each))
)
probabilities = st.floats(0.5, 1.0)


def by_the_book(threshold, reach, lambd):
    """Radius, coordinate by coordinate; where no attack suffices, all that can be moved."""
    share, spent, side = mp.mpf(1), mp.mpf(0), 2 * mp.mpf(lambd)
    for b in map(mp.mpf, reach):
        rest = side * (1 - threshold / share)
        if rest <= b:
            return spent + rest
        spent += b
        share *= 1 - b / side
    return max(spent, side * (1 - threshold))  # the plain radius is no less


def reach_of(x):
    return -np.sort(-np.maximum(x, 1.0 - x))


def check(got, probs, reach, lambd, width=1.0):
    """Never above, and below by 2^-46 for the scale and 2^-48 a coordinate that counts."""
    tolerance = mp.mpf(2) ** -45 + mp.mpf(2) ** -48 * lambd / width
    with mp.workdps(50):
        for value, prob in zip(got.tolist(), probs.tolist(), strict=True):
            true = by_the_book(mp.mpf("1.5") - mp.mpf(prob), reach, lambd)
            assert value <= true
            assert true - value <= tolerance * true


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("lambd", SCALES)
def test_radius_of_an_image_is_the_loop(lambd, dim):
    x = np.random.default_rng(dim).random(dim)
    reach = coordinate_reach(x[np.newaxis], UNIT_BOX, lambd)
    got = Uniform(lambd=lambd).radius(PROBS, 1, dim, reach=reach)
    # Of the coordinates that coordinate_reach leaves out none counts.
    check(got, PROBS, reach_of(x)[: math.ceil(4 * lambd) + 3].tolist(), lambd)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("lambd", SCALES)
def test_radius_without_an_image_is_the_loop_with_ones(lambd, dim):
    got = Uniform(lambd=lambd).radius(PROBS, 1, dim, reach=input_free_reach(UNIT_BOX))
    check(got, PROBS, [1.0] * min(dim, math.ceil(4 * lambd) + 3), lambd)


@pytest.mark.parametrize("box", [(-1.0, 1.0), (0.0, 255.0), (-2.5, 0.125)])
def test_the_box_has_units(box):
    low, high = box
    unit, dim = np.random.default_rng(0).random(50), 50
    for lambd in (0.5 * (high - low), 5 * (high - low)):
        reach = coordinate_reach((low + (high - low) * unit)[np.newaxis], box, lambd)
        got = Uniform(lambd=lambd).radius(PROBS, 1, dim, reach=reach)
        check(got, PROBS, reach[0].tolist(), lambd, width=high - low)
        scaled = Uniform(lambd=lambd / (high - low)).radius(
            PROBS, 1, dim, reach=reach_of(unit)
        )
        np.testing.assert_allclose(got, scaled * (high - low), rtol=1e-13)


@pytest.mark.parametrize("n_columns", [1, 2, 5, 40])
def test_coordinates_beyond_the_last_one_reach_as_far(n_columns):
    reach, lambd, dim = reach_of(np.random.default_rng(1).random(60)), 12.0, 60
    got = Uniform(lambd=lambd).radius(PROBS, 1, dim, reach=reach[:n_columns])
    longer = np.append(reach[:n_columns], [reach[n_columns - 1]] * (dim - n_columns))
    check(got, PROBS, longer.tolist(), lambd)
    assert (got <= Uniform(lambd=lambd).radius(PROBS, 1, dim, reach=reach)).all()


def test_sigma_and_runner_up():
    """t = 1 - (pA - pB) / 2, at the scale that sigma means."""
    noise, dim = Uniform(sigma=0.7), 30
    reach = reach_of(np.random.default_rng(2).random(dim))
    top, other = np.array([0.3, 0.5, 0.8, 0.4, 1.0]), np.array([0.1, 0.05, 0.2, 0.4, 0.0])
    got = noise.radius(top, 1, dim, prob_runner_up=other, reach=reach)
    lambd = 0.7 * mp.sqrt(3)
    for value, a, b in zip(got.tolist(), top.tolist(), other.tolist(), strict=True):
        true = by_the_book(1 - (mp.mpf(a) - mp.mpf(b)) / 2, reach, lambd)
        assert value <= true
        assert true - value <= 1e-14 + 1e-13 * true
    assert got[3] == 0.0


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("dim", [1, 2, 50])
@pytest.mark.parametrize("lambd", [0.05, 0.9, 60.0])
def test_never_below_the_plain_radius(lambd, dim, norm):
    noise, probs = Uniform(lambd=lambd), np.linspace(0, 1, 101)
    plain = noise.radius(probs, norm, dim)
    for reach in (reach_of(np.random.default_rng(dim).random(dim)), [1.0], [0.0], [1e9]):
        assert (noise.radius(probs, norm, dim, reach=reach) >= plain).all()


def test_in_other_norms_the_l1_radius_is_converted():
    noise, probs, dim = Uniform(lambd=5.0), np.array([0.7, 0.99]), 100
    one, two, inf = (noise.radius(probs, p, dim, reach=[1.0]) for p in (1, 2, math.inf))
    np.testing.assert_allclose(two, one / 10, rtol=1e-13)
    assert (one > 1.05 * noise.radius(probs, 1, dim)).all()
    np.testing.assert_array_equal(inf, noise.radius(probs, math.inf, dim))


@pytest.mark.parametrize("lambd", [10.0, 100.0, 1000.0])
def test_limit_is_twice_the_logarithm_of_two(lambd):
    radius = Uniform(lambd=lambd).radius(1.0, 1, 150_528, reach=[1.0])
    limit = 2 * math.log(2) * lambd
    assert limit - 1.0 < radius < limit


def test_one_that_reaches_everywhere_gives_the_plain_radius():
    """A coordinate that can be moved by 2 lambda is all that an attack needs."""
    for reach in ([2.0], [2.0, 0.1], [7.0] * 300, [1e300], [math.inf, math.inf]):
        got = uniform_l1_in_box(PROBS, np.array(reach), 300)
        np.testing.assert_array_equal(got, uniform_l1(PROBS))


def test_no_attack_suffices_where_the_box_is_small():
    reach = np.array([0.5, 0.25, 0.125])
    radius = Uniform(lambd=10.0).radius(np.array([0.53, 0.6, 1.0]), 1, 3, reach=reach)
    assert radius[0] == pytest.approx(0.5 + 20 * (1 - 0.97 / 0.975), rel=1e-12)
    np.testing.assert_allclose(radius[1:], [2.0, 10.0], rtol=1e-13)  # the plain ones
    in_box = uniform_l1_in_box(np.array([0.6, 1.0]), reach / 10.0, 3)
    np.testing.assert_allclose(in_box, 0.0875, rtol=1e-14)
    unmoved = uniform_l1_in_box(PROBS, np.zeros(3), 3)
    np.testing.assert_allclose(unmoved, 0.0, atol=1e-300)


def test_votes_of_half_or_less_have_no_radius():
    got = uniform_l1_in_box(np.array([0.0, 0.3, 0.5]), np.array([0.6, 0.5]), 50)
    np.testing.assert_array_equal(got, 0.0)


def test_shapes_go_together():
    rng = np.random.default_rng(3)
    probs, reach = rng.uniform(0.5, 1, (4, 5)), -np.sort(-rng.random((4, 5, 3)), axis=-1)
    got = uniform_l1_in_box(probs, reach, 9)
    assert got.shape == (4, 5)
    assert got.dtype == np.float64
    for i, j in np.ndindex(4, 5):
        assert uniform_l1_in_box(probs[i, j], reach[i, j], 9) == got[i, j]
    for i in range(5):
        alone = [uniform_l1_in_box(p, reach[0, i], 9) for p in probs[:, i]]
        np.testing.assert_array_equal(uniform_l1_in_box(probs[:, i], reach[0, i], 9), alone)
    one = uniform_l1_in_box(probs[0, 0], reach[0], 9)
    assert one.shape == (5,)
    assert uniform_l1_in_box(probs[:0, 0], reach[:0, 0], 9).shape == (0,)


def test_more_columns_than_coordinates_are_not_looked_at():
    got = uniform_l1_in_box(PROBS, np.array([0.3, 0.3, 0.3]), 2)
    np.testing.assert_array_equal(got, uniform_l1_in_box(PROBS, np.array([0.3, 0.3]), 2))


def test_shares_next_to_nothing_are_no_trouble():
    """Products of thousands of factors underflow; they are those of no radius."""
    long, short = (
        uniform_l1_in_box(PROBS, np.full((1, n), 1.5), 150_528) for n in (3072, 3)
    )
    np.testing.assert_array_equal(long, short)


@given(reach=reaches, prob=probabilities, n_more=st.integers(0, 20))
def test_every_shift_within_the_radius_leaves_the_vote(reach, prob, n_more):
    """Greedy or not: the share that a random shift within the box leaves is above t."""
    dim = len(reach) + n_more
    radius = float(uniform_l1_in_box(np.array(prob), reach, dim)) * (1 - 2**-46)
    furthest = np.append(reach, np.full(n_more, reach[-1]))
    rng = np.random.default_rng(dim)
    for _ in range(10):
        shift, left = np.zeros(dim), radius * rng.choice([1.0, rng.random()])
        for i in rng.permutation(dim) if rng.random() < 0.5 else range(dim):
            shift[i] = min(furthest[i], left) * rng.choice([1.0, rng.random()])
            left -= shift[i]
        overlap = np.prod(np.maximum(1.0 - shift / 2.0, 0.0))
        assert overlap >= (1.5 - prob) * (1 - 1e-13)


@given(reach=reaches, prob=probabilities, i=st.integers(0, 11), more=st.floats(0.0, 1.0))
def test_further_reach_and_fewer_votes_make_no_radius_larger(reach, prob, i, more):
    dim = len(reach)
    radius = uniform_l1_in_box(np.array(prob), reach, dim)
    further = reach.copy()
    further[i % dim] += more
    further = -np.sort(-further)
    larger = uniform_l1_in_box(np.array(prob), further, dim)
    # Where no attack suffices, the radius is all that can be moved, which grows.
    assert larger <= radius + 1e-13 or radius >= reach.sum() * (1 - 1e-13)
    fewer = uniform_l1_in_box(np.array(0.5 + (prob - 0.5) * more), reach, dim)
    assert fewer <= radius + 1e-13


@pytest.mark.parametrize("noise", [Gaussian(sigma=1.0), Laplace(sigma=1.0)], ids=str)
def test_other_noises_refuse_a_box(noise):
    with pytest.raises(ValueError, match="box needs noise with coordinates"):
        noise.radius(0.9, 1, 3, reach=[1.0])
