"""The ascent against solvers that know nothing of it."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize
from torch import nn

from rs4a.attacks.ascent import Ball, ascend, project, soft_vote_loss, steepest

NORMS = [1.0, 2.0, math.inf]
INF = math.inf


def make_ball(norm, radius, low, high, dtype=torch.float64):
    values = (torch.as_tensor(np.array(each), dtype=dtype) for each in (radius, low, high))
    return Ball(norm, *values)


def unlimited(norm, radius, shape, dtype=torch.float64):
    return make_ball(norm, radius, np.full(shape, -INF), np.full(shape, INF), dtype)


def length(delta, norm):
    return np.linalg.norm(np.asarray(delta, dtype=np.float64), norm, axis=1)


def by_bisection(delta, norm, radius, low, high):
    """Nearest allowed perturbation of one input: the multiplier of its norm is a root."""
    size = np.abs(delta)
    limits = np.where(delta > 0, high, -low)

    def at(multiplier):
        if norm == 1.0:
            return np.minimum(np.maximum(size - multiplier, 0.0), limits)
        return np.minimum(size / (1.0 + multiplier), limits)

    if norm == INF:
        return np.clip(np.clip(delta, low, high), -radius, radius)
    if np.linalg.norm(at(0.0), norm) <= radius:
        return np.sign(delta) * at(0.0)
    if radius == 0.0:
        return np.zeros_like(delta)
    most = size.max() if norm == 1.0 else np.linalg.norm(size) / radius
    root = brentq(
        lambda m: np.linalg.norm(at(m), norm) - radius, 0.0, most, xtol=1e-16, rtol=1e-15
    )
    return np.sign(delta) * at(root)


def by_slsqp(delta, norm, radius, low, high):
    """The same, from the definition: a general solver on positive and negative parts."""
    dim = len(delta)

    def joined(parts):
        return parts[:dim] - parts[dim:]

    def room(parts):
        if norm == 1.0:
            return radius - parts.sum()
        if norm == 2.0:
            return radius**2 - (joined(parts) ** 2).sum()
        return radius - np.concatenate([joined(parts), -joined(parts)])

    result = minimize(
        lambda parts: ((joined(parts) - delta) ** 2).sum(),
        np.zeros(2 * dim),
        bounds=[(0, b) for b in high] + [(0, -b) for b in low],
        constraints={"type": "ineq", "fun": room},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return joined(result.x)


def random_case(rng, dim, n=40):
    """Perturbations, radii and limits, with every kind of edge among them."""
    delta = rng.standard_normal((n, dim)) * 10.0 ** rng.uniform(-2, 2, (n, 1))
    radius = 10.0 ** rng.uniform(-2, 2, n)
    low = -rng.exponential(1.0, (n, dim)) * 10.0 ** rng.uniform(-2, 1, (n, 1))
    high = rng.exponential(1.0, (n, dim)) * 10.0 ** rng.uniform(-2, 1, (n, 1))
    delta[0] = 0.0
    radius[1] = 0.0
    low[2:8], high[2:8] = -INF, INF
    low[8:14][rng.random((6, dim)) < 0.4] = 0.0
    high[8:14][rng.random((6, dim)) < 0.4] = 0.0
    delta[14:20] = np.round(delta[14:20])  # ties, also at 0
    delta[20:24] = np.sign(delta[20:24])
    low[22:24], high[22:24] = -0.5, 0.5
    low[24], high[24] = 0.0, 0.0
    high[25] = INF
    return delta, radius, low, high


# project


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dim", [1, 2, 3, 17, 64])
def test_projection_is_the_nearest_allowed_perturbation(norm, dim):
    rng = np.random.default_rng(dim)
    for _ in range(4):
        case = random_case(rng, dim)
        delta, radius, low, high = case
        found = project(torch.from_numpy(delta), make_ball(norm, *case[1:])).numpy()
        for row, expected in enumerate(
            by_bisection(d, norm, r, lo, hi)
            for d, r, lo, hi in zip(delta, radius, low, high, strict=True)
        ):
            scale = max(np.abs(delta[row]).max(), 1e-300)
            np.testing.assert_allclose(found[row], expected, rtol=0, atol=1e-12 * scale)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dim", [1, 2, 4])
def test_projection_agrees_with_a_general_solver(norm, dim):
    rng = np.random.default_rng(7)
    delta = rng.standard_normal((12, dim)) * 2
    radius = rng.uniform(0.1, 2, 12)
    low, high = -rng.uniform(0.05, 2, (12, dim)), rng.uniform(0.05, 2, (12, dim))
    found = project(torch.from_numpy(delta), make_ball(norm, radius, low, high)).numpy()
    for row in range(12):
        expected = by_slsqp(delta[row], norm, radius[row], low[row], high[row])
        np.testing.assert_allclose(found[row], expected, atol=2e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_no_allowed_perturbation_lies_beyond_the_projection(norm):
    """Of a convex set, the nearest point is the one with <d - P(d), z - P(d)> <= 0."""
    rng = np.random.default_rng(1)
    delta, radius, low, high = random_case(rng, 6)
    ball = make_ball(norm, radius, low, high)
    nearest = project(torch.from_numpy(delta), ball).numpy()
    for _ in range(200):
        other = np.clip(rng.laplace(size=delta.shape) * radius[:, None], low, high)
        other *= np.minimum(1, radius / np.maximum(length(other, norm), 1e-300))[:, None]
        inner = ((delta - nearest) * (other - nearest)).sum(axis=1)
        assert (inner <= 1e-12 * (1 + (delta**2).sum(axis=1))).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projection_of_images_is_allowed(norm, dtype):
    rng = np.random.default_rng(2)
    delta, radius, low, high = random_case(rng, 3072, n=30)
    ball = make_ball(norm, radius, low, high, dtype)
    found = project(torch.from_numpy(delta).to(dtype), ball)
    assert found.dtype == dtype
    rounding = {torch.float32: 1e-6, torch.float64: 1e-12}[dtype]
    most = ball.radius.double().numpy() * (1 + rounding) + 1e-15 * length(delta, norm)
    assert (length(found, norm) <= most).all()
    assert ((found >= ball.low) & (found <= ball.high)).all()
    expected = [
        by_bisection(d, norm, r, lo, hi)
        for d, r, lo, hi in zip(delta, radius, low, high, strict=True)
    ]
    scale = np.abs(delta).max(axis=1, keepdims=True) + 1e-300
    assert np.abs((found.numpy() - expected) / scale).max() <= 10 * rounding


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projection_without_limits_has_closed_forms(dtype):
    delta = torch.tensor([[3.0, -4.0], [0.3, -0.4], [0.0, 0.0]], dtype=dtype)

    def projected(norm):
        return project(delta, unlimited(norm, [1.0] * 3, (3, 2), dtype)).tolist()

    inside = [pytest.approx([0.3, -0.4]), [0.0, 0.0]]
    assert projected(1.0) == [pytest.approx([0.0, -1.0]), *inside]
    assert projected(2.0) == [pytest.approx([0.6, -0.8]), *inside]
    assert projected(INF) == [pytest.approx([1.0, -1.0]), *inside]


@pytest.mark.parametrize("norm", NORMS)
def test_projection_leaves_alone_what_is_allowed(norm):
    case = random_case(np.random.default_rng(3), 20)
    ball = make_ball(norm, *case[1:])
    once = project(torch.from_numpy(case[0]), ball)
    torch.testing.assert_close(project(once, ball), once, rtol=1e-12, atol=1e-13)
    half = ball._replace(radius=ball.radius * 2)
    assert torch.equal(project(once, half), once)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_keeps_signs(norm):
    case = random_case(np.random.default_rng(4), 20)
    found = project(torch.from_numpy(case[0]), make_ball(norm, *case[1:])).numpy()
    assert (found * case[0] >= 0).all()
    assert (np.abs(found) <= np.abs(case[0])).all()


@pytest.mark.parametrize("norm", NORMS)
def test_projection_brings_points_no_farther_apart(norm):
    rng = np.random.default_rng(5)
    delta, *rest = random_case(rng, 12)
    ball = make_ball(norm, *rest)
    for scale in (1e-6, 1e-2, 1.0, 100.0):
        other = delta + scale * rng.standard_normal(delta.shape)
        before = length(delta - other, 2)
        one, two = (project(torch.from_numpy(each), ball) for each in (delta, other))
        rounding = 1e-13 * (np.abs(delta).sum(axis=1) + scale)
        assert (length(one - two, 2) <= before + rounding).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_radius_of_zero_leaves_nothing(norm):
    delta = torch.randn(50, 30, generator=torch.Generator().manual_seed(0)) * 100
    for dtype in (torch.float32, torch.float64):
        ball = unlimited(norm, [0.0] * 50, (50, 30), dtype)
        assert (project(delta.to(dtype), ball) == 0).all()
        limited = make_ball(norm, [0.0] * 50, -np.ones((50, 30)), np.ones((50, 30)), dtype)
        assert (project(delta.to(dtype), limited) == 0).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e-20, 1e20, 1e38])
@pytest.mark.parametrize("radius", [0.0, 1e-45, 1e-38, 1.0, 1e30])
@pytest.mark.parametrize("limit", [0.0, 1e-38, 1.0, INF])
def test_projection_of_extremes_is_finite_and_allowed(norm, size, radius, limit):
    rng = np.random.default_rng(6)
    delta = torch.from_numpy(size * rng.uniform(-1, 1, (8, 33))).float()
    shape = delta.shape
    limits = np.where(rng.random(shape) < 0.5, limit, INF)
    ball = make_ball(norm, [radius] * 8, -limits, limits, torch.float32)
    found = project(delta, ball)
    assert found.isfinite().all()
    assert ((found >= ball.low) & (found <= ball.high)).all()
    assert (found.abs() <= ball.radius[:, None]).all()
    if size <= 1e10 * max(radius, 1e-45):
        # float32 rounds every coordinate; the smallest numbers are multiples of 1e-45.
        rounding = 1e-6 * radius + 33 * 1.5e-45
        assert (length(found, norm) <= ball.radius.double().numpy() + rounding).all()


def test_l2_projection_sees_small_coordinates_beside_one_at_its_limit():
    delta = torch.tensor([[1e20, 3.0, 4.0]], dtype=torch.float64)
    ball = make_ball(2.0, [2.0], [[-INF] * 3], [[1.0, INF, INF]])
    expected = [[1.0, 0.6 * math.sqrt(3), 0.8 * math.sqrt(3)]]
    torch.testing.assert_close(project(delta, ball), torch.tensor(expected).double())


# Ball


def test_ball_keeps_perturbed_inputs_in_the_box():
    X = torch.tensor([[[0.0, 0.25], [1.0, 0.5]]])
    ball = Ball.around(X, 2.0, torch.ones(1), (0.0, 1.0))
    assert ball.low.tolist() == [[0.0, -0.25, -1.0, -0.5]]
    assert ball.high.tolist() == [[1.0, 0.75, 0.0, 0.5]]
    free = Ball.around(X, 2.0, torch.ones(1), None)
    assert (free.low == -INF).all()
    assert (free.high == INF).all()


def test_inputs_outside_of_the_box_may_only_go_in():
    ball = Ball.around(torch.tensor([[-1.0, 3.0]]), 2.0, torch.ones(1), (0.0, 1.0))
    assert ball.low.tolist() == [[0.0, -3.0]]
    assert ball.high.tolist() == [[2.0, 0.0]]


# steepest


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dim", [1, 15, 16, 17, 3072])
@pytest.mark.parametrize("size", [1e-44, 1e-38, 1.0, 1e38])
def test_a_step_has_length_one(norm, dim, size):
    gradient = torch.randn(20, dim, generator=torch.Generator().manual_seed(0)).double()
    gradient = (gradient * size).clamp(-3e38, 3e38).float()
    moves = (gradient != 0).any(dim=1).numpy()
    assert moves.sum() >= 15
    direction = steepest(gradient, norm)
    np.testing.assert_allclose(length(direction, norm), moves, rtol=1e-5)
    assert (direction * gradient.sign() >= 0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_no_gradient_gives_no_step(norm):
    gradient = torch.zeros(2, 40)
    gradient[1, 7] = -1e-30
    direction = steepest(gradient, norm)
    assert not direction[0].any()
    assert direction[1].nonzero().tolist() == [[7]]
    assert direction[1, 7] == -1.0


def test_l2_step_is_along_the_gradient():
    for size in (1e-38, 1.0, 1e38):
        direction = steepest(size * torch.tensor([[0.6, -0.8, 0.0]]), 2.0)
        torch.testing.assert_close(direction, torch.tensor([[0.6, -0.8, 0.0]]))


def test_linf_step_is_the_sign():
    gradient = torch.tensor([[1e-38, -1e38, 0.0, 2.0]])
    assert steepest(gradient, INF).tolist() == [[1.0, -1.0, 0.0, 1.0]]


@pytest.mark.parametrize(("dim", "share"), [(1, 1), (16, 1), (17, 2), (64, 4), (3072, 192)])
def test_l1_step_is_shared_by_the_largest_sixteenth(dim, share):
    gradient = torch.randn(5, dim, generator=torch.Generator().manual_seed(1))
    direction = steepest(gradient, 1.0).numpy()
    for row, found in zip(gradient.numpy(), direction, strict=True):
        largest = np.argsort(-np.abs(row))[:share]
        expected = np.zeros(dim)
        expected[largest] = np.sign(row[largest]) / share
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_l1_step_among_ties_and_few_gradients_has_length_one():
    gradient = torch.ones(2, 64)
    gradient[1, 2:] = 0.0
    direction = steepest(gradient, 1.0)
    assert (direction != 0).sum(dim=1).tolist() == [4, 2]
    assert direction.sum(dim=1).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_not_finite_counts_as_no_gradient(norm):
    gradient = torch.randn(4, 48, generator=torch.Generator().manual_seed(2))
    broken, zeroed = gradient.clone(), gradient.clone()
    for column, value in enumerate([math.nan, INF, -INF]):
        broken[:, column] = value
        zeroed[:, column] = 0.0
    assert torch.equal(steepest(broken, norm), steepest(zeroed, norm))
    assert not steepest(torch.full((1, 5), math.nan), norm).any()


# ascend


def best_linear(weights, norm, radius, low, high):
    """Largest <weights, delta> in a ball: a knapsack, an l2 problem, or a corner."""
    size, limits = np.abs(weights), np.where(weights > 0, high, -low)
    if norm == INF:
        return (size * np.minimum(limits, radius)).sum()
    if norm == 1.0:
        left, value = radius, 0.0
        for index in np.argsort(-size):
            taken = min(left, limits[index])
            left, value = left - taken, value + taken * size[index]
        return value

    def at(scale):
        return np.minimum(scale * size, limits)

    if np.linalg.norm(limits) <= radius:
        return (size * limits).sum()
    scale = brentq(lambda s: np.linalg.norm(at(s)) - radius, 0, 1e6)
    return (size * at(scale)).sum()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("limited", [False, True])
def test_ascent_reaches_the_maximum_of_a_linear_loss(norm, limited):
    rng = np.random.default_rng(8)
    dim = 12  # of which an l1 step moves one
    weights = rng.standard_normal((10, dim))
    radius = rng.uniform(0.5, 3.0, 10)
    low, high = -rng.uniform(0, 1, (10, dim)), rng.uniform(0, 1, (10, dim))
    if not limited:
        low, high = np.full_like(low, -INF), np.full_like(high, INF)
    ball = make_ball(norm, radius, low, high)
    X = torch.zeros(10, 3, 4, dtype=torch.float64)
    w = torch.from_numpy(weights)
    delta = ascend(
        lambda x: (x.flatten(1) * w).sum(dim=1),
        X,
        ball,
        steps=100,
        step_size=ball.radius * 0.05,
    )
    assert delta.shape == X.shape
    delta = delta.flatten(1).numpy()
    assert (length(delta, norm) <= radius * (1 + 1e-12)).all()
    assert ((delta >= low) & (delta <= high)).all()
    best = np.array(
        [
            best_linear(w, norm, r, lo, hi)
            for w, r, lo, hi in zip(weights, radius, low, high, strict=True)
        ]
    )
    reached = (delta * weights).sum(axis=1)
    assert (reached <= best * (1 + 1e-9)).all()
    assert (reached >= 0.99 * best).all()


def test_l1_ascent_in_many_dimensions_moves_the_largest_sixteenth():
    weights = torch.arange(1.0, 65.0)
    delta = ascend(
        lambda x: x @ weights,
        torch.zeros(1, 64),
        unlimited(1.0, [2.0], (1, 64), torch.float32),
        steps=10,
        step_size=torch.tensor([0.5]),
    )
    torch.testing.assert_close(delta[0, -4:], torch.full((4,), 0.5))
    assert not delta[0, :-4].any()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("box", [None, (0.0, 1.0)])
def test_ascent_on_a_quadratic_comes_near_the_projection_of_its_peak(norm, box):
    rng = np.random.default_rng(9)
    X = rng.uniform(0, 1, (10, 12))
    peak = rng.uniform(-1, 2, (10, 12))
    radius = {1.0: 2.0, 2.0: 0.8, INF: 0.4}[norm] * rng.uniform(0.5, 1, 10)
    x, target = torch.from_numpy(X), torch.from_numpy(peak)
    ball = Ball.around(x, norm, torch.from_numpy(radius), box)

    def loss(moved):
        return -(moved - target).square().sum(dim=1)

    delta = ascend(loss, x, ball, steps=400, step_size=ball.radius * 0.01)
    limits = ball.low.numpy(), ball.high.numpy()
    best = np.stack(
        [
            by_bisection(d, norm, r, lo, hi)
            for d, r, lo, hi in zip(peak - X, radius, *limits, strict=True)
        ]
    )
    best_loss, start = loss(x + torch.from_numpy(best)), loss(x)
    gained = (loss(x + delta) - start) / (best_loss - start)
    assert (gained <= 1 + 1e-9).all()
    assert (gained >= 0.98).all()


@pytest.mark.parametrize("norm", NORMS)
def test_coordinates_at_their_limit_do_not_waste_the_step(norm):
    """The largest gradient points out of the box: the step goes to the others."""
    weights = torch.tensor([100.0, 1.0, -50.0, 1.0])
    X = torch.tensor([[1.0, 0.5, 0.0, 0.5]])
    ball = Ball.around(X, norm, torch.tensor([0.1]), (0.0, 1.0))
    delta = ascend(lambda x: x @ weights, X, ball, steps=1, step_size=ball.radius)
    assert delta[0, 0] == delta[0, 2] == 0
    assert length(delta, norm)[0] == pytest.approx(0.1, rel=1e-6)


def test_ascent_begins_at_its_start():
    X = torch.zeros(2, 3)
    start = torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.0, 0.5]])
    ball = unlimited(2.0, [1.0, 1.0], (2, 3), torch.float32)
    delta = ascend(
        lambda x: 0.0 * x.sum(dim=1),
        X,
        ball,
        steps=3,
        step_size=torch.ones(2),
        start=start.clone(),
    )
    assert torch.equal(delta, start)


def test_ascent_leaves_inputs_and_parameters_alone():
    net = nn.Linear(4, 1)
    X = torch.randn(3, 4)
    start = torch.full((3, 4), 0.01)
    before = X.clone(), start.clone(), net.weight.detach().clone()
    with torch.no_grad():  # the ascent does not need the caller's gradients
        delta = ascend(
            lambda x: net(x)[:, 0],
            X,
            unlimited(2.0, [1.0] * 3, (3, 4), torch.float32),
            steps=3,
            step_size=torch.ones(3),
            start=start,
        )
        assert not torch.is_grad_enabled()
    assert all(map(torch.equal, before, (X, start, net.weight)))
    assert net.weight.grad is None
    assert net.bias.grad is None
    assert not delta.requires_grad
    assert not X.requires_grad


def test_gradients_that_are_nan_move_nothing():
    delta = ascend(
        lambda x: x.sum(dim=1) * math.nan,
        torch.zeros(2, 3),
        unlimited(2.0, [1.0, 1.0], (2, 3), torch.float32),
        steps=2,
        step_size=torch.ones(2),
    )
    assert not delta.any()


def test_inputs_are_attacked_each_on_its_own():
    """Losses of very different size do not drown one another."""
    weights = torch.tensor([[1e-30, 2e-30], [1e20, 2e20]])
    delta = ascend(
        lambda x: (x * weights).sum(dim=1),
        torch.zeros(2, 2),
        unlimited(2.0, [1.0, 2.0], (2, 2), torch.float32),
        steps=5,
        step_size=torch.tensor([0.5, 1.0]),
    )
    direction = torch.tensor([1.0, 2.0]) / math.sqrt(5)
    torch.testing.assert_close(delta, torch.stack([direction, 2 * direction]))


@pytest.mark.parametrize("loss", [lambda x: (x > 0).float().sum(dim=1)])
def test_a_loss_without_gradients_is_refused(loss):
    weight = torch.ones(1, requires_grad=True)
    for each in (loss, lambda x: loss(x) * weight):
        with pytest.raises(ValueError, match="must have gradients with respect to its inp"):
            ascend(
                each,
                torch.zeros(2, 3),
                unlimited(2.0, [1.0, 1.0], (2, 3), torch.float32),
                steps=1,
                step_size=torch.ones(2),
            )


# soft_vote_loss


def test_soft_vote_loss_is_what_a_loop_counts():
    rng = np.random.default_rng(10)
    X, draws = rng.standard_normal((5, 2, 3)), rng.standard_normal((7, 5, 2, 3))
    weights, y = rng.standard_normal((6, 4)), np.array([3, 0, 1, 1, 2])
    expected = np.zeros(5)
    for i in range(5):
        for k in range(7):
            logits = (X[i] + draws[k, i]).ravel() @ weights
            expected[i] += np.exp(logits[y[i]]) / np.exp(logits).sum()
    w = torch.from_numpy(weights)
    loss = soft_vote_loss(
        lambda noisy: torch.log_softmax(noisy.flatten(1) @ w, dim=1),
        *map(torch.from_numpy, (X, draws, y)),
    )
    np.testing.assert_allclose(loss.numpy(), -np.log(expected), rtol=1e-12)


def test_soft_vote_loss_of_a_hopeless_class_has_gradients():
    X = torch.zeros(1, 2, requires_grad=True)
    draws = torch.tensor([[[0.0, 3000.0]], [[0.0, 2000.0]]])
    loss = soft_vote_loss(
        lambda noisy: torch.log_softmax(noisy, dim=1), X, draws, torch.tensor([0])
    )
    assert loss.item() == pytest.approx(2000.0)
    loss.sum().backward()
    assert X.grad.tolist() == [[-1.0, 1.0]]
