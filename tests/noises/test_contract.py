"""Every noise of the library runs through the contract, and refuses bad parameters."""

import math

import numpy as np
import pytest
import torch

from rs4a.noises import (
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
from rs4a.testing import NoiseContract

NOISES = [
    Gaussian(sigma=0.5), Laplace(sigma=0.5), Uniform(sigma=0.5),
    Gaussian(lambd=0.5), Laplace(lambd=0.5), Uniform(lambd=0.5),
    Pareto(sigma=0.5, a=3), Pareto(lambd=0.5, a=20),
    Expp(sigma=0.5, p=0.5), Expp(sigma=0.5, p=1), Expp(sigma=0.5, p=2),
    Expp(lambd=1.0, p=8),
    UniformBall(sigma=0.5), UniformBall(lambd=2.0),
    Exp2(sigma=0.5), Exp2(sigma=0.5, k=1, j=0.5), Exp2(lambd=0.5, k=4),
    Pow2(sigma=0.5, a=3140 / 2), Pow2(lambd=1.5, a=4000, k=1),
    ExpInf(sigma=0.5), ExpInf(sigma=0.5, k=2, j=0.5), ExpInf(lambd=0.5, k=0.5),
    PowInf(sigma=0.5, a=3140), PowInf(lambd=1.5, a=4000),
    Exp1(sigma=0.5), Exp1(sigma=0.5, k=10), Exp1(lambd=0.5, k=0.5),
]  # fmt: skip


class TestNoises(NoiseContract):
    @pytest.fixture(params=NOISES, ids=str)
    def noise(self, request):
        return request.param


BAD = [
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
