"""Exact noise: a function of integers, with radii that hold for each pair of them."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from conftest import make_net
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.metrics import make_certified_scorer
from rs4a.noises import Gaussian, Uniform
from rs4a.noises.integer_law import IntegerLaw, gaussian_support
from rs4a.testing import NoiseContract

CPU = torch.device("cpu")
FULL = torch.float32, torch.float64
NOISES = [
    Gaussian(sigma=0.5, exact=True, levels=256), Gaussian(lambd=0.5, exact=True, levels=16),
    Uniform(sigma=0.5, exact=True, levels=256), Uniform(lambd=0.5, exact=True, levels=16),
]  # fmt: skip


def generator(seed):
    return torch.Generator().manual_seed(seed)


def on_grid(*shape, levels=16, dtype=torch.float32):
    return torch.randint(levels + 1, shape, generator=generator(0)).to(dtype) / levels


class TestExactNoises(NoiseContract):
    # 1/16 is on all grids, and half precision holds it.
    def inputs(self, *shape, dtype=torch.float32):
        return on_grid(*shape, dtype=dtype)

    @pytest.fixture(params=NOISES, ids=str)
    def noise(self, request):
        return request.param


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_gradients_flow_and_change_no_draw(noise):
    x = on_grid(4, 64).requires_grad_()
    noisy = noise.sample(x, generator(1))
    assert torch.equal(noisy, noise.sample(x.detach(), generator(1)))
    (gradient,) = torch.autograd.grad(noisy.sum(), x)
    assert torch.equal(gradient, torch.ones_like(x))


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_moments(noise):
    """Sigma is that before rounding; rounding adds 1/12 of a squared step, at most."""
    draws = noise.sample(torch.zeros(300, 1000), generator(5)).double()
    step = (1 / noise.levels) ** 2 / 12
    wanted = noise.std(1000) ** 2 + (step if isinstance(noise, Gaussian) else -step)
    assert draws.var().item() == pytest.approx(wanted, rel=0.01)
    assert abs(draws.mean().item()) < 0.005
    assert torch.equal(draws * noise.levels, (draws * noise.levels).round())


def test_rows_that_share_memory_get_noise_of_their_own():
    x = on_grid(1, 64)
    noisy = NOISES[0].sample(x.expand(50, 64), generator(1))
    assert torch.equal(noisy, NOISES[0].sample(x.repeat(50, 1), generator(1)))
    assert len(noisy.unique(dim=0)) == 50


# What the net sees


@pytest.mark.parametrize(
    ("dtype", "levels"),
    [
        *((dtype, levels) for dtype in FULL for levels in (1, 16, 255, 1000, 65_535)),
        (torch.bfloat16, 16),  # few grids are made of numbers that half precision has
        (torch.float16, 256),
    ],
)
def test_equal_sums_of_integers_give_the_same_bits(dtype, levels, monkeypatch):
    """Whatever x and the noise are, also where the sum is 0, which has two signs."""
    sums = torch.arange(-700.0, 701.0)
    steps = torch.arange(0, levels + 1, max(levels // 300, 1))
    as_integers = {torch.float32: torch.int32, torch.float64: torch.int64}
    noise, seen = Gaussian(sigma=1 / levels, exact=True, levels=levels), []
    for k in steps.tolist():
        monkeypatch.setattr(
            IntegerLaw, "fill", lambda self, out, generator, k=k: out.copy_(sums - k)
        )
        x = torch.full((1, len(sums)), k / levels, dtype=torch.float64).to(dtype)
        noise.check_inputs(x)
        noisy = noise.sampler(len(sums), dtype)(x, None, None)
        seen.append(noisy.view(as_integers.get(dtype, torch.int16)))
    assert len(seen) > 1
    for bits in seen[1:]:
        assert torch.equal(bits, seen[0])
    wide = torch.promote_types(dtype, torch.float32)
    wanted = (sums.to(wide) / levels).to(dtype)
    assert torch.equal(seen[0].view(dtype), wanted.unsqueeze(0))


@pytest.mark.parametrize("noise", [Gaussian(1.0, exact=True), Uniform(1.0, exact=True)])
def test_noisy_inputs_are_the_input_moved_by_whole_steps(noise):
    """The noise of one seed is the same, wherever x is and however it lies in memory."""
    steps = torch.randint(256, (8, 300), generator=generator(0))
    x = steps.float() / 255
    at_zero = noise.sample(torch.zeros(8, 300), generator(1))
    moved = (noise.sample(x, generator(1)).double() * 255).round()
    assert torch.equal(moved, (at_zero.double() * 255).round() + steps)
    wide = noise.sample(steps.double() / 255, generator(1))
    assert torch.equal((wide * 255).round(), moved)
    as_image = noise.sample(x.view(8, 3, 10, 10), generator(1))
    assert torch.equal(as_image.flatten(1), noise.sample(x, generator(1)))
    transposed = noise.sample(x.T.contiguous().T, generator(1), out=torch.empty(300, 8).T)
    assert torch.equal(transposed, noise.sample(x, generator(1)))


def test_plain_noise_is_not_asked_for_a_grid():
    x = torch.rand(4, 8)
    for kind in (Gaussian, Uniform):
        usual, plain = kind(sigma=0.5), kind(sigma=0.5, levels=3)
        usual.check_inputs(x)
        assert torch.equal(plain.sample(x, generator(1)), usual.sample(x, generator(1)))
        assert plain.radius(1.0, norm=1, dim=8) == usual.radius(1.0, norm=1, dim=8)
    assert Gaussian(sigma=0.5).radius(1.0, norm=2, dim=8) == math.inf


# What is refused


@pytest.mark.parametrize("kind", [Gaussian, Uniform])
def test_inputs_off_the_grid_are_refused(kind):
    noise = kind(sigma=0.5, exact=True)
    x = on_grid(2, 30, levels=255)
    noise.check_inputs(x.numpy())
    noise.check_inputs(x.double())
    noise.check_inputs(-x * 255)  # any whole number is on the grid
    x[1, 7] = 0.3
    for check in (noise.check_inputs, noise.sample):
        with pytest.raises(ValueError, match=r"multiples of 1/255 .* got 0\.300000"):
            check(x)
    assert noise.sampler(30, torch.float32)(x, None, None).shape == x.shape
    with pytest.raises(ValueError, match=r"X must be at most 1048576 / levels = 4112.06"):
        noise.check_inputs(np.full((2, 3), 5000.0))
    with pytest.raises(ValueError, match="X must be at most"):
        noise.check_inputs(np.array([np.nan]))


def test_bad_parameters_are_refused_at_use():
    bad = [
        (Gaussian(1.0, exact="yes"), "exact of Gaussian must be True or False, got 'yes'"),
        (Uniform(1.0, exact=1), "exact of Uniform must be True or False, got 1"),
        (Gaussian(1.0, exact=True, levels=0), "levels of Gaussian must be an int"),
        (Uniform(1.0, exact=True, levels=2.5), "levels of Uniform must be an int"),
        (Uniform(lambd=0.36, exact=True, levels=4), r"at least 1.5 / levels = 0.375, got"),
    ]
    for noise, message in bad:
        for use in (
            lambda noise=noise: noise.scale(4),
            lambda noise=noise: noise.std(4),
            lambda noise=noise: noise.radius(0.9, norm=1, dim=4),
            lambda noise=noise: noise.sample(torch.zeros(2, 4)),
        ):
            with pytest.raises(ValueError, match=message):
                use()
    for kind in (Gaussian, Uniform):
        with pytest.raises(ValueError, match=r"draws up to \d+ steps, too much for"):
            kind(sigma=0.9, exact=True, levels=65_535).set_params(sigma=5.0).sample(
                torch.zeros(1, 4)
            )


# Scales and radii


def test_lambda_of_uniform_noise_is_the_largest_on_the_grid():
    for levels in (2, 16, 255, 65_535):
        for lambd in (0.9, 1.0, 1.23456):
            scale = Uniform(lambd=lambd, exact=True, levels=levels).scale(10)
            n_values = Fraction(scale).limit_denominator(10**6) * 2 * levels
            assert n_values.denominator == 1
            assert n_values % 2 == 1
            assert scale <= lambd < scale + 1 / levels
    for m in (1, 5, 200, 3000):
        given = (2 * m + 1) / (2 * 255)
        for noise in (Uniform(lambd=given), Uniform(sigma=given / math.sqrt(3.0))):
            assert noise.set_params(exact=True).scale(10) == given


def test_radii_allow_for_the_law_that_is_drawn():
    """Twice the error of a threshold, and of the tails, for every coordinate."""
    dim, rho = 3072, [0.6, 0.99, 1 - 1e-9]
    exact, plain = Gaussian(sigma=0.25, exact=True), Gaussian(sigma=0.25)
    error = 2 * dim * (2 * gaussian_support(0.25, 255) + 2) * Fraction(1, 2**64)
    with mpmath.workdps(40):
        for p, radius in zip(rho, exact.radius(rho, norm=2, dim=dim), strict=True):
            q = mpmath.mpf(p) - mpmath.mpf(error.numerator) / error.denominator
            best = mpmath.sqrt(2) * mpmath.erfinv(2 * q - 1) / 4
            assert best * (1 - 1e-6) < radius < best
            assert radius < plain.radius(p, norm=2, dim=dim)
    certain = float(exact.radius(1.0, norm=2, dim=dim))
    assert plain.radius(1 - float(error) - 1e-16, norm=2, dim=dim) < certain * (1 + 1e-6)
    assert certain < 0.25 * 8
    wide = Uniform(lambd=220.5 / 255, exact=True)
    gap = 1.0 - wide.radius(1.0, norm=1, dim=dim) / wide.scale(dim)
    allowed = 4 * dim * (2 * 220 + 2) * 2.0**-64
    assert allowed < gap < allowed + 1e-13


def test_two_bounds_allow_for_it_on_both_sides():
    dim = 150_528
    for kind in (Gaussian, Uniform):
        exact, norm = kind(lambd=3.0, exact=True), kind.norms[0]
        plain = kind(lambd=exact.scale(dim))
        error = 2.0 * dim * (2 * exact._support(exact.scale(dim)) + 2) * 2.0**-64
        both = exact.radius(0.4, norm=norm, dim=dim, prob_runner_up=0.1)
        allowed = plain.radius(0.4 - error, norm=norm, dim=dim, prob_runner_up=0.1 + error)
        assert both == pytest.approx(float(allowed), rel=1e-12)
        nothing = exact.radius(0.4, norm=norm, dim=dim, prob_runner_up=0.4 - error)
        assert nothing == 0.0
        one, zero = exact.radius([1.0, 0.0], norm=norm, dim=dim, prob_runner_up=[0.0, 1.0])
        assert zero == 0.0 < one < math.inf


# Brute force: every point of the grid against every other


class TruthTable:
    """A base classifier on integers, and its exact probabilities under a law.

    `weights[c][x]` is the probability of the class c at x, times 2^(64 d), for x from
    -far to levels + far in each coordinate.
    """

    def __init__(self, noise, dim, far, classify):
        law = noise._integer_law(noise.scale(dim), CPU)
        counts = np.diff([0, *(t + 2**63 for t in law.thresholds.tolist()), 2**64])
        reach = -law.first
        self.levels, self.far, self.dim = noise.levels, far, dim
        axis = np.arange(-far - reach, noise.levels + far + reach + 1)
        labels = classify(np.meshgrid(*[axis] * dim, indexing="ij"))
        self.total = 2 ** (64 * dim)
        self.weights = {}
        for label in np.unique(labels):
            weights = (labels == label).astype(object)
            for place in range(dim):
                weights = np.apply_along_axis(np.convolve, place, weights, counts, "valid")
            self.weights[label] = weights
        self.points = np.stack(
            np.meshgrid(*[np.arange(-far, noise.levels + far + 1)] * dim, indexing="ij"), -1
        ).reshape(-1, dim)
        self.shares = {label: w.reshape(-1) for label, w in self.weights.items()}

    def inputs(self):
        """Positions of the points that are images."""
        inside = (self.points >= 0) & (self.points <= self.levels)
        return np.flatnonzero(inside.all(axis=1))

    def tops(self, place):
        """Label and share of the top class, and share of the second."""
        ranked = sorted(self.shares, key=lambda label: self.shares[label][place])
        top = ranked[-1]
        second = self.shares[ranked[-2]][place] if len(ranked) > 1 else 0
        return top, self.shares[top][place], second


def rounded(share, total, towards):
    """A share as a float that is not on the other side of it."""
    value = share / total
    if (Fraction(value) - Fraction(int(share), total)) * (1 if towards > 0 else -1) < 0:
        value = float(np.nextafter(value, towards))
    return min(max(value, 0.0), 1.0)


def within(offsets, radius, norm, levels):
    """Which integer offsets are shorter than the radius, without rounding."""
    limit = Fraction(float(radius)) * levels
    lengths = np.abs(offsets)
    if norm == 2.0:
        return (lengths**2).sum(axis=1) < math.ceil(limit**2)
    length = lengths.sum(axis=1) if norm == 1.0 else lengths.max(axis=1)
    return length < math.ceil(limit)


def half_space(rng, dim):
    normal, offset = rng.normal(size=dim), rng.uniform(-2, 4)
    if rng.random() < 0.5:
        normal = np.eye(dim)[0]
    return lambda axes: sum(n * a for n, a in zip(normal, axes, strict=True)) <= offset + 2


def scattered(rng, dim):
    share = rng.choice([0.1, 0.3])
    inner = half_space(rng, dim)
    return lambda axes: inner(axes) ^ (rng.random(axes[0].shape) < share)


def stripes(rng, dim):
    width, phase = rng.integers(2, 30, size=2)
    return lambda axes: (axes[0] + sum(axes) + phase) // width % 2


def three_classes(rng, dim):
    first, second = half_space(rng, dim), half_space(rng, dim)
    return lambda axes: np.where(first(axes), 0, np.where(second(axes), 1, 2))


KINDS = [half_space, scattered, stripes, three_classes]
SMALL = [
    (Gaussian(sigma=0.25, exact=True, levels=8), (2.0, 1.0, math.inf)),
    (Gaussian(sigma=0.8, exact=True, levels=5), (2.0, 1.0, math.inf)),
    (Uniform(lambd=0.45, exact=True, levels=8), (1.0, math.inf, 2.0)),
    (Uniform(lambd=1.3, exact=True, levels=5), (1.0, math.inf, 2.0)),
]


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize(("noise", "norms"), SMALL, ids=str)
def test_no_certificate_is_violated(noise, norms, dim):
    rng = np.random.default_rng(dim)
    n_certified = 0
    for trial in range(60 if dim == 1 else 8):
        table = TruthTable(noise, dim, 9, KINDS[trial % len(KINDS)](rng, dim))
        for place in table.inputs():
            top, share, second = table.tops(place)
            lower = rounded(share, table.total, towards=0.0)
            upper = rounded(second, table.total, towards=2.0)
            offsets = table.points - table.points[place]
            for norm in norms:
                one = noise.radius(lower, norm=norm, dim=dim)
                two = noise.radius(lower, norm=norm, dim=dim, prob_runner_up=upper)
                near = within(offsets, one, norm, noise.levels)
                assert (2 * table.shares[top][near] > table.total).all()
                near = within(offsets, two, norm, noise.levels)
                for other in set(table.shares) - {top}:
                    assert (table.shares[top][near] > table.shares[other][near]).all()
                n_certified += near.sum() > 1
    assert n_certified > 100


@pytest.mark.parametrize(
    ("noise", "norm"),
    [(SMALL[0][0], 2.0), (SMALL[1][0], 2.0), (SMALL[2][0], 1.0), (SMALL[3][0], 1.0)],
    ids=str,
)
def test_half_spaces_change_half_a_step_beyond_the_radius(noise, norm):
    """They are the worst case: between two points their probability is 1/2."""
    gaps = []
    for edge in range(-6, 12):
        table = TruthTable(noise, 1, 9, lambda axes, edge=edge: axes[0] <= edge)
        for place in table.inputs():
            top, share, _ = table.tops(place)
            radius = noise.radius(rounded(share, table.total, 0.0), norm=norm, dim=1)
            change = np.flatnonzero(2 * table.shares[top] <= table.total)
            if len(change) and radius > 0 and share < table.total:
                distance = np.abs(table.points[change] - table.points[place]).min()
                gaps.append(distance - float(radius) * noise.levels)
    np.testing.assert_allclose(gaps, 0.5, atol=1e-3)
    assert len(gaps) > 20


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize(
    "noise", [SMALL[3][0], Uniform(lambd=1.7, exact=True, levels=3)], ids=str
)
def test_no_certificate_in_a_box_is_violated(noise, dim):
    rng = np.random.default_rng(dim)
    gained = 0
    for trial in range(12):
        table = TruthTable(noise, dim, 0, KINDS[trial % len(KINDS)](rng, dim))
        for place in table.inputs():
            top, share, _ = table.tops(place)
            lower = rounded(share, table.total, towards=0.0)
            x = table.points[place]
            reach = -np.sort(-np.maximum(x, noise.levels - x)) / noise.levels
            # As if the input had been rounded to less than what it was.
            reach *= 1.0 - 2.0**-23
            radius = noise.radius(lower, norm=1, dim=dim, reach=reach)
            near = within(table.points - x, radius, 1.0, noise.levels)
            assert (2 * table.shares[top][near] > table.total).all()
            gained += radius > noise.radius(lower, norm=1, dim=dim)
    assert gained > 10


def test_a_box_lets_attacks_go_whole_steps():
    noise = Uniform(lambd=1.3, exact=True, levels=5)
    for reach in (0.6, 0.6 * (1 - 2.0**-23), 0.74):
        radius = noise.radius(1.0, norm=1, dim=9, reach=[reach])
        wanted = noise.radius(1.0, norm=1, dim=9, reach=[0.6 + 1e-12])
        assert radius == pytest.approx(float(wanted), rel=1e-9)


# In the classifier


@pytest.mark.slow
def test_exact_noise_in_a_search(digits):
    X_train, X_test, y_train, y_test = digits
    grid = [Gaussian(exact=True, levels=16), Uniform(exact=True, levels=16), Uniform()]
    search = GridSearchCV(
        SmoothedClassifier(
            make_net(max_epochs=5), bound=ClopperPearson(n=200), random_state=0
        ),
        {"noise": grid, "noise__sigma": [0.25]},
        scoring=make_certified_scorer(radius=0.2, norm=1),
        cv=2,
        error_score="raise",
    ).fit(X_train[:600], y_train[:600])
    scores = search.cv_results_["mean_test_score"]
    assert (scores > 0.4).all()
    exact = clone(search.best_estimator_).set_params(noise=clone(grid[0]))
    exact.set_params(noise__sigma=0.25).fit(X_train[:500], y_train[:500])
    certification = exact.certify(X_test[:30])
    assert (~certification.abstained).mean() > 0.5
    again = exact.set_params(batch_size=37).certify(X_test[10:30])
    np.testing.assert_array_equal(again.counts, certification.counts[10:])
    assert repr(certification.noise) == "Gaussian(exact=True, levels=16, sigma=0.25)"
