"""Every noise of the library runs through the contract, and refuses bad parameters."""

import math

import numpy as np
import pytest
import torch

from rs4a.noises import (
    AdditiveNoise,
    Clean,
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
from rs4a.testing import AdditiveNoiseContract, all_noises

ADDED = [each for each in all_noises() if isinstance(each, AdditiveNoise)]
NOISES = [
    *(noise for noise in ADDED if not isinstance(noise, Clean)),
    Gaussian(lambd=0.5), Laplace(lambd=0.5), Uniform(lambd=0.5), UniformBall(lambd=2.0),
    Pareto(lambd=0.5, a=20), Expp(sigma=0.5, p=0.5), Expp(sigma=0.5, p=1),
    Expp(lambd=1.0, p=8), Exp2(sigma=0.5, k=1, j=0.5), Exp2(lambd=0.5, k=4),
    Pow2(lambd=1.5, k=1), Pow2(lambd=1.5, a=4000, k=1), ExpInf(sigma=0.5, k=2, j=0.5),
    ExpInf(lambd=0.5, k=0.5), PowInf(lambd=1.5), PowInf(sigma=0.5, a=3140),
    Exp1(sigma=0.5, k=10), Exp1(lambd=0.5, k=0.5),
]  # fmt: skip


class TestNoises(AdditiveNoiseContract):
    @pytest.fixture(params=NOISES, ids=str)
    def noise(self, request):
        return request.param


@pytest.mark.parametrize("kind", [type(noise) for noise in all_noises()])
def test_shapes_have_defaults_that_work_in_every_dimension(kind):
    """Only the scale is to be given, or set, as a search does."""
    noise = kind()
    if noise.deterministic:
        noise.set_params(deterministic=False)
    noise.set_params(sigma=0.25)
    for dim in (2, 3, 10, 784, 150_528):
        radius = noise.radius([0.5, 0.99], norm=noise.norms[0], dim=dim)
        assert radius[0] == 0.0
        assert (radius[1] > 0.0) == (kind is not Clean)
        assert noise.sample(torch.full((2, dim), 0.5)).isfinite().all()


@pytest.mark.parametrize("dim", [2, 64, 3072])
def test_default_exponents_are_those_that_are_documented(dim):
    for default, given in (
        (Pow2(sigma=1.0), Pow2(sigma=1.0, a=(dim + 16) / 2)),
        (Pow2(sigma=1.0, k=5), Pow2(sigma=1.0, k=5, a=(dim + 16) / 5)),
        (PowInf(sigma=1.0), PowInf(sigma=1.0, a=dim + 10)),
    ):
        assert default.scale(dim) == given.scale(dim)
        for norm in (1, 2, math.inf):
            radii = [noise.radius([0.6, 0.999], norm, dim) for noise in (default, given)]
            np.testing.assert_array_equal(*radii)


BAD = [
    (Pow2(sigma=1, a="5"), "a of Pow2.* got '5'"),
    (Pow2(sigma=1, k=0), "k of Pow2"),
    (Pareto(sigma=1, a=2), r"a of Pareto .* range \(2, inf\), got 2: the variance"),
    (Pareto(lambd=1, a=2), "a of Pareto"),
    (Pareto(sigma=1, a=math.inf), "a of Pareto"),
    (Pareto(sigma=1, a=None), "a of Pareto .* got None"),
    (Expp(sigma=1, p=0), r"p of Expp .* range \[0.01, inf\), got 0"),
    (Expp(sigma=1, p=math.nan), "p of Expp .* got nan"),
    (Exp2(sigma=1, k=0), r"k of Exp2 .* range \(0, inf\), got 0: there is no density"),
    (Exp2(sigma=1, j=64), r"j of Exp2 in 64 coordinates .* range \[0, 64\), got 64"),
    (Exp2(lambd=1, j=-1), "j of Exp2"),
    (Exp2(sigma=1, j="1"), "j of Exp2 .* got '1'"),
    (Pow2(sigma=1, a=33), r"a of Pow2\(k=2.0\) in 64 coordinates .* \(33, inf\), got 33"),
    (Pow2(sigma=1, a=40, k=0), "k of Pow2"),
    (ExpInf(sigma=1, k=-1), "k of ExpInf"),
    (ExpInf(sigma=1, j=64), r"j of ExpInf in 64 coordinates .* range \[0, 64\)"),
    (PowInf(sigma=1, a=66), r"a of PowInf in 64 coordinates .* range \(66, inf\), got 66"),
    (Exp1(sigma=1, k=0), r"k of Exp1 .* range \(0, inf\), got 0"),
    (Exp1(sigma=1, k=0.001), "sigma / lambd = inf .* which float64 cannot hold"),
]


@pytest.mark.parametrize(("noise", "message"), BAD, ids=str)
def test_bad_shapes_are_refused_at_use_with_the_range(noise, message):
    for use in (
        lambda: noise.scale(64),
        lambda: noise.std(64),
        lambda: noise.radius(0.9, norm=1, dim=64),
        lambda: noise.sample(torch.zeros(2, 64)),
    ):
        with pytest.raises(ValueError, match=message):
            use()


@pytest.mark.parametrize("noise", [Exp2(sigma=1), Pow2(sigma=1, a=5)], ids=str)
def test_level_sets_need_two_coordinates(noise):
    with pytest.raises(ValueError, match=r"dim for \w+ .* range \[2, inf\), got 1"):
        noise.radius(0.9, norm=2, dim=1)


def test_clean_adds_nothing_and_certifies_nothing():
    x = torch.rand(5, 3, 4, 4)
    for noise in (Clean(), Clean(sigma=0.5), Clean(lambd=2.0)):
        assert torch.equal(noise.sample(x), x)
        assert noise.scale(48) == noise.std(48) == 0.0
        for norm in (1, 2, math.inf):
            radius = noise.radius([0.1, 0.9, 1.0], norm=norm, dim=48)
            np.testing.assert_array_equal(radius, 0.0)


def test_shapes_show_in_the_repr():
    assert repr(Exp2(sigma=0.5, j=3)) == "Exp2(j=3, sigma=0.5)"
    assert repr(PowInf(0.5, a=100)) == "PowInf(a=100, sigma=0.5)"


SHAPES = [
    (Pareto, {"a": 3.3}), (Expp, {"p": 0.7}), (Exp2, {"k": 1.1, "j": 50.3}),
    (Pow2, {"k": 1.9, "a": 36.7}), (ExpInf, {"k": 1.1, "j": 50.3}), (PowInf, {"a": 70.1}),
    (Exp1, {"k": 10.1}),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "params"), SHAPES, ids=lambda value: str(value)[-30:])
def test_numpy_parameters_are_computed_with_in_float64(shape, params):
    narrow = {name: np.float32(value) for name, value in params.items()}
    wide = {name: float(value) for name, value in narrow.items()}
    rho = [0.6, 0.9, 1 - 1e-9]
    of_narrow, of_wide = (shape(sigma=1.0, **given) for given in (narrow, wide))
    for norm in (1, 2, math.inf):
        radius = of_narrow.radius(rho, norm=norm, dim=64)
        np.testing.assert_array_equal(radius, of_wide.radius(rho, norm=norm, dim=64))
    assert of_narrow.scale(64) == of_wide.scale(64)


def test_out_must_be_like_x_and_other_memory():
    noise, x = Gaussian(sigma=1.0), torch.zeros(4, 6)
    for out in (x, x[:], x.view_as(x), x.detach()):
        with pytest.raises(ValueError, match="out must be other memory than x"):
            noise.sample(x, out=out)
    for out in (torch.zeros(4, 5), torch.zeros(4, 6, dtype=torch.float64)):
        with pytest.raises(ValueError, match="out must be like x"):
            noise.sample(x, out=out)
    with pytest.raises(ValueError, match="x must have a first axis"):
        noise.sample(torch.tensor(1.0))


def test_a_scale_beyond_float64_is_refused():
    with pytest.raises(ValueError, match="sigma of Gaussian must be a float in the range"):
        Gaussian(sigma=10**400).scale(3)


@pytest.mark.slow
@pytest.mark.parametrize("k", [pytest.param(300, marks=pytest.mark.slow), 1e4])
@pytest.mark.parametrize(
    ("dim", "beyond"), [(64, 8), pytest.param(24, 8, marks=pytest.mark.slow), (10, 2.5)]
)
def test_no_half_space_refutes_pow2_with_a_large_exponent(k, dim, beyond):
    """The upper tail of its norm to the power k leaves float64 by far."""
    contract = AdditiveNoiseContract()
    contract.dims = (dim,)
    noise = Pow2(sigma=1.0, k=k, a=(dim + beyond) / k)
    contract.test_no_half_space_refutes_the_radius(noise, 2.0)
    contract.test_radius_grows_with_the_probability(noise, 2.0)
