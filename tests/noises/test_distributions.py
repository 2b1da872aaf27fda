"""Draws have the distribution that the radii are computed for, by Kolmogorov-Smirnov."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats

from rs4a.noises import (
    Exp1,
    Exp2,
    ExpInf,
    Expp,
    Gaussian,
    Laplace,
    Pareto,
    Pow2,
    PowInf,
    Uniform,
    UniformBall,
)  # fmt: skip

DIMS = [2, 64, 3072]
SMALLEST_P_VALUE = 1e-4  # with a fixed seed: a bug, not bad luck, falls below


def draws(noise, dim, rows, dtype=torch.float32, seed=7):
    generator = torch.Generator().manual_seed(seed)
    sample = noise.sample(torch.zeros(rows, dim, dtype=dtype), generator)
    return (sample.double() / noise.scale(dim)).numpy()


def same_law(values, law):
    return stats.kstest(values, law.cdf).pvalue > SMALLEST_P_VALUE


class ParetoLaw(stats.rv_continuous):
    """Density a / 2 (1 + |x|)^-(a + 1)."""

    def _cdf(self, x, a):
        tail = 0.5 * np.exp(-a * np.log1p(np.abs(x)))
        return np.where(x > 0, 1 - tail, tail)

    def _pdf(self, x, a):
        return 0.5 * a * (1 + np.abs(x)) ** -(a + 1)


#: Noises with independent coordinates, and the law of one at unit scale.
MARGINALS = [
    (Gaussian(), stats.norm()),
    (Laplace(), stats.laplace()),
    (Uniform(), stats.uniform(-1, 2)),
    *((Pareto(a=a), ParetoLaw()(a)) for a in (2.1, 3.0, 100.0, 1e4, 1e8)),
    *((Expp(p=p), stats.gennorm(p)) for p in (0.03, 0.2, 0.5, 1, 1.5, 2, 4, 8, 50)),
]


@pytest.mark.parametrize(("noise", "law"), MARGINALS, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_marginals_of_independent_noise(noise, law, dim, dtype):
    noise = noise.set_params(sigma=0.7)
    values = draws(noise, dim, 60_000 // dim + 1, dtype)
    assert np.isfinite(values).all()
    assert same_law(values.ravel(), law)
    first, second = values.ravel()[::2], values.ravel()[1::2]
    assert abs(stats.spearmanr(first, second[: len(first)]).statistic) < 0.03


@pytest.mark.parametrize("a", [2.5, 3, 10, 100])
def test_sigma_of_pareto(a):
    second = mpmath.quad(lambda x: x**2 * a * (1 + x) ** -(a + 1), [0, 1, 10, mpmath.inf])
    assert Pareto(lambd=1.0, a=a).std(5) == pytest.approx(
        float(mpmath.sqrt(second)), rel=1e-9
    )


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 4, 50])
def test_sigma_of_expp(p):
    second, mass = (
        mpmath.quad(
            lambda x, n=n: x**n * mpmath.exp(-(x**p)), [0, 0.5, 1, 2, 10, mpmath.inf]
        )
        for n in (2, 0)
    )
    sigma = float(mpmath.sqrt(second / mass))
    assert Expp(lambd=1.0, p=p).std(5) == pytest.approx(sigma, rel=1e-6)


#: Radial noises: norm, and the law of r^power at unit scale in d coordinates.
RADIAL = [
    (lambda d: UniformBall(), 2, lambda d: (1, stats.powerlaw(d))),
    (lambda d: Exp2(k=2), 2, lambda d: (2, stats.gamma(d / 2))),
    (lambda d: Exp2(k=1, j=d - 0.5), 2, lambda d: (1, stats.gamma(0.5))),
    (lambda d: Exp2(k=100, j=d - 1), 2, lambda d: (100, stats.gamma(0.01))),
    (lambda d: Pow2(k=2, a=d / 2 + 2), 2, lambda d: (2, stats.betaprime(d / 2, 2))),
    (lambda d: Pow2(k=0.5, a=2 * d + 9), 2, lambda d: (0.5, stats.betaprime(2 * d, 9))),
    (lambda d: ExpInf(k=1), np.inf, lambda d: (1, stats.gamma(d))),
    (lambda d: ExpInf(k=2, j=d - 0.1), np.inf, lambda d: (2, stats.gamma(0.05))),
    (lambda d: PowInf(a=d + 4), np.inf, lambda d: (1, stats.betaprime(d, 4))),
    (lambda d: Exp1(k=1), 1, lambda d: (1, stats.gamma(d))),
    (lambda d: Exp1(k=10), 1, lambda d: (10, stats.gamma(d / 10))),
    (lambda d: Exp1(k=0.5), 1, lambda d: (0.5, stats.gamma(2 * d))),
]


def radial_id(index):
    return str(RADIAL[index][0](64))


@pytest.mark.parametrize("index", range(len(RADIAL)), ids=radial_id)
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_law_of_the_norm(index, dim, dtype):
    make, norm, make_law = RADIAL[index]
    power, law = make_law(dim)
    values = draws(make(dim).set_params(sigma=0.7), dim, 2000, dtype)
    norms = np.linalg.norm(values, ord=norm, axis=1)
    # float32 has no room for the smallest norms of a pole, which are small powers.
    kept = norms > 1e-30
    assert kept.mean() > 0.8
    with np.errstate(under="ignore"):
        uniforms = law.cdf(norms**power)
    assert (
        stats.kstest(uniforms[kept], stats.uniform(1 - kept.mean(), kept.mean()).cdf).pvalue
        > SMALLEST_P_VALUE
    )


@pytest.mark.parametrize("index", range(len(RADIAL)), ids=radial_id)
@pytest.mark.parametrize("dim", DIMS)
def test_directions_are_uniform_on_the_sphere(index, dim):
    make, norm, _ = RADIAL[index]
    values = draws(make(dim).set_params(sigma=0.7), dim, 2000, torch.float64)
    directions = values / np.linalg.norm(values, ord=norm, axis=1, keepdims=True)
    one = directions[:, 0]
    assert abs(np.mean(one > 0) - 0.5) < 0.05
    if norm == 2:
        assert same_law(one**2, stats.beta(0.5, (dim - 1) / 2))
    elif norm == 1:
        assert same_law(np.abs(one), stats.beta(1, dim - 1))
    else:
        face = np.abs(directions).argmax(axis=1)
        assert same_law(
            (face + np.random.default_rng(0).random(2000)) / dim, stats.uniform()
        )
        inside = one[face != 0]
        assert same_law(inside, stats.uniform(-1, 2))
        sides = np.take_along_axis(directions, face[:, None], axis=1)
        assert abs(np.mean(sides > 0) - 0.5) < 0.05


@pytest.mark.parametrize("index", range(len(RADIAL)), ids=radial_id)
@pytest.mark.parametrize("dim", [*DIMS, 150_528])
def test_sigma_of_radial_noise(index, dim):
    """From E r^2 of the radial law, by scipy, and E u_1^2 of the sphere."""
    make, norm, make_law = RADIAL[index]
    power, law = make_law(dim)
    square = {1: 2 / (dim * (dim + 1)), 2: 1 / dim, np.inf: (dim + 2) / (3 * dim)}[norm]
    noise = make(dim).set_params(lambd=1.0)
    levels = (np.arange(50_000) + 0.5) / 50_000
    mean = (law.ppf(levels) ** (2 / power)).mean()
    heavy = isinstance(noise, (Pow2, PowInf))
    assert noise.std(dim) == pytest.approx(
        math.sqrt(mean * square), rel=0.02 if heavy else 1e-3
    )


def test_small_shapes_do_not_underflow():
    """42 % of the paper's radii stick to the smallest float here."""
    noise = Exp2(sigma=1.0, k=100, j=3071)
    norms = np.linalg.norm(draws(noise, 3072, 500), axis=1)
    assert len(np.unique(norms)) == 500
    assert np.mean(norms > 1e-30) == 1.0


def test_tails_of_pareto_noise_are_finer_than_the_grid_of_uniform_draws():
    """Plain inversion of float32 uniforms has eight values beyond 100 for a = 3."""
    generator = torch.Generator().manual_seed(0)
    values = Pareto(lambd=1.0, a=3).sample(torch.zeros(600, 50_000), generator).abs()
    tail = values[values > 100]
    assert stats.binomtest(len(tail), values.numel(), 101.0**-3).pvalue > SMALLEST_P_VALUE
    assert len(tail.unique()) > 0.9 * len(tail) > 18


def test_laplace_draws_lie_on_a_symmetric_grid_without_the_poles():
    """Every cell of torch's uniform draw is hit at its centre: none gives infinity."""
    generator = torch.Generator().manual_seed(0)
    uniform = torch.empty(5_000_000).uniform_(-1 + 2**-24, 1, generator=generator)
    cells = uniform.double() * 2**24
    assert (cells % 2 == 1).all()
    assert cells.abs().max() < 2**24
