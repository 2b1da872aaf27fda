"""Splitting noise: its definition in exact arithmetic, templates, and what is refused."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from rs4a.noises import Splitting
from rs4a.noises.splitting import _quotient_rounded_down
from rs4a.testing import NoiseContract, generator

LEVELS = 8
#: lambda / (1 / 16): 2 lambda is below, at and above 1 for LEVELS steps.
N_VIEWS = [1, 3, 5, 8, 9, 13]


def deterministic(n_views, seed=0, levels=LEVELS):
    """Noise with that many views."""
    return Splitting(lambd=n_views / (2 * levels), levels=levels, seed=seed)


def all_views(noise, x):
    x = torch.as_tensor(x, dtype=torch.float32)
    out = torch.empty(noise.n_views(len(x)), *x.shape)
    noise.viewer(x.numel(), torch.float32)(x, 0, out)
    return out


def centre(x, cut, width):
    """Centre of the part inside [0, 1] of the left-open cell that x lies in, exactly."""
    k = math.ceil((x - cut) / width)
    low, high = cut + (k - 1) * width, cut + k * width
    assert low < x <= high
    return (max(low, Fraction(0)) + min(high, Fraction(1))) / 2


class TestIndependent(NoiseContract):
    @pytest.fixture(
        params=[
            Splitting(sigma=0.5, deterministic=False),
            Splitting(lambd=0.2, deterministic=False),
            Splitting(lambd=3.0, deterministic=False),
        ],
        ids=str,
    )
    def noise(self, request):
        return request.param

    def test_has_the_radii_of_uniform_noise(self, noise):
        prob = np.array([0.5, 0.6, 0.9, 1.0])
        np.testing.assert_allclose(
            noise.radius(prob, 1, 64), 2 * noise.scale(64) * (prob - 0.5), rtol=1e-12
        )


class TestDeterministic(NoiseContract):
    dtypes = (torch.float32, torch.float64)

    @pytest.fixture(
        params=[
            Splitting(sigma=0.5, seed=3),
            Splitting(lambd=0.2, levels=100, seed=0),
            Splitting(lambd=3.0, levels=16, seed=1),
        ],
        ids=str,
    )
    def noise(self, request):
        self.levels = request.param.levels
        return request.param

    def inputs(self, *shape, dtype=torch.float32):
        steps = torch.randint(self.levels + 1, shape, generator=generator(0))
        return steps.to(dtype) / self.levels

    def test_soft_radius_is_the_radius_and_grows(self, noise):
        """Up to the two steps by which whole numbers of votes and of views round."""
        prob = torch.linspace(0.51, 1.0, 50, dtype=torch.float64)
        soft = noise.soft_radius(prob, 1 - prob, dim=64).numpy()
        exact = noise.radius(prob.numpy(), 1, 64)
        assert (np.abs(exact - soft) <= 2 / noise.levels).all()


# The definition


@pytest.mark.parametrize("n_views", N_VIEWS)
def test_views_are_those_of_the_definition(n_views):
    noise, dim = deterministic(n_views, seed=5), 6
    x = np.array([0, 1, 3, 4, 7, 8]) / LEVELS
    views = all_views(noise, x)
    template = np.random.RandomState(5).randint(n_views, size=dim, dtype=np.int64)
    width = Fraction(n_views, LEVELS)
    for offset, i in itertools.product(range(n_views), range(dim)):
        cut = (Fraction(int((template[i] + offset) % n_views)) + Fraction(1, 2)) / LEVELS
        wanted = centre(Fraction(x[i]), cut, width)
        assert float(views[offset, i]) == pytest.approx(float(wanted), abs=1e-7)
        if n_views >= LEVELS:  # the other way to say it
            above = Fraction(int(Fraction(x[i]) > cut))
            assert wanted == (above + min(cut, 1)) / 2


@pytest.mark.parametrize("lambd", [0.05, 0.3, 0.5, 2.0])
def test_independent_views_are_those_of_the_definition(lambd):
    noise = Splitting(lambd=lambd, deterministic=False)
    x = torch.rand(4000, 2, generator=generator(1))
    views = noise.sample(x, generator(2))
    cuts = torch.empty_like(x).uniform_(0, 2 * lambd, generator=generator(2))
    for value, cut, view in zip(
        x[:, 0].tolist(), cuts[:, 0].tolist(), views[:, 0].tolist(), strict=True
    ):
        wanted = centre(Fraction(value), Fraction(cut), Fraction(2 * lambd))
        assert view == pytest.approx(float(wanted), abs=1e-6)


def test_independent_cuts_part_two_inputs_as_often_as_they_are_apart():
    n, lambd = 200_000, 0.4
    noise = Splitting(lambd=lambd, deterministic=False)
    for low, high in [(0.0, 0.1), (0.3, 0.75), (0.9, 1.0)]:
        views = [
            noise.sample(torch.full((n, 1), x), generator(3)).squeeze(1)
            for x in (low, high)
        ]
        share = (views[0] != views[1]).double().mean().item()
        assert share == pytest.approx((high - low) / (2 * lambd), abs=5 * 0.5 / n**0.5)


@pytest.mark.parametrize("n_views", N_VIEWS)
def test_a_change_by_k_steps_changes_k_views(n_views):
    """Each cut passes through every place once: the heart of the proof."""
    noise = deterministic(n_views, seed=7)
    values = np.arange(LEVELS + 1) / LEVELS
    views = [all_views(noise, np.full(3, value)) for value in values]
    for a, b in itertools.combinations(range(LEVELS + 1), 2):
        changed = (views[a] != views[b]).sum(dim=0)
        assert changed.tolist() == [min(b - a, n_views)] * 3


def test_views_in_one_cell_are_equal_to_the_last_bit():
    noise = Splitting(sigma=0.2, seed=0)
    x = torch.arange(256).repeat(4, 1).T / 255
    steps = torch.arange(256, dtype=torch.float64)
    n_views = noise.n_views(4)
    template = np.random.RandomState(0).randint(n_views, size=4, dtype=np.int64)
    views = torch.stack([all_views(noise, row) for row in x])
    for offset in range(0, n_views, 7):
        for i in range(4):
            cut = (template[i] + offset) % n_views + 0.5
            cells = torch.ceil((steps - cut) / n_views)
            for cell in cells.unique():
                assert len(views[cells == cell, offset, i].unique()) == 1


def test_samples_are_the_views_each_as_often():
    noise = deterministic(5, seed=2)
    x = torch.tensor([0.0, 0.25, 0.5, 1.0])
    drawn, counts = noise.sample(x.expand(50_000, 4), generator(0)).unique(
        dim=0, return_counts=True
    )
    assert torch.equal(drawn, all_views(noise, x).unique(dim=0))
    assert ((counts - 10_000).abs() < 5 * 90).all()


def test_image_and_vector_have_the_same_views():
    noise = Splitting(sigma=0.5, seed=2)
    x = torch.randint(256, (3, 4, 4), generator=generator(0)) / 255
    assert torch.equal(all_views(noise, x).flatten(1)[:441], all_views(noise, x.flatten()))


def test_views_may_be_taken_in_parts():
    noise = Splitting(sigma=0.5, seed=2)
    x = torch.randint(256, (16,), generator=generator(0)) / 255
    whole = all_views(noise, x)
    part = torch.empty(10, 16)
    noise.viewer(16, torch.float32)(x, 100, part)
    assert torch.equal(part, whole[100:110])


def test_template_stays_the_same():
    """Numbers that were saved with a net last year."""
    noise = Splitting(lambd=0.5, levels=10, seed=42)
    assert noise._template(8, torch.float32).tolist() == [6, 3, 7, 4, 6, 9, 2, 6]


@pytest.mark.parametrize("lambd", [0.1, 0.2, 0.3, 0.7, 1.1])
def test_a_lambda_that_means_a_whole_number_of_views_gives_it(lambd):
    assert Splitting(lambd=lambd, levels=255).n_views(3) == round(510 * lambd)
    below = lambd - 1e-6
    assert Splitting(lambd=below, levels=255).n_views(3) == round(510 * lambd) - 1


# Radii


@pytest.mark.parametrize("levels", [3, 10, 16, 100, 255, 65535])
def test_radii_are_rounded_down_and_no_further(levels):
    steps = np.arange(0, 3 * levels, max(1, levels // 300))
    for k, radius in zip(
        steps.tolist(), _quotient_rounded_down(steps, levels), strict=True
    ):
        assert Fraction(radius) <= Fraction(k, levels)
        assert Fraction(np.nextafter(radius, np.inf)) > Fraction(k, levels)


@pytest.mark.parametrize(
    ("votes", "steps"),
    [
        ([8, 0], 4), ([0, 8], 3), ([7, 1], 3), ([1, 7], 2), ([4, 4], 0), ([5, 3], 1),
        ([3, 5], 0), ([6, 1, 1], 2), ([1, 1, 6], 2), ([2, 5, 1], 1), ([2, 2, 4], 0),
        ([3, 2, 3], 0),
    ],
)  # fmt: skip
def test_exact_radius_is_half_the_margin(votes, steps):
    """A tie goes to the smaller class, for it and against it."""
    noise = deterministic(8)
    counts = np.array([votes])
    radius = noise.exact_radius(counts, counts.argmax(axis=1), 1, 3)
    np.testing.assert_array_equal(radius, [steps / LEVELS])


def test_radii_in_other_norms_follow_from_l1():
    noise, counts, columns = deterministic(8), np.array([[8, 0]]), np.array([0])
    for norm, factor in ((2, 1 / 3), (math.inf, 1 / 9)):
        (radius,) = noise.exact_radius(counts, columns, norm, dim=9)
        assert 0.5 * factor * (1 - 1e-12) < radius < 0.5 * factor


def test_radius_of_a_share_is_that_of_the_least_votes_that_it_means():
    noise = deterministic(9)
    for votes in range(5, 10):
        counts = np.array([[9 - votes, votes]])
        exact = noise.exact_radius(counts, np.array([1]), 1, 3)
        np.testing.assert_allclose(noise.radius([votes / 9], 1, 3), exact, rtol=1e-12)
        assert noise.radius(votes / 9, 1, 3) <= exact[0]


def test_a_bound_on_the_runner_up_is_for_votes_that_are_drawn():
    """Shares that are no whole votes could be rounded up to a radius that is too large."""
    with pytest.raises(ValueError, match="prob_runner_up needs noise with a two-bound"):
        deterministic(5).radius(0.6, 1, 4, prob_runner_up=0.2)
    both = Splitting(lambd=1.0, deterministic=False).radius(0.6, 1, 4, prob_runner_up=0.2)
    assert both == pytest.approx(0.4, rel=1e-12)


# What is refused


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "0", True])
def test_seed_is_checked(seed):
    with pytest.raises(ValueError, match="seed of Splitting must be an int"):
        Splitting(sigma=0.5, seed=seed).scale(4)


@pytest.mark.parametrize("levels", [0, -1, 2.5, None, 2**16, True])
def test_levels_are_checked(levels):
    with pytest.raises(
        ValueError, match=r"levels of Splitting must be an int in .*255 for"
    ):
        Splitting(sigma=0.5, levels=levels).scale(4)


def test_deterministic_is_a_bool():
    with pytest.raises(
        ValueError, match="deterministic of Splitting must be True or False"
    ):
        Splitting(sigma=0.5, deterministic="no").scale(4)


@pytest.mark.parametrize("sigma", [1e-4, 1e6])
def test_there_is_a_view_and_not_too_many(sigma):
    with pytest.raises(ValueError, match="must be from 1 to"):
        Splitting(sigma=sigma, seed=0).sample(torch.zeros(2, 4))


def test_without_a_seed_there_is_no_template():
    with pytest.raises(ValueError, match="seed of Splitting.* must be given"):
        Splitting(sigma=0.5).sample(torch.zeros(2, 4))


@pytest.mark.parametrize("value", [-0.01, 1.01, math.nan])
@pytest.mark.parametrize(
    "noise", [Splitting(sigma=1, seed=0), Splitting(1, deterministic=False)]
)
def test_inputs_lie_in_the_range_that_is_cut(noise, value):
    with pytest.raises(ValueError, match=r"X must lie in \[0, 1\] for Splitting"):
        noise.sample(torch.full((2, 3), value))


def test_inputs_lie_on_the_grid():
    noise = Splitting(sigma=1, seed=0)
    noise.sample(torch.arange(256).view(-1, 1).double().div(255).float())
    noise.sample(torch.arange(256).view(-1, 1).float().mul(1 / 255))
    with pytest.raises(ValueError, match=r"multiples of 1/255 .* got 0.5\. .*levels=16,"):
        noise.sample(torch.tensor([[0.0, 0.5, 3 / 16]]))
    with pytest.raises(ValueError, match=r"multiples of 1/255 .* got 0.123.*round X"):
        noise.sample(torch.tensor([[0.123, 0.2718]]))


@pytest.mark.parametrize("levels", [16, 255, 65535])
def test_values_off_the_grid_are_told_from_rounded_ones(levels):
    noise = Splitting(sigma=1, levels=levels, seed=0)
    steps = torch.arange(levels + 1)
    for x in (
        steps.double() / levels,
        steps.float() / levels,
        steps.float() * (1 / levels),
    ):
        noise.check_inputs(x.float())
    for share in (0.01, 0.5):
        with pytest.raises(ValueError, match="X must lie on the grid"):
            noise.check_inputs(((steps[1:2] + share) / levels).float())


def test_half_precision_has_no_grid():
    with pytest.raises(ValueError, match=r"float32 or float64 .* got torch\.float16"):
        Splitting(sigma=1, seed=0).sample(torch.zeros(2, 3, dtype=torch.float16))


def test_independent_views_need_no_grid():
    Splitting(1, deterministic=False).sample(torch.full((2, 3), 0.123))


# Which template


def random_state():
    return np.random.RandomState(0)


def test_fit_draws_a_seed_once():
    noise = Splitting(sigma=1)
    fixed = noise.fixed(random_state())
    assert noise.seed is None
    assert isinstance(fixed.seed, int)
    assert fixed.fixed(random_state()) is fixed
    independent = Splitting(1, deterministic=False)
    assert independent.fixed(random_state()) is independent


def test_template_of_a_trained_net_is_taken_over():
    under = Splitting(sigma=1, seed=7)
    assert Splitting(sigma=1).fixed(None, under).seed == 7
    assert Splitting(sigma=1, seed=7).fixed(random_state(), under).seed == 7


@pytest.mark.parametrize(
    "other",
    [
        Splitting(sigma=1, seed=8),
        Splitting(sigma=2),
        Splitting(1, levels=16),
        Splitting(lambd=441 / 255, levels=100),
    ],
)
def test_another_template_than_that_of_the_net_is_refused(other):
    with pytest.raises(ValueError, match="the template that the net was trained under"):
        other.fixed(None, Splitting(sigma=1, seed=7))


def test_unknown_template_of_a_trained_net_is_asked_for():
    with pytest.raises(ValueError, match=r"seed of .* must be that of the template"):
        Splitting(sigma=1).fixed(None)
    assert Splitting(sigma=1, seed=3).fixed(None).seed == 3
