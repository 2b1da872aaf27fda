"""No perturbation on the grid breaks a certificate in a box: all of them are tried.

Inputs of 8 levels, in steps of the grid. Noise turns a coordinate into one of finitely many
views, each as often as a matrix of whole numbers says: so the votes of a base classifier,
any table of the views, are counted without error at every input.
"""

import functools
import math
from fractions import Fraction

import numpy as np
import pytest

from rs4a.box import coordinate_reach, input_free_reach
from rs4a.noises import Uniform

LEVELS = 7
BOX = (0.0, float(LEVELS))


def uniform_views(n_draws):
    """Integer noise on {-m, ..., m}, n_draws = 2 m + 1, that is added."""
    views = np.zeros((LEVELS + 1, LEVELS + n_draws), dtype=np.int64)
    for x in range(LEVELS + 1):
        views[x, x : x + n_draws] = 1
    return views


def splitting_views(n_draws):
    """Thresholds between two levels, 2 lambda = n_draws steps; their definition by hand."""
    width, levels = Fraction(n_draws, LEVELS), Fraction(LEVELS)

    def view(x, s):
        if width >= 1:
            return (int(x > s) + min(s, 1)) / 2
        cell = math.ceil((x - s) / width)
        return (max(s + (cell - 1) * width, 0) + min(s + cell * width, 1)) / 2

    seen = [
        [view(x / levels, (j + Fraction(1, 2)) / levels) for j in range(n_draws)]
        for x in range(LEVELS + 1)
    ]
    values = sorted({value for row in seen for value in row})
    return np.array([[row.count(value) for value in values] for row in seen])


CASES = [
    (kind, dim, n_draws)
    for kind in (uniform_views, splitting_views)
    for dim, widths in ((1, (3, 25)), (2, (3, 7, 15, 31)), (3, (5, 9, 21)), (4, (3, 17)))
    for n_draws in widths
] + [(splitting_views, 2, 6), (splitting_views, 2, 24), (splitting_views, 3, 8)]
CASES = [
    pytest.param(*case, marks=pytest.mark.slow if case[1:] == (4, 17) else ())
    for case in CASES
]
cases = pytest.mark.parametrize(("kind", "dim", "n_draws"), CASES)


@functools.cache
def grid(dim):
    """All inputs, and the l1 distances between any two."""
    points = np.indices((LEVELS + 1,) * dim).reshape(dim, -1).T
    distances = sum(
        np.abs(np.subtract.outer(axis, axis)) for axis in points.T.astype(np.int8)
    )
    return points, distances


def count_votes(views, classes):
    """Votes at every input, of a base classifier given by the classes of the views."""
    votes = np.eye(classes.max() + 1, dtype=np.int64)[classes]
    for axis in range(classes.ndim):
        votes = np.moveaxis(np.tensordot(views, votes, (1, axis)), 0, axis)
    return votes.reshape(-1, votes.shape[-1])


def base_classifiers(views, dim, rng):
    """Random tables of views: regions, noise, and what an attack would like best."""
    shape = (views.shape[1],) * dim
    for roughness in (0.0, 0.5, 2.0):
        for n_classes in (2, 4):
            scores = rng.normal(size=(n_classes, dim)) @ np.indices(shape).reshape(dim, -1)
            scores += roughness * scores.std() * rng.normal(size=scores.shape)
            scores -= np.median(scores, axis=1, keepdims=True)
            yield scores.argmax(axis=0).reshape(shape)
    points, _ = grid(dim)
    for start, end in points[rng.integers(len(points), size=(6, 2))]:
        before, after = chances(views, start), chances(views, end)
        yield np.where((before > 0) & (after > 0), rng.random(shape) < 0.1, before == 0) * 1


def chances(views, x):
    """How often the noise makes each view out of an input."""
    return functools.reduce(np.multiply.outer, views[x])


def radii(votes, n_draws, dim, reach, *, runner_up):
    """Radii of every input, in steps, from its votes."""
    total, ranked = n_draws**dim, np.sort(votes, axis=1)[:, ::-1]
    lower = np.nextafter(ranked[:, 0] / total, 0.0)
    other = np.nextafter(ranked[:, 1] / total, 1.0) if runner_up else None
    noise = Uniform(lambd=n_draws / 2)
    return noise.radius(lower, 1, dim, prob_runner_up=other, reach=reach)


@cases
def test_no_certificate_is_violated(kind, dim, n_draws):
    points, distances = grid(dim)
    views = kind(n_draws)
    by_input = coordinate_reach(points, BOX, n_draws / 2)
    n_gained = 0
    for classes in base_classifiers(views, dim, np.random.default_rng(n_draws)):
        votes = count_votes(views, classes)
        assert (votes.sum(axis=1) == n_draws**dim).all()
        if votes.shape[1] == 1:
            continue
        top = votes.argmax(axis=1)
        rest = votes[np.newaxis].repeat(votes.shape[1], axis=0)
        rest[np.arange(votes.shape[1]), :, np.arange(votes.shape[1])] = -1
        wins = votes > rest.max(axis=2).T  # more votes than any other class
        for runner_up in (False, True):
            holds = wins if runner_up else 2 * votes > n_draws**dim
            plain = radii(votes, n_draws, dim, None, runner_up=runner_up)
            for reach in (by_input, input_free_reach(BOX)):
                got = radii(votes, n_draws, dim, reach, runner_up=runner_up)
                assert (got >= plain).all()
                for each in np.unique(top):
                    rows = top == each
                    within = distances[rows] < got[rows, np.newaxis]
                    assert not (within & ~holds[:, each]).any()
                n_gained += (np.ceil(got) > np.ceil(plain)).sum()
    # Where an attack on one coordinate leaves little of the noise, nothing is gained.
    assert n_gained or dim == 1 or n_draws <= 2 * LEVELS


def attacks(x, n_draws, dim):
    """Shifts by which attacks move the coordinates that reach furthest, ever further."""
    reach = np.maximum(x, LEVELS - x)
    away = np.where(2 * x > LEVELS, -1, 1)
    shift = np.zeros(dim, dtype=np.int64)
    for i in np.argsort(-reach, kind="stable"):
        for steps in range(1, min(reach[i], n_draws) + 1):
            shift[i] = steps
            yield away * shift


@cases
def test_the_radius_of_an_input_is_tight(kind, dim, n_draws):
    """With these votes the best attack works on some classifier, with one more on none."""
    total, views = n_draws**dim, kind(n_draws)
    noise, n_tight = Uniform(lambd=n_draws / 2), 0
    points, _ = grid(dim)
    for x in points[:: max(len(points) // 50, 1)]:
        for shift in attacks(x, n_draws, dim):
            before, after = chances(views, x), chances(views, x + shift)
            shared = int(np.minimum(before, after).sum())
            overlap = math.prod(n_draws - abs(int(v)) for v in shift)
            assert shared == overlap
            if 2 * shared < total:
                break
            # A class of these votes has all that the attack takes away, and of what it
            # leaves so little that no more than half of all votes are left.
            n_votes = total // 2 + total - shared
            reach = coordinate_reach(x[np.newaxis], BOX, n_draws / 2)
            length = np.abs(shift).sum()
            assert noise.radius(n_votes / total, 1, dim, reach=reach)[0] <= length
            if n_votes < total and length < np.maximum(x, LEVELS - x).sum():
                assert noise.radius((n_votes + 1) / total, 1, dim, reach=reach)[0] > length
                n_tight += 1
    assert n_tight >= 8
