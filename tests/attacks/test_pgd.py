"""PGD against nets whose answer is known, and what it must leave alone."""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Threshold, frozen, make_net
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from torch import nn
from torch.utils.data import TensorDataset

from rs4a import SmoothedClassifier
from rs4a.attacks import PGD, pgd
from rs4a.noises import Gaussian, Laplace

NORMS = [1, 2, math.inf]


class Linear(nn.Module):
    """Class 1 where w x > b; for symmetric noise, the smoothed net decides likewise."""

    def __init__(self, dim=6, shift=0.0, proba=False):
        super().__init__()
        # Different sizes, so that the dual norms differ; the largest is the last.
        weight = torch.linspace(0.2, 1.0, dim) * (-1.0) ** torch.arange(dim)
        self.weight = nn.Parameter(weight)
        self.shift, self.proba = shift, proba

    def forward(self, X):
        margin = X.flatten(1) @ self.weight - self.shift
        logits = torch.stack([-margin, margin], dim=1)
        return logits.softmax(dim=1) if self.proba else logits


def linear(X, noise=None, classes=(0, 1), criterion=nn.CrossEntropyLoss, **kwargs):
    """Smoothed classifier of a frozen linear net on such X."""
    options = {f"module__{name}": value for name, value in kwargs.items()}
    net = frozen(
        Linear, list(classes), criterion=criterion, module__dim=X[0].size, **options
    )
    y = np.resize(np.array(classes), len(X))
    noise = noise or Gaussian(sigma=0.5)
    return SmoothedClassifier(net, noise=noise, random_state=0).fit(X, y)


def but(clf, **params):
    """The same fit with other parameters; what is fitted is shared."""
    return copy.copy(clf).set_params(**params)


def distances(attacked, X, norm):
    moved = attacked.astype(np.float64) - X
    return np.linalg.norm(moved.reshape(len(X), -1), norm, axis=1)


def soft_votes(clf, X, y, n=400):
    """Mean probability of y over many draws that no attack has seen."""
    net = clf.estimator_.module_.eval()
    generator = torch.Generator().manual_seed(12345)
    total = 0.0
    with torch.no_grad():
        for _ in range(n):
            noisy = clf.noise_.sample(torch.from_numpy(X), generator)
            total = total + net(noisy).softmax(dim=1)
    return (total / n).numpy()[np.arange(len(X)), np.searchsorted(clf.classes_, y)]


@pytest.fixture
def some(fitted, digits):
    """A classifier of digits, and 24 inputs that it knows."""
    _, X, _, y = digits
    return fitted["Gaussian"], X[:24], y[:24]


# Against the known truth


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("noise", [Gaussian(sigma=0.5), Laplace(sigma=0.2)], ids=str)
def test_linear_net_falls_just_beyond_its_distance(norm, noise):
    """The smoothed decision is that of w x > b: its distance is |w x - b| / |w|_dual."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (40, 6)).astype(np.float32)
    clf = linear(X, noise, shift=0.3)
    weight = clf.estimator_.module_.weight.detach().double().numpy()
    dual = np.linalg.norm(weight, {1: math.inf, 2: 2, math.inf: 1}[norm])

    def margin(inputs):
        return inputs.astype(np.float64) @ weight - 0.3

    y, distance = (margin(X) > 0).astype(int), np.abs(margin(X)) / dual
    attack = PGD(norm, n_samples=8, random_state=0)
    for share, falls in ((0.97, False), (1.03, True)):
        attacked = attack.perturb(clf, X, y, radius=share * distance)
        assert ((margin(attacked) > 0) != y).tolist() == [falls] * 40
        shift = np.abs(margin(attacked) - margin(X)) / dual
        np.testing.assert_allclose(shift, share * distance, rtol=1e-3)


def test_soft_votes_fall_as_far_as_gaussian_smoothing_allows():
    """P(class 1) of the smoothed net is Phi((w x - b) / (sigma |w|_2))."""
    X = np.random.default_rng(1).uniform(-2, 2, (20, 6)).astype(np.float32)
    clf = linear(X, Gaussian(sigma=0.5))
    weight = clf.estimator_.module_.weight.detach().double().numpy()
    attacked = PGD(2, 0.7, random_state=0).perturb(clf, X, np.ones(20, dtype=int))

    def quantile(inputs):
        return inputs.astype(np.float64) @ weight / (0.5 * np.linalg.norm(weight))

    np.testing.assert_allclose(quantile(X) - quantile(attacked), 0.7 / 0.5, rtol=1e-4)
    record = but(clf, n_selection=2000).predict_proba(attacked)[:, 1]
    assert np.abs(record - stats.norm.cdf(quantile(attacked))).max() < 0.05


@pytest.mark.parametrize("norm", NORMS)
def test_linear_net_in_a_box_is_attacked_at_its_best(norm):
    rng = np.random.default_rng(2)
    X = rng.uniform(0, 1, (20, 6)).astype(np.float32)
    clf = linear(X)
    weight = clf.estimator_.module_.weight.detach().double().numpy()
    radius = {1: 1.5, 2: 0.9, math.inf: 0.5}[norm]
    attack = PGD(norm, radius, steps=100, step_size=0.05 * radius, box=(0, 1))
    attacked = attack.perturb(clf, X, np.ones(20, dtype=int))
    found = (X - attacked.astype(np.float64)) @ weight
    room = np.where(weight > 0, X, 1 - X).astype(np.float64)  # how far each may go
    size = np.abs(weight)
    if norm == 1:
        order = np.argsort(-size)
        before = np.cumsum(room[:, order], axis=1) - room[:, order]
        best = (np.clip(radius - before, 0, room[:, order]) * size[order]).sum(axis=1)
    else:
        scales = np.linspace(0, 20, 4001)[:, None, None]
        moves = np.minimum(room, scales * (size if norm == 2 else 1.0))
        fits = np.linalg.norm(moves, norm, axis=2) <= radius
        best = ((moves @ size) * fits).max(axis=0)
    assert (found <= best * 1.01).all()
    assert (found >= best * 0.98).all()


# The distance


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("box", [None, (0, 1)])
def test_distance_is_at_most_the_radius(fitted, digits, norm, box):
    """Also where float32 rounds the radius up, as it does 0.1 and 1.1."""
    _, X, _, y = digits
    radius = np.random.default_rng(3).uniform(0, 3, 200)
    radius[:8] = 0.1, 0.3, 0.7, 1.1, 1 / 3, 1e-3, 1e-9, 1e-42
    attack = PGD(norm, steps=3, n_samples=2, box=box, random_state=0)
    attacked = attack.perturb(fitted["Laplace"], X[:200], y[:200], radius=radius)
    assert attacked.dtype == np.float32
    assert attacked.shape == X[:200].shape
    assert (distances(attacked, X[:200], norm) <= radius).all()
    if box:
        assert attacked.min() >= 0
        assert attacked.max() <= 1
    else:
        used = distances(attacked, X[:200], norm)[8:] / radius[8:]
        assert (used >= 1 - 1e-4).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("radius", [1e-5, 1e-3, 0.01, 0.5, 3.0])
@pytest.mark.parametrize("restarts", [1, 2])
def test_distance_holds_where_float32_is_coarse(norm, radius, restarts):
    """At 1e4 the next float32 is 0.001 away: what does not fit is not moved."""
    rng = np.random.default_rng(4)
    X = (1e4 * rng.uniform(-1, 1, (20, 6))).astype(np.float32)
    attack = PGD(norm, radius, steps=4, n_samples=2, restarts=restarts, random_state=0)
    attacked = attack.perturb(linear(X), X, np.arange(20) % 2)
    assert (distances(attacked, X, norm) <= radius).all()
    assert radius <= 1e-3 or (attacked != X).any()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("step_size", [1e-6, 10.0, 1e10, 1e30])
@pytest.mark.parametrize("box", [None, (-3.0, 3.0)])
def test_distance_holds_for_any_step(norm, step_size, box):
    X = np.random.default_rng(5).uniform(-3, 3, (20, 40)).astype(np.float32)
    attack = PGD(norm, 0.7, steps=3, step_size=step_size, n_samples=2, box=box)
    attacked = attack.perturb(linear(X), X, np.arange(20) % 2)
    assert (distances(attacked, X, norm) <= 0.7).all()
    assert (np.abs(attacked) <= 3).all() or not box
    assert (attacked != X).any() or step_size in (1e-6, 1e30)  # float64 ends


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("restarts", [1, 3])
def test_a_radius_of_zero_returns_the_inputs(some, norm, restarts):
    clf, X, y = some
    attack = PGD(norm, step_size=0.1, steps=3, restarts=restarts, random_state=0)
    radius = np.where(np.arange(24) % 2, 0.5, 0.0)
    attacked = attack.perturb(clf, X, y, radius=radius)
    moved = (attacked != X).any(axis=(1, 2, 3))
    assert moved.tolist() == [False, True] * 12
    still = attack.set_params(radius=0).perturb(clf, X, y)
    assert np.array_equal(still, X)
    assert not np.shares_memory(still, X)


def test_a_radius_an_input_is_the_same_as_one_by_one(some):
    clf, X, y = some
    radius = np.linspace(0.0, 2.0, 24)
    attack = PGD(2, 77.0, steps=4, random_state=0)
    together = attack.perturb(clf, X, y, radius=radius)
    for row in (0, 7, 23):
        rows = slice(row, row + 1)
        alone = clone(attack).set_params(radius=radius[row]).perturb(clf, X[rows], y[rows])
        np.testing.assert_allclose(alone, together[rows], atol=1e-4)
    for given in (list(radius), torch.from_numpy(radius).requires_grad_()):
        assert np.array_equal(attack.perturb(clf, X, y, radius=given), together)


def test_box_ends_that_float32_rounds_are_respected():
    X = np.random.default_rng(6).uniform(0.1, 0.7, (20, 6)).astype(np.float32)
    X[0], X[1] = 0.1, 0.7
    attacked = PGD(2, 1.0, box=(0.1, 0.7)).perturb(linear(X), X, np.arange(20) % 2)
    assert attacked.min() == np.float32(0.1)
    assert attacked.max() == np.float32(0.7)


def test_the_box_is_respected_far_from_its_end():
    """From 1e4, float64 meets 1e-7 but for 1e-12: more than float32 rounds there."""
    X = np.random.default_rng(6).uniform(1e4, 1.1e4, (100, 6)).astype(np.float32)
    clf, y = linear(X), np.arange(100) % 2
    for low in (1e-7, 2e-7, 4e-7, 5e-7, 6e-7):
        attack = PGD(math.inf, 1e5, steps=2, n_samples=2, box=(low, 2e4))
        attacked = attack.perturb(clf, X, y)
        assert np.float32(low) <= attacked.min() <= np.float32(low) + 1e-11
        assert attacked.max() == 2e4


def test_an_attack_that_goes_too_far_is_an_error(some, monkeypatch):
    clf, X, y = some
    monkeypatch.setattr(pgd, "_rounded_inwards", lambda X, delta: X + np.float32(0.1))
    with pytest.raises(RuntimeError, match="left its linf ball"):
        PGD(math.inf, 0.05, steps=1).perturb(clf, X, y)


# The attack's strength


def test_a_larger_radius_lowers_the_soft_votes_more(some):
    clf, X, y = some
    votes = [soft_votes(clf, X, y)]
    for radius in (0.2, 0.5, 1.0, 2.0):
        attacked = PGD(2, radius, steps=10, random_state=0).perturb(clf, X, y)
        votes.append(soft_votes(clf, attacked, y))
    means = np.mean(votes, axis=1)
    assert (np.diff(means) < -0.02).all()
    assert (votes[-1] < votes[0]).all()


def test_more_steps_lower_the_soft_votes_more(some):
    clf, X, y = some
    attack = PGD(1, 3.0, step_size=0.3, random_state=0)
    means = [
        soft_votes(clf, attack.set_params(steps=steps).perturb(clf, X, y), y).mean()
        for steps in (1, 3, 10)
    ]
    assert (np.diff(means) < -0.05).all()


def test_more_draws_are_fooled_less_by_their_own_noise(some):
    clf, X, y = some
    few, many = (
        soft_votes(
            clf, PGD(2, 1.0, n_samples=n, steps=10, random_state=0).perturb(clf, X, y), y
        ).mean()
        for n in (1, 32)
    )
    assert many < few - 0.02


def judged(monkeypatch, attack, clf, X, y):
    """The attack, and by row the losses under the judge's draws of every try."""
    losses = []
    counted = pgd.soft_vote_loss

    def spied(*args):
        loss = counted(*args)
        if not torch.is_grad_enabled():
            losses.append((args[1].clone(), loss.clone()))
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(pgd, "soft_vote_loss", spied)
        attacked = attack.perturb(clf, X, y)
    return attacked, *(torch.stack(each).numpy() for each in zip(*losses, strict=True))


def test_restarts_return_the_try_that_the_judge_prefers(some, monkeypatch):
    clf, X, y = some
    attack = PGD(2, 1.0, steps=2, n_samples=4, restarts=4, random_state=0)
    attacked, tries, losses = judged(monkeypatch, attack, clf, X, y)
    assert tries.shape == (4, *X.shape)
    best = losses.argmax(axis=0)
    assert len(set(best.tolist())) > 1
    np.testing.assert_allclose(attacked, tries[best, np.arange(24)], atol=1e-5)
    once = clone(attack).set_params(restarts=1).perturb(clf, X, y)
    np.testing.assert_allclose(once, tries[0], atol=1e-5)
    # Tries have other draws and begin elsewhere, so that they differ.
    gaps = [np.abs(tries[i] - tries[j]).max() for i in range(4) for j in range(i)]
    assert min(gaps) > 0.01


def test_restarts_begin_at_random_places(some, monkeypatch):
    clf, X, y = some
    attack = PGD(2, 1.0, steps=1, step_size=1e-4, restarts=3, random_state=0)
    _, tries, _ = judged(monkeypatch, attack, clf, X, y)
    begun = np.array([distances(each, X, 2) for each in tries])
    assert begun[0].max() < 2e-4
    assert 0.3 < np.median(begun[1:]) < 0.7
    assert len(np.unique(begun[1:].round(5))) > 40


def test_restarts_strengthen_a_weak_attack(some):
    clf, X, y = some
    attack = PGD(2, 1.0, steps=2, step_size=0.5, n_samples=2, random_state=0)
    once = soft_votes(clf, attack.perturb(clf, X, y), y)
    often = soft_votes(clf, attack.set_params(restarts=8).perturb(clf, X, y), y)
    assert often.mean() < once.mean()


@pytest.mark.parametrize("norm", NORMS)
def test_random_starts_are_allowed_and_differ(norm):
    X = np.random.default_rng(7).uniform(0, 1, (50, 30)).astype(np.float32)
    radius = torch.linspace(0, 2, 50)
    ball = pgd.Ball.around(torch.from_numpy(X), norm, radius, (0.0, 1.0))
    start = pgd._random_start(X, ball, seed=1).numpy()
    assert (distances(X + start, X, norm) <= radius.numpy() + 1e-5).all()
    assert (X + start >= 0).all()
    assert (X + start <= 1).all()
    assert len(np.unique(start[1:], axis=0)) == 49
    assert not np.allclose(start, pgd._random_start(X, ball, seed=2).numpy())


# What a seed fixes


@pytest.mark.parametrize("restarts", [1, 2])
def test_the_attack_depends_neither_on_the_batches_nor_on_the_order(some, restarts):
    """Sums in other batches round otherwise; l2 steps carry that on, linf may flip."""
    clf, X, y = some
    attack = PGD(2, 1.0, steps=5, n_samples=16, restarts=restarts, random_state=3)
    attacked = attack.perturb(clf, X, y)
    for batch_size in (1, 16, 50, 100_000, "auto"):  # 1, 16: fewer than the draws
        other = attack.perturb(but(clf, batch_size=batch_size), X, y)
        np.testing.assert_allclose(other, attacked, atol=1e-4)
    order = np.random.default_rng(8).permutation(24)
    np.testing.assert_allclose(
        attack.perturb(clf, X[order], y[order]), attacked[order], atol=1e-4
    )
    np.testing.assert_allclose(
        attack.perturb(clf, X[5:9], y[5:9]), attacked[5:9], atol=1e-4
    )


def test_the_seed_fixes_the_attack(some):
    clf, X, y = some
    attack = PGD(2, 1.0, steps=3, n_samples=4, restarts=2, random_state=0)
    attacked = attack.perturb(clf, X, y)
    assert np.array_equal(attack.perturb(clf, X, y), attacked)
    assert np.array_equal(attack.perturb(but(clf, random_state=99), X, y), attacked)
    assert np.array_equal(attack.perturb(but(clf, n_jobs=2), X, y), attacked)
    seeded = clone(attack).set_params(random_state=np.random.RandomState(0))
    assert np.array_equal(seeded.perturb(clf, X, y), attacked)
    assert not np.allclose(seeded.perturb(clf, X, y), attacked)  # it went on
    other = clone(attack).set_params(random_state=1).perturb(clf, X, y)
    assert not np.allclose(other, attacked)


def test_global_random_numbers_are_untouched(some):
    clf, X, y = some
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    PGD(2, 1.0, steps=2, restarts=2, random_state=0).perturb(clf, X, y)
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


# What it leaves alone


def test_the_net_stays_as_it_is(digits):
    X, _, y, _ = digits
    clf = SmoothedClassifier(make_net(max_epochs=1), random_state=0).fit(X[:200], y[:200])
    module = clf.estimator_.module_
    first, *others = module.parameters()
    first.requires_grad_(False)
    others[0].grad = torch.ones_like(others[0])
    for number, each in enumerate(module.modules()):
        each.training = bool(number % 2)
    calls = []
    handle = module.register_forward_hook(lambda *_: calls.append(None))

    def state():
        parameters = list(module.parameters())
        return (
            {name: value.clone() for name, value in module.state_dict().items()},
            [None if p.grad is None else p.grad.clone() for p in parameters],
            [p.requires_grad for p in parameters],
            [each.training for each in module.modules()],
            [list(each._forward_hooks) for each in module.modules()],
            [list(each._backward_hooks) for each in module.modules()],
        )

    before = state()
    PGD(2, 0.5, steps=3, restarts=2).perturb(clf, X[:5], y[:5])
    assert calls
    assert_same(state(), before)
    # Also after an error halfway.
    handle.remove()
    module.register_forward_hook(lambda *_: 1 / 0)
    before = state()
    with pytest.raises(ZeroDivisionError):
        PGD(2, 0.5).perturb(clf, X[:5], y[:5])
    assert_same(state(), before)


def assert_same(found, expected):
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0)
    for one, two in zip(found[1], expected[1], strict=True):
        assert (one is None) == (two is None)
        assert one is None or torch.equal(one, two)
    assert found[2:] == expected[2:]


def test_the_net_is_attacked_in_evaluation_mode(digits):
    X, _, y, _ = digits

    class Dropped(nn.Sequential):
        def __init__(self, **_):
            super().__init__(nn.Flatten(), nn.Dropout(0.9), nn.Linear(64, 10))

    clf = SmoothedClassifier(make_net(module=Dropped, max_epochs=1))
    clf.set_params(random_state=0).fit(X[:200], y[:200])
    clf.estimator_.module_.train()
    attack = PGD(2, 0.5, steps=2, random_state=0)
    one, two = (attack.perturb(clf, X[:5], y[:5]) for _ in range(2))
    assert np.array_equal(one, two)
    assert clf.estimator_.module_.training


def test_inputs_of_any_kind_are_left_alone(some):
    clf, X, y = some
    attack = PGD(2, 0.5, steps=3, box=(0, 1), random_state=0)
    kept = X.copy()
    expected = attack.perturb(clf, X, y)
    assert np.array_equal(X, kept)
    frozen_X = kept.copy()
    frozen_X.flags.writeable = False
    tensor = torch.from_numpy(kept.copy()).requires_grad_()
    for given in (frozen_X, tensor, kept.astype(np.float64), kept[::-1][::-1]):
        attacked = attack.perturb(clf, given, torch.from_numpy(y))
        assert isinstance(attacked, np.ndarray)
        assert attacked.dtype == np.float32
        assert np.array_equal(attacked, expected)
    assert tensor.grad is None
    assert np.array_equal(tensor.detach(), kept)


def test_a_dataset_is_attacked_like_its_inputs(some):
    clf, X, y = some
    attack = PGD(2, 0.5, steps=3, box=(0, 1), random_state=0)
    dataset = TensorDataset(torch.from_numpy(X), torch.zeros(24))
    attacked = attack.perturb(clf, dataset, y)
    assert np.array_equal(attacked, attack.perturb(clf, X, y))


def test_a_frame_is_attacked_like_its_values():
    X = np.random.default_rng(9).uniform(-1, 1, (20, 3)).astype(np.float32)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    kept = frame.copy()
    clf = linear(X)
    expected = PGD(2, 0.5, random_state=0).perturb(clf, X, np.arange(20) % 2)
    named = SmoothedClassifier(clf.estimator, noise=clf.noise, random_state=0)
    named.fit(frame, np.arange(20) % 2)
    y = pd.Series(np.arange(20) % 2, index=np.arange(20) + 5)
    radius = pd.Series(np.full(20, 0.5))
    attacked = PGD(2, random_state=0).perturb(named, frame, y, radius=radius)
    assert np.array_equal(attacked, expected)
    pd.testing.assert_frame_equal(frame, kept)


def test_the_caller_may_have_switched_gradients_off(some):
    clf, X, y = some
    attack = PGD(2, 0.5, steps=2, restarts=2, random_state=0)
    expected = attack.perturb(clf, X, y)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert np.array_equal(attack.perturb(clf, X, y), expected)


# Nets and labels


def test_labels_of_any_kind_in_any_order_are_attacked():
    X = np.random.default_rng(10).uniform(-1, 1, (20, 6)).astype(np.float32)
    targets = np.arange(20) % 2
    attack = PGD(2, 0.5, random_state=0)
    expected = attack.perturb(linear(X), X, targets)
    assert not np.allclose(expected, attack.perturb(linear(X), X, 1 - targets))
    for classes in (["yes", "no"], [7, -3], ["b", "a"], [True, False]):
        y = np.array(classes)[targets]
        for given in (y, y.tolist(), pd.Series(y), y.astype(object)):
            attacked = attack.perturb(linear(X, classes=classes), X, given)
            assert np.array_equal(attacked, expected)


def test_a_net_that_gives_probabilities_is_attacked_like_its_logits():
    X = np.random.default_rng(11).uniform(-1, 1, (20, 6)).astype(np.float32)
    y = np.arange(20) % 2
    attack = PGD(2, 0.5, random_state=0)
    expected = attack.perturb(linear(X), X, y)
    proba = linear(X, criterion=nn.NLLLoss, proba=True)
    np.testing.assert_allclose(attack.perturb(proba, X, y), expected, atol=1e-4)


def test_a_frozen_net_is_attacked_like_the_net(some):
    clf, X, y = some
    attack = PGD(2, 0.5, steps=3, random_state=0)
    held = SmoothedClassifier(
        FrozenEstimator(clf.estimator_), noise=clf.noise_, random_state=0
    )
    held.fit(X, y)
    assert np.array_equal(attack.perturb(held, X, y), attack.perturb(clf, X, y))


def test_a_net_in_another_precision_is_attacked():
    X = np.random.default_rng(12).uniform(-1, 1, (20, 6)).astype(np.float32)
    y = np.arange(20) % 2
    attack = PGD(2, 0.5, random_state=0)
    expected = attack.perturb(linear(X), X, y)
    for dtype, close in ((torch.float64, 1e-5), (torch.bfloat16, 0.02)):
        clf = linear(X)
        clf.estimator_.module_.to(dtype)
        np.testing.assert_allclose(attack.perturb(clf, X, y), expected, atol=close)


def test_the_norm_is_the_attacks_or_the_classifiers_or_the_noises():
    X = np.random.default_rng(13).uniform(-1, 1, (20, 6)).astype(np.float32)
    y = np.arange(20) % 2
    of_noise = {2: linear(X, Gaussian(sigma=0.5)), 1: linear(X, Laplace(sigma=0.5))}

    def assert_attacked_in(norm, clf, attack):
        attacked = attack.set_params(random_state=0).perturb(clf, X, y)
        expected = PGD(norm, 0.5, random_state=0).perturb(clf, X, y)
        assert np.array_equal(attacked, expected)
        np.testing.assert_allclose(distances(attacked, X, norm), 0.5, rtol=1e-5)

    for norm, clf in of_noise.items():
        assert_attacked_in(norm, clf, PGD())
        assert_attacked_in(math.inf, but(clf, norm=math.inf), PGD())
        assert_attacked_in(2, but(clf, norm=math.inf), PGD(2))


def test_verbose_shows_a_bar(some, capsys):
    clf, X, y = some
    attack = PGD(2, 0.5, steps=1, random_state=0)
    attack.perturb(clf, X, y)
    assert not capsys.readouterr().err
    attack.perturb(but(clf, verbose=1), X, y)
    assert "attack" in capsys.readouterr().err


# What is refused


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("radius", -0.1), ("radius", math.nan), ("radius", math.inf), ("radius", "much"),
        ("radius", 1e39), ("steps", 0), ("steps", 2.0), ("step_size", 0.0),
        ("step_size", -1.0), ("step_size", math.nan), ("step_size", 1e39),
        ("n_samples", 0), ("n_samples", 1.5), ("restarts", 0), ("restarts", None),
        ("norm", 3), ("norm", "l2"), ("norm", math.nan), ("box", (1, 0)), ("box", (0, 0)),
        ("box", 1.0), ("box", (0, math.nan)), ("box", (0, 1, 2)), ("random_state", "x"),
        ("random_state", -1.5),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_named(some, name, value):
    clf, X, y = some
    with pytest.raises(ValueError, match=name):
        PGD(**{name: value}).perturb(clf, X, y)


@pytest.mark.parametrize(
    ("radius", "says"),
    [
        (np.r_[np.zeros(23), np.nan], "nan"),
        (np.r_[np.zeros(23), -1e-9], "-1e-09"),
        (np.full(24, np.inf), "inf"),
        (-1.0, "-1.0"),
        (np.zeros(23), r"\(24,\).*\(23,\)"),
        (np.zeros((24, 1)), r"\(24, 1\)"),
        (np.zeros(0), r"\(24,\).*\(0,\)"),
        ("far", "far"),
        ([[1], [1, 2]], r"\[1, 2\]"),
    ],
)
def test_a_bad_radius_is_named(some, radius, says):
    clf, X, y = some
    with pytest.raises(ValueError, match=f"radius must .*{says}"):
        PGD(2).perturb(clf, X, y, radius=radius)


def test_labels_that_do_not_fit_are_refused(some):
    clf, X, y = some
    with pytest.raises(ValueError, match="each of the 24 inputs, got 23"):
        PGD().perturb(clf, X, y[:23])
    with pytest.raises(ValueError, match=r"y has labels that .* does not know: \[11\]"):
        PGD().perturb(clf, X, np.full(24, 11))
    with pytest.raises(ValueError, match="y has labels that"):
        PGD().perturb(clf, X, y.astype(str))
    with pytest.raises(ValueError, match="y should be a 1d array"):
        PGD().perturb(clf, X, np.zeros((24, 10)))


def test_inputs_that_do_not_fit_are_refused(some):
    clf, X, y = some
    with pytest.raises(ValueError, match=r"attack's box, \(0.0, 0.5\), got .* 0 to 1"):
        PGD(box=(0, 0.5)).perturb(clf, X, y)
    with pytest.raises(ValueError, match=r"shape \(n, 1, 8, 8\)"):
        PGD().perturb(clf, X[:, :, 1:], y)
    with pytest.raises(ValueError, match="NaN"):
        PGD().perturb(clf, X * np.nan, y)
    with pytest.raises(ValueError, match="0 sample"):
        PGD().perturb(clf, X[:0], y[:0])


def test_an_unfitted_classifier_is_refused(some):
    _, X, y = some
    with pytest.raises(NotFittedError, match="SmoothedClassifier"):
        PGD().perturb(SmoothedClassifier(), X, y)
    with pytest.raises(TypeError, match="None"):
        PGD().perturb(None, X, y)


def test_a_criterion_that_does_not_say_what_outputs_are_is_refused():
    X = np.zeros((4, 6), dtype=np.float32)
    clf = linear(X, criterion=nn.MultiMarginLoss)
    with pytest.raises(TypeError, match="MultiMarginLoss, which does not say"):
        PGD().perturb(clf, X, [0, 1, 0, 1])


def test_a_net_without_gradients_is_refused():
    class Detached(Threshold):
        def forward(self, X):
            return super().forward(X.detach())

    X = np.zeros((4, 2), dtype=np.float32)
    net = frozen(Detached, [0, 1], criterion=nn.CrossEntropyLoss)
    clf = SmoothedClassifier(net, random_state=0).fit(X, [0, 1, 0, 1])
    with pytest.raises(ValueError, match="net must have gradients"):
        PGD().perturb(clf, X, [0, 1, 0, 1])


# A parameter object in scikit-learn's sense


def test_parameters_are_kept_as_they_were_given():
    generator = np.random.RandomState(0)
    params = {
        "norm": math.inf, "radius": 1, "steps": 3, "step_size": 0.1, "n_samples": 2,
        "restarts": 2, "box": (0, 1), "random_state": generator,
    }  # fmt: skip
    attack = PGD(**params)
    assert attack.get_params() == params
    copied = clone(attack)
    assert copied is not attack
    assert {**copied.get_params(), "random_state": generator} == params
    assert repr(PGD()) == "PGD()"
    assert repr(PGD(1, 0.25, restarts=3)) == "PGD(norm=1, radius=0.25, restarts=3)"


def test_an_attack_leaves_no_trace_in_itself(some):
    clf, X, y = some
    attack = PGD(2, 0.5, steps=2, random_state=0)
    before = dict(vars(attack))
    attack.perturb(clf, X, y, radius=0.1)
    assert vars(attack) == before


class NotANumber(nn.Module):
    """A net that fails under attack, or at any time."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, X):
        return self.linear(X) * float("nan")


def test_nets_that_return_nan_are_refused():
    X, y = np.zeros((2, 2), dtype=np.float32), [0, 1]
    net = frozen(NotANumber, [0, 1], criterion=nn.CrossEntropyLoss)
    clf = SmoothedClassifier(net, noise=Gaussian(sigma=0.5)).fit(X, y)
    with pytest.raises(ValueError, match="returned NaN"):
        PGD().perturb(clf, X, y)


def test_parameters_of_the_classifier_that_were_set_since_are_checked(fitted, digits):
    clf = copy.copy(fitted["Uniform"]).set_params(batch_size=0)
    with pytest.raises(ValueError, match="batch_size"):
        PGD().perturb(clf, digits[1][:2], digits[3][:2])
