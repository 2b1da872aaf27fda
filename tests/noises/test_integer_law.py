"""Integers follow the law that their thresholds state, to the last bit."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from scipy.stats import chi2

from rs4a.noises import integer_law
from rs4a.noises.integer_law import (
    IntegerLaw,
    gaussian_law,
    gaussian_support,
    uniform_law,
)

CPU = torch.device("cpu")
GAUSSIANS = [(0.25, 255), (0.1, 255), (1.0, 16), (0.001, 255), (1 / 3, 1), (2.7, 3)]


def words(law):
    """Thresholds counted from 0."""
    return [threshold + 2**63 for threshold in law.thresholds.tolist()]


def draws(law, size, seed=0):
    out = torch.empty(size)
    law.fill(out, torch.Generator().manual_seed(seed))
    return out


@pytest.mark.parametrize(("sigma", "levels"), GAUSSIANS)
def test_gaussian_thresholds_are_the_distribution_function_rounded_down(sigma, levels):
    law, reach = gaussian_law(sigma, levels, CPU), gaussian_support(sigma, levels)
    assert law.first == -reach
    with mpmath.workdps(70):
        scale = mpmath.mpf(sigma) * levels
        exact = [
            mpmath.ncdf((mpmath.mpf(2 * i + 1)) / (2 * scale)) for i in range(-reach, reach)
        ]
        assert words(law) == [int(mpmath.floor(p * 2**64)) for p in exact]
        assert 2 * mpmath.ncdf(-(2 * reach + 1) / (2 * scale)) < mpmath.mpf(2) ** -64


@pytest.mark.parametrize("reach", [0, 1, 2, 110, 40_000])
def test_uniform_probabilities_differ_by_one_word_at_most(reach):
    law = uniform_law(reach, CPU)
    counts = np.diff([0, *words(law), 2**64])
    assert law.first == -reach
    assert len(counts) == 2 * reach + 1
    assert max(counts) - min(counts) <= 1
    assert sum(counts) == 2**64


@pytest.mark.parametrize(
    ("law", "values"),
    [
        (uniform_law(3, CPU), lambda i: mpmath.mpf(abs(i) <= 3) / 7),
        (
            gaussian_law(0.5, 4, CPU),
            lambda i: mpmath.ncdf((i + 0.5) / 2) - mpmath.ncdf((i - 0.5) / 2),
        ),
    ],
)
def test_total_variation_is_within_what_is_allowed_for_it(law, values):
    with mpmath.workdps(60):
        counts = np.diff([0, *words(law), 2**64])
        drawn = {law.first + i: mpmath.mpf(int(n)) / 2**64 for i, n in enumerate(counts)}
        ideal = {i: values(i) for i in range(-40, 41)}
        distance = mpmath.fsum(abs(drawn.get(i, 0) - ideal[i]) for i in ideal) / 2
        assert 0 < distance < (len(law.thresholds) + 2) * mpmath.mpf(2) ** -64


LAWS = {
    "gaussian": gaussian_law(0.25, 255, CPU),
    "narrow gaussian": gaussian_law(0.3, 4, CPU),
    "wide gaussian": gaussian_law(5.0, 255, CPU),
    "uniform": uniform_law(220, CPU),
    "narrow uniform": uniform_law(1, CPU),
    "more values than buckets": uniform_law(40_000, CPU),
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_every_word_gives_the_number_of_thresholds_that_it_reaches(law, monkeypatch):
    at = law.thresholds.numpy()[:: max(len(law.thresholds) // 500, 1)]
    rng = np.random.default_rng(0)
    drawn = rng.integers(-(2**63), 2**63, size=4000, endpoint=False)
    some = np.concatenate([at, at - 1, at + 1, [-(2**63), 2**63 - 1], drawn])
    some = some[: len(some) // 4 * 4]
    first_bits = np.ascontiguousarray((some >> 48).astype(np.int16)).view(np.int64)
    undecided = np.isinf(law.by_bucket.numpy())[(some >> 48) + 2**15]
    supply = iter([first_bits, some[undecided]])

    def next_words(self, size, generator):
        given = next(supply)
        assert len(given) == size
        return torch.from_numpy(given.copy())

    monkeypatch.setattr(IntegerLaw, "_words", next_words)
    thresholds = law.thresholds.numpy()
    wanted = law.first + np.searchsorted(thresholds, some, side="right")
    np.testing.assert_array_equal(draws(law, len(some)).numpy(), wanted)
    assert undecided.any()


def bins(law, n_draws):
    """Edges between groups of integers with 30 expected draws or more, and their shares."""
    counts = np.diff([0, *words(law), 2**64])
    edges, shares, held = [], [], 0
    for i, count in enumerate(counts):
        held += int(count)
        if Fraction(held, 2**64) * n_draws >= 30:
            edges.append(law.first + i + 0.5)
            shares.append(held / 2**64)
            held = 0
    shares[-1] += held / 2**64
    return edges[:-1], np.array(shares)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_draws_follow_the_law(law):
    """Chi-square, at a probability of 1e-4 for a false alarm."""
    n = 1_000_000
    edges, shares = bins(law, n)
    seen = np.bincount(np.searchsorted(edges, draws(law, n).numpy()), minlength=len(shares))
    statistic = ((seen - n * shares) ** 2 / (n * shares)).sum()
    assert statistic < chi2.isf(1e-4, len(shares) - 1)
    assert len(shares) > 2


def test_draws_depend_on_the_generator_alone(monkeypatch):
    law = LAWS["gaussian"]
    whole = draws(law, 100_003)
    assert not torch.equal(draws(law, 100_003, seed=1), whole)
    monkeypatch.setattr(integer_law, "_PART_NUMBERS", 2**12)
    assert torch.equal(draws(law, 100_003), whole)
    assert torch.equal(draws(law, 3 * 7 * 11).view(3, 7, 11), _in_shape(law, 3, 7, 11))


def _in_shape(law, *shape):
    out = torch.empty(shape)
    law.fill(out, torch.Generator().manual_seed(0))
    return out


def test_neighbouring_draws_are_independent():
    """Four draws share a number of 64 bits: none may tell of another."""
    drawn = draws(LAWS["uniform"], 2**20).double() / LAWS["uniform"].first
    for lag in (1, 2, 3, 4):
        correlation = (drawn[lag:] * drawn[:-lag]).mean() * 3.0
        assert abs(correlation) < 5 / 2**10


def test_a_law_of_one_value():
    assert (draws(uniform_law(0, CPU), 10) == 0).all()
