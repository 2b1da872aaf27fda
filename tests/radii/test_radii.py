"""Radii of Gaussian, Laplace and Uniform noise against references of 20 digits."""

import json
import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs4a import noises, radii
from rs4a.noises import Gaussian, Laplace, Uniform

REFERENCE = json.loads(
    (Path(__file__).parents[1] / "data/reference_radii.json").read_text()
)
SHAPES = [Gaussian, Laplace, Uniform]
NORMS = [1, 2, math.inf]

probabilities = st.floats(0.5, 1.0, exclude_max=True)


@pytest.mark.parametrize(
    "record", REFERENCE, ids=lambda r: f"{r['noise']}-d{r['dim']}-l{r['norm']}"
)
def test_reference(record):
    noise = getattr(noises, record["noise"])(sigma=record["sigma"], **record["params"])
    rho = np.array(record["rho"], dtype=float)
    got = noise.radius(rho, norm=float(record["norm"]), dim=record["dim"])
    with mpmath.workdps(30):
        truth = [mpmath.mpf(value) for value in record["radius_at_float64_rho"]]
        for value, true in zip(got.tolist(), truth, strict=True):
            assert value <= true
            assert true - mpmath.mpf(value) <= mpmath.mpf("1e-9") * true


def laplace_linf_by_the_book(rho, dim):
    """Integral of dp / Phi(p) piece by piece, in 60-digit arithmetic."""
    p0 = 1 - mpmath.mpf(rho)
    weights = [mpmath.binomial(dim, m) / mpmath.mpf(2) ** dim for m in range(dim + 1)]
    mass = {dim + 1: mpmath.mpf(0)}
    for m in range(dim, -1, -1):
        mass[m] = mass[m + 1] + weights[m]
    total = mpmath.mpf(0)
    for m in range(dim + 1):
        low, high = max(mass[m + 1], p0), min(mass[m], mpmath.mpf("0.5"))
        if low >= high:
            continue
        slope = 2 * m - dim

        def phi(p, m=m, slope=slope):
            return m * weights[m] - slope * (mass[m] - p)

        if slope:
            total += mpmath.log(phi(high) / phi(low)) / slope
        else:
            total += (high - low) / phi(low)
    return total


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 7, 64, 301])
def test_laplace_linf_is_the_integral(dim):
    rho = 1 - np.concatenate([0.5 - np.logspace(-9, -1, 5), np.logspace(-14, -0.4, 12)])
    got = radii.laplace_linf(rho, dim)
    with mpmath.workdps(60):
        for value, p in zip(got.tolist(), rho.tolist(), strict=True):
            true = laplace_linf_by_the_book(p, dim)
            assert 0 <= (true - mpmath.mpf(value)) / true <= mpmath.mpf("1e-10")


TRUTHS = {
    ("Gaussian", 2): lambda rho, d: mpmath.sqrt(2) * mpmath.erfinv(2 * rho - 1),
    ("Laplace", 1): lambda rho, d: -mpmath.log(2 * (1 - rho)) / mpmath.sqrt(2),
    ("Uniform", 1): lambda rho, d: 2 * (rho - 0.5) * mpmath.sqrt(3),
    ("Uniform", math.inf): lambda rho, d: (
        2 * mpmath.sqrt(3) * (1 - (mpmath.mpf(1.5) - rho) ** (mpmath.mpf(1) / d))
    ),
}


@pytest.mark.parametrize(("name", "norm"), TRUTHS)
@given(rho=probabilities, dim=st.sampled_from([2, 64, 3072, 150_528]))
def test_closed_forms_never_exceed_the_truth(name, norm, rho, dim):
    got = float(getattr(noises, name)(sigma=1.0).radius(rho, norm=norm, dim=dim))
    with mpmath.workdps(60):
        true = TRUTHS[name, norm](mpmath.mpf(rho), dim)
        assert got <= true
        assert true - got <= mpmath.mpf("1e-12") * true


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", NORMS)
@given(rho=st.lists(probabilities, min_size=2, max_size=20), dim=st.integers(1, 5000))
def test_monotone_in_the_probability(shape, norm, rho, dim):
    radius = shape(sigma=1.0).radius(np.sort(rho), norm=norm, dim=dim)
    assert (np.diff(radius) >= -1e-11 * radius[1:]).all()


@pytest.mark.parametrize("shape", SHAPES)
@given(rho=probabilities, sigma=st.floats(1e-3, 1e3), dim=st.integers(1, 5000))
def test_scale_equivariance(shape, rho, sigma, dim):
    for norm in NORMS:
        unit = shape(sigma=1.0).radius(rho, norm=norm, dim=dim)
        assert shape(sigma=sigma).radius(rho, norm=norm, dim=dim) == pytest.approx(
            sigma * unit, rel=1e-12
        )


@pytest.mark.parametrize("shape", SHAPES)
@given(rho=probabilities, dim=st.integers(1, 5000))
def test_larger_norms_have_smaller_radii(shape, rho, dim):
    noise = shape(sigma=1.0)
    l1, l2, linf = (float(noise.radius(rho, norm=norm, dim=dim)) for norm in NORMS)
    assert l1 >= l2 * (1 - 1e-12)
    assert l2 >= linf * (1 - 1e-12)
    # A ball of a larger norm lies in the d^(1/p - 1/q) times larger one of a smaller.
    assert linf >= l2 / math.sqrt(dim) * (1 - 1e-10)
    assert l2 >= l1 / math.sqrt(dim) * (1 - 1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", NORMS)
def test_nothing_is_certified_up_to_one_half(shape, norm):
    radius = shape(sigma=1.0).radius([0.0, 0.3, 0.5], norm=norm, dim=64)
    np.testing.assert_array_equal(radius, 0.0)
    assert not np.signbit(radius).any()
    assert shape(sigma=1.0).radius(0.5 + 1e-9, norm=norm, dim=64) > 0


@pytest.mark.parametrize("shape", [Gaussian, Laplace])
@pytest.mark.parametrize("norm", NORMS)
def test_certainty_certifies_everything_under_unbounded_noise(shape, norm):
    assert shape(sigma=1.0).radius(1.0, norm=norm, dim=64) == math.inf


@pytest.mark.parametrize("norm", NORMS)
def test_certainty_under_uniform_noise(norm):
    lambd = 0.7
    largest = {1: lambd, 2: lambd / 8, math.inf: 2 * lambd * (1 - 0.5 ** (1 / 64))}
    radius = Uniform(lambd=lambd).radius(1.0, norm=norm, dim=64)
    assert radius == pytest.approx(largest[norm], rel=1e-12)


def test_conversion_factors():
    assert radii.conversion_factor(2, 1, 64) == 1.0
    assert radii.conversion_factor(1, 2, 64) == pytest.approx(1 / 8)
    assert radii.conversion_factor(1, math.inf, 64) == pytest.approx(1 / 64)
    assert radii.conversion_factor(2, math.inf, 64) == pytest.approx(1 / 8)
    assert radii.conversion_factor(math.inf, 1, 64) == 1.0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", NORMS)
def test_radius_holds_by_neyman_pearson_on_a_grid(shape, norm):
    """Worst class-A mass after the shift, in d = 2, computed from the densities alone."""
    noise = shape(lambd=1.0)
    n, width = 801, {Gaussian: 7.0, Laplace: 14.0, Uniform: 2.5}[shape]
    axis = np.linspace(-width, width, n)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    density = {
        Gaussian: lambda x: np.exp(-0.5 * (x**2).sum(-1)),
        Laplace: lambda x: np.exp(-np.abs(x).sum(-1)),
        Uniform: lambda x: (np.abs(x).max(-1) <= 1).astype(float),
    }[shape]
    here = density(grid).ravel()
    here /= here.sum()
    for rho in (0.6, 0.9):
        radius = float(noise.radius(rho, norm=norm, dim=2))
        for direction in np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 0.4]]):
            shift = radius * direction / np.linalg.norm(direction, norm)
            there = density(grid - shift).ravel()
            there /= there.sum()
            ratio = np.divide(there, here, out=np.full_like(here, np.inf), where=here > 0)
            order = np.argsort(ratio)  # class A lies where the shifted noise is rare
            inside = np.cumsum(here[order]) <= rho
            assert there[order][inside].sum() >= 0.5 - 0.01
