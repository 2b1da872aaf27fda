"""What every noise must satisfy; a new noise joins the list and inherits the checks."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone

from rs4a import UnsupportedNormError
from rs4a.noises import Gaussian, Laplace, Uniform

NOISES = [
    Gaussian(sigma=0.5), Laplace(sigma=0.5), Uniform(sigma=0.5),
    Gaussian(lambd=0.5), Laplace(lambd=0.5), Uniform(lambd=0.5),
]  # fmt: skip
MARGINALS = {
    Gaussian: lambda scale: stats.norm(scale=scale),
    Laplace: lambda scale: stats.laplace(scale=scale),
    Uniform: lambda scale: stats.uniform(-scale, 2 * scale),
}


@pytest.fixture(params=NOISES, ids=str)
def noise(request):
    return request.param


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_is_a_parameter_object(noise):
    params = noise.get_params()
    assert clone(noise).get_params() == params
    assert clone(noise) is not noise
    assert pickle.loads(pickle.dumps(noise)).get_params() == params
    assert copy.deepcopy(noise).get_params() == params
    assert clone(noise).set_params(sigma=2.0, lambd=None).sigma == 2.0
    assert vars(noise) == params


def test_repr_shows_what_was_given(noise):
    given = {name: value for name, value in noise.get_params().items() if value is not None}
    arguments = ", ".join(f"{name}={value}" for name, value in given.items())
    assert repr(noise) == f"{type(noise).__name__}({arguments})"


def test_scale_and_std_are_inverse(noise):
    for dim in (1, 64, 3072):
        assert type(noise)(sigma=noise.std(dim)).scale(dim) == pytest.approx(
            noise.scale(dim)
        )


@pytest.mark.parametrize("shape", [(1000, 2), (200, 3, 8, 8), (1, 4), (0, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sample_keeps_shape_dtype_and_input(noise, shape, dtype):
    x = torch.rand(shape, generator=generator()).to(dtype)
    before = x.clone()
    noisy = noise.sample(x, generator=generator())
    assert (noisy.shape, noisy.dtype, noisy.device) == (x.shape, x.dtype, x.device)
    assert torch.equal(x, before)
    assert noisy.isfinite().all()


def test_sample_is_repeatable_and_reads_the_default_generator(noise):
    x = torch.zeros(10, 64)
    assert torch.equal(noise.sample(x, generator(3)), noise.sample(x, generator(3)))
    assert not torch.equal(noise.sample(x, generator(3)), noise.sample(x, generator(4)))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        assert torch.equal(noise.sample(x), noise.sample(x, generator(3)))


def test_sample_writes_where_it_is_told(noise):
    x = torch.rand(4, 64, generator=generator())
    out = torch.empty(4, 64)
    assert noise.sample(x, generator(1), out=out) is out
    assert torch.equal(out, noise.sample(x, generator(1)))
    with pytest.raises(ValueError, match="out must be other memory than x"):
        noise.sample(x, out=x)


def test_gradients_flow_through(noise):
    x = torch.rand(4, 64, generator=generator()).requires_grad_()
    noisy = noise.sample(x, generator(1))
    assert torch.equal(noisy, noise.sample(x.detach(), generator(1)))
    (gradient,) = torch.autograd.grad(noisy.sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


def test_sample_takes_inputs_that_share_memory(noise):
    x = torch.rand(1, 64, generator=generator())
    assert torch.equal(
        noise.sample(x.expand(50, 64), generator(1)),
        noise.sample(x.repeat(50, 1), generator(1)),
    )


@pytest.mark.parametrize("dim", [2, 64, 3072])
def test_sigma_is_the_standard_deviation(noise, dim):
    draws = noise.sample(torch.zeros(6_000_000 // dim, dim), generator(5)).double()
    assert draws.pow(2).mean().sqrt().item() == pytest.approx(noise.std(dim), rel=3e-3)
    assert draws.mean().item() == pytest.approx(0, abs=3e-3 * noise.std(dim))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_marginal_distribution(noise, dtype):
    draws = noise.sample(torch.zeros(100_000, 2, dtype=dtype), generator(7)).numpy()
    law = MARGINALS[type(noise)](noise.scale(2))
    for coordinate in draws.T:
        assert stats.kstest(coordinate, law.cdf).pvalue > 1e-4
    assert abs(stats.spearmanr(*draws.T).statistic) < 0.015  # 4.7 standard deviations


def test_radius_is_float64_of_the_same_shape(noise):
    for prob_lower in (0.7, [0.6, 0.7], np.full((2, 3), 0.9)):
        for norm in (1, 2, math.inf):
            radius = noise.radius(prob_lower, norm=norm, dim=64)
            assert radius.dtype == np.float64
            assert radius.shape == np.shape(prob_lower)


def test_guarantee_says_where_a_radius_comes_from(noise):
    for norm in (1, 2, math.inf):
        assert noise.guarantee(norm).startswith("direct") == (norm in noise.norms)


@pytest.mark.parametrize("norm", [0, 3, 1.5, "2", None, math.nan, -1])
def test_unknown_norm(noise, norm):
    with pytest.raises(UnsupportedNormError, match="norm must be 1, 2 or inf"):
        noise.radius(0.9, norm=norm, dim=64)


@pytest.mark.parametrize("prob_lower", [math.nan, -0.1, 1.1, [0.7, math.nan]])
def test_bad_probability(noise, prob_lower):
    with pytest.raises(ValueError, match=r"prob_lower must be a probability in \[0, 1\]"):
        noise.radius(prob_lower, norm=1, dim=64)


def test_float32_probability_is_refused(noise):
    with pytest.raises(ValueError, match="prob_lower must be float64"):
        noise.radius(np.float32([0.9]), norm=1, dim=64)


@pytest.mark.parametrize("dim", [0, -1, 2.5, None])
def test_bad_dim(noise, dim):
    with pytest.raises(ValueError, match="dim must be an int"):
        noise.radius(0.9, norm=1, dim=dim)


@pytest.mark.parametrize("name", ["sigma", "lambd"])
@pytest.mark.parametrize("value", [0, 0.0, -1.0, math.nan, math.inf, "0.5", [1.0]])
def test_bad_scale(noise, name, value):
    bad = type(noise)(**{name: value})
    with pytest.raises(ValueError, match=rf"{name} of \w+ must be a float in the range"):
        bad.radius(0.9, norm=1, dim=64)
    with pytest.raises(ValueError, match=f"{name} of"):
        bad.sample(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("given", "word"), [({}, "neither"), ({"sigma": 1.0, "lambd": 1.0}, "both")]
)
def test_exactly_one_of_sigma_and_lambd(noise, given, word):
    with pytest.raises(ValueError, match=f"exactly one of sigma and lambd, got {word}"):
        type(noise)(**given).scale(64)


@pytest.mark.parametrize("x", [np.zeros((2, 3)), torch.zeros(2, 3, dtype=torch.int64)])
def test_sample_refuses_what_is_no_float_tensor(noise, x):
    with pytest.raises(TypeError, match=r"x must be a floating-point torch\.Tensor"):
        noise.sample(x)


def test_laplace_draws_lie_on_a_symmetric_grid_without_the_poles():
    """Every cell of torch's uniform draw is hit at its centre: none gives infinity."""
    uniform = torch.empty(5_000_000).uniform_(-1 + 2**-24, 1, generator=generator())
    cells = uniform.double() * 2**24
    assert (cells % 2 == 1).all()
    assert cells.abs().max() < 2**24
