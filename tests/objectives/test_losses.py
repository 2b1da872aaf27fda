"""Losses against their published formulas, in slow loops; what SmoothAdv trains on."""

import math
from functools import partial
from statistics import NormalDist

import numpy as np
import pytest
import torch
from every import quick_objectives
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from skorch import NeuralNetClassifier
from torch import nn

from rs4a.nets.outputs import log_probabilities
from rs4a.noises import Expp, Gaussian, Laplace, Pareto, Uniform
from rs4a.objectives import (
    MACER,
    Batch,
    Consistency,
    Direct,
    NoiseAugmentation,
    NoisyOutputs,
    SmoothAdv,
    Stability,
)

DIM = 64
RADIUS_NOISES = [Gaussian(sigma=0.5), Laplace(sigma=0.5), Uniform(sigma=0.5)]


# What the net answered, made up


def make_net(criterion=nn.CrossEntropyLoss, **kwargs):
    """Net whose criterion counts; its module is never asked."""
    return NeuralNetClassifier(
        partial(nn.Linear, 1, 1), criterion=criterion, **kwargs
    ).initialize()


LOGITS, PROBABILITIES = make_net(), make_net(nn.NLLLoss)


def make_answers(outputs, y, *, noise=RADIUS_NOISES[0], net=LOGITS):
    def own_loss(n_copies):
        return net.get_loss(outputs[:n_copies].flatten(0, 1), y.repeat(n_copies))

    return NoisyOutputs(outputs, y, noise, DIM, own_loss, partial(log_probabilities, net))


def draw(n_copies, n, n_classes, *, seed=0, spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    shape = (n_copies, n, n_classes)
    logits = spread * torch.randn(shape, generator=generator, dtype=torch.float64)
    return logits, torch.randint(n_classes, (n,), generator=generator)


# The formulas, a loop for every sum


def softmax(logits, beta=1.0):
    largest = max(beta * z for z in logits)
    powers = [math.exp(beta * z - largest) for z in logits]
    return [each / sum(powers) for each in powers]


def cross_entropy(rows, y, weight=None, smoothing=0.0):
    """torch's definition, of rows of probabilities: a mean that class weights weigh."""
    total, share = 0.0, 0.0
    for p, label in zip(rows, y, strict=True):
        w = 1.0 if weight is None else weight[label]
        one = -(1.0 - smoothing) * math.log(p[label])
        one -= smoothing / len(p) * sum(math.log(each) for each in p)
        total, share = total + w * one, share + w
    return total / share


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def mean_vote(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def noise_augmentation(objective, p, y, **ce):
    return np.mean([cross_entropy(copy, y, **ce) for copy in p])


def stability(objective, p, y, **ce):
    first, second = p
    divergence = np.mean([kl(a, b) for a, b in zip(first, second, strict=True)])
    return cross_entropy(first, y, **ce) + objective.weight * divergence


def direct(objective, p, y, **ce):
    """The net's criterion does not enter."""
    votes = [mean_vote([copy[j] for copy in p]) for j in range(len(y))]
    return np.mean([-math.log(v[label]) for v, label in zip(votes, y, strict=True)])


def consistency(objective, p, y, **ce):
    """Jeong and Shin, equations 10 to 12."""
    divergences, entropies = [], []
    for j in range(len(y)):
        v = mean_vote([copy[j] for copy in p])
        divergences.append(np.mean([kl(v, copy[j]) for copy in p]))
        entropies.append(-sum(each * math.log(each) for each in v))
    return (
        np.mean([cross_entropy(copy, y, **ce) for copy in p])
        + objective.weight * np.mean(divergences)
        + objective.entropy_weight * np.mean(entropies)
    )


def radius(noise, top, runner_up):
    """Zhai et al. in l2; l1 radii of the other noises."""
    if isinstance(noise, Gaussian):

        def quantile(p):
            return (
                NormalDist().inv_cdf(p) if 0 < p < 1 else math.copysign(math.inf, p - 0.5)
            )

        return noise.sigma / 2 * (quantile(top) - quantile(runner_up))
    if isinstance(noise, Uniform):
        return noise.sigma * math.sqrt(3) * (top - runner_up)
    return -noise.sigma / math.sqrt(2) * math.log(2 * (1 - top))


def macer(objective, p, y, noise=RADIUS_NOISES[0], **ce):
    hinges = []
    for j, label in enumerate(y):
        # softmax(beta z) is what the powers p^beta are in proportion to.
        v = mean_vote(
            [softmax([math.log(each) for each in copy[j]], objective.beta) for copy in p]
        )
        top, runner_up = sorted(v)[:-3:-1]
        aim = objective.gamma * noise.sigma / 2
        right = v.index(top) == label
        hinges.append(max(0.0, aim - radius(noise, top, runner_up)) if right else 0.0)
    return direct(objective, p, y) + objective.weight * np.mean(hinges)


FORMULAS = {
    NoiseAugmentation: noise_augmentation, Stability: stability, Direct: direct,
    Consistency: consistency, MACER: macer,
}  # fmt: skip


def by_formula(objective, outputs, y, *, probabilities=False, **options):
    if isinstance(objective, SmoothAdv):
        objective = objective.objective or NoiseAugmentation()
    p = outputs.tolist()
    if not probabilities:
        p = [[softmax(row) for row in copy] for copy in p]
    return FORMULAS[type(objective)](objective, p, y.tolist(), **options)


LOSSES = [
    (NoiseAugmentation(n_samples=3), 3),
    (NoiseAugmentation(), 1),
    (Stability(weight=2.5), 2),
    (Direct(n_samples=4), 4),
    (Direct(n_samples=1), 1),
    (Consistency(weight=3.0, entropy_weight=0.7, n_samples=3), 3),
    (Consistency(), 2),
    (MACER(n_samples=4, weight=1.5, beta=2.0), 4),
    (MACER(n_samples=2), 2),
    (SmoothAdv(n_samples=3), 3),
    (SmoothAdv(objective=Stability()), 2),
    (SmoothAdv(objective=Consistency(n_samples=4)), 4),
    (SmoothAdv(objective=MACER(n_samples=2, beta=1.0)), 2),
]
each_loss = pytest.mark.parametrize(("objective", "n_copies"), LOSSES, ids=str)


@each_loss
@given(
    n=st.integers(1, 6), n_classes=st.integers(2, 10), seed=st.integers(0, 2**16),
    spread=st.sampled_from([0.01, 1.0, 5.0]),
)  # fmt: skip
@settings(max_examples=15)
def test_losses_follow_their_formulas(objective, n_copies, n, n_classes, seed, spread):
    outputs, y = draw(n_copies, n, n_classes, seed=seed, spread=spread)
    # Copies that contradict are a tie: then no class is the right one to push.
    first, second = (16.0 * outputs).softmax(dim=2).mean(dim=0).topk(2, dim=1).values.T
    assume((first - second).min() > 1e-9)
    loss = objective.loss(make_answers(outputs, y))
    assert loss.shape == ()
    assert loss.item() == pytest.approx(by_formula(objective, outputs, y), rel=1e-6)


@each_loss
def test_losses_of_nets_that_output_probabilities(objective, n_copies):
    outputs, y = draw(n_copies, 5, 4)
    loss = objective.loss(make_answers(outputs.softmax(dim=2), y, net=PROBABILITIES))
    assert loss.item() == pytest.approx(by_formula(objective, outputs, y), rel=1e-6)
    assert loss.item() == pytest.approx(
        by_formula(objective, outputs.softmax(dim=2), y, probabilities=True), rel=1e-6
    )


@each_loss
@pytest.mark.parametrize("axis", [1, -1])
def test_losses_of_nets_that_name_their_nonlinearity(objective, n_copies, axis):
    """One whose outputs are twice the logits, by a criterion that halves them.

    skorch hands outputs (n, n_classes) over, so that axis 1 is that of the classes.
    """
    net = make_net(predict_nonlinearity=lambda outputs: (0.5 * outputs).softmax(dim=axis))
    net.criterion_.forward = lambda outputs, y: nn.functional.cross_entropy(outputs / 2, y)
    outputs, y = draw(n_copies, 5, 4)
    loss = objective.loss(make_answers(2.0 * outputs, y, net=net))
    assert loss.item() == pytest.approx(by_formula(objective, outputs, y), rel=1e-6)


@each_loss
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_net_s_own_loss_keeps_its_label_smoothing(objective, n_copies, smoothing):
    outputs, y = draw(n_copies, 6, 3)
    net = make_net(criterion__label_smoothing=smoothing)
    expected = by_formula(objective, outputs, y, smoothing=smoothing)
    loss = objective.loss(make_answers(outputs, y, net=net))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@each_loss
def test_the_net_s_own_loss_keeps_its_class_weights(objective, n_copies):
    outputs, y = draw(n_copies, 6, 3)
    weight = torch.tensor([0.1, 1.0, 5.0], dtype=torch.float64)
    loss = objective.loss(make_answers(outputs, y, net=make_net(criterion__weight=weight)))
    expected = by_formula(objective, outputs, y, weight=weight.tolist())
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    plain = objective.loss(make_answers(outputs, y)).item()
    inner = getattr(objective, "objective", objective)
    # Direct and MACER are losses of the votes: the criterion does not enter.
    assert (loss.item() == plain) == isinstance(inner, Direct | MACER)


@pytest.mark.parametrize("noise", RADIUS_NOISES, ids=str)
@pytest.mark.parametrize("gamma", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("beta", [1.0, 16.0])
def test_macer_s_radius_is_the_noise_s(noise, gamma, beta):
    objective = MACER(n_samples=8, weight=3.0, gamma=gamma, beta=beta)
    losses = []
    for seed in range(5):
        outputs, y = draw(8, 20, 3, seed=seed)
        losses.append(objective.loss(make_answers(outputs, y, noise=noise)).item())
        expected = by_formula(objective, outputs, y, noise=noise)
        assert losses[-1] == pytest.approx(expected, rel=1e-6)
        assert losses[-1] > Direct().loss(make_answers(outputs, y)).item()


@pytest.mark.parametrize("noise", RADIUS_NOISES, ids=str)
def test_soft_radius_is_the_certified_one(noise):
    """With all other votes at the runner-up."""
    top = np.linspace(0.501, 0.9999, 50)
    soft = noise.soft_radius(torch.from_numpy(top), torch.from_numpy(1 - top), dim=DIM)
    certified = noise.radius(top, norm=noise.norms[0], dim=DIM)
    np.testing.assert_allclose(soft, certified, rtol=1e-6)


def test_macer_leaves_wrong_inputs_and_closed_hinges_alone():
    """Rows: wrong; right and short of the radius; right with more than enough."""
    outputs = torch.tensor([[[2.0, 0.0], [0.02, 0.0], [0.3, 0.0]]] * 2).double()
    y = torch.tensor([1, 0, 0])
    outputs.requires_grad_()
    objective = MACER(n_samples=2, gamma=2.0, weight=1.0)
    answers = make_answers(outputs, y)
    (objective.loss(answers) - Direct().loss(answers)).backward()
    changed = outputs.grad.abs().amax(dim=(0, 2)) > 0
    assert changed.tolist() == [False, True, False]
    assert (outputs.grad[:, 1, 0] < 0).all()  # less loss by more of the true class


# Gradients, and logits that are far out


@each_loss
@pytest.mark.parametrize("net", [LOGITS, PROBABILITIES], ids=["logits", "probabilities"])
def test_gradients_are_those_of_finite_differences(objective, n_copies, net):
    logits, y = draw(n_copies, 4, 3, seed=3, spread=0.5)  # no hinge near its kink

    def loss(logits):
        outputs = logits if net is LOGITS else logits.softmax(dim=2)
        return objective.loss(make_answers(outputs, y, net=net))

    assert torch.autograd.gradcheck(loss, logits.requires_grad_(), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("noise", RADIUS_NOISES, ids=str)
def test_gradients_of_macer_under_every_noise(noise):
    logits, y = draw(3, 6, 3, seed=5, spread=0.2)
    y = logits.mean(dim=0).argmax(dim=1)  # most are right: the hinge is open

    def loss(logits):
        return MACER(n_samples=3, beta=4.0).loss(make_answers(logits, y, noise=noise))

    assert torch.autograd.gradcheck(loss, logits.requires_grad_(), atol=1e-6, rtol=1e-4)


def extremes(n_copies):
    """Inputs: sure and right, sure and wrong, undecided, copies that contradict."""
    logits = torch.zeros(n_copies, 5, 3)
    logits[:, 0, 0] = 1e4
    logits[:, 1, 1] = 1e4
    logits[:, 3, 0] = -1e4
    logits[::2, 4, 0] = 1e4
    logits[1::2, 4, 1] = 1e4
    return logits, torch.zeros(5, dtype=torch.int64)


@each_loss
@pytest.mark.parametrize("shift", [0.0, 1e4])
@pytest.mark.parametrize("noise", RADIUS_NOISES, ids=str)
@pytest.mark.parametrize("net", [LOGITS, PROBABILITIES], ids=["logits", "probabilities"])
def test_extreme_logits_keep_losses_and_gradients_finite(
    objective, n_copies, shift, noise, net
):
    outputs, y = extremes(n_copies)
    outputs = (outputs + shift) if net is LOGITS else outputs.softmax(dim=2)
    outputs.requires_grad_()
    loss = objective.loss(make_answers(outputs, y, noise=noise, net=net))
    loss.backward()
    assert loss.isfinite()
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_infinite_radii_need_no_push(dtype):
    """An infinite radius has no gradient; its neighbour in the batch has."""
    outputs = torch.zeros(2, 2, 3, dtype=dtype)
    outputs[:, 0, 0], outputs[:, 1, 0] = 1e4, 0.05
    y = torch.zeros(2, dtype=torch.int64)
    gradients = []
    for rows in ([0, 1], [1]):
        part = outputs[:, rows].clone().requires_grad_()
        MACER(n_samples=2).loss(make_answers(part, y[rows])).backward()
        gradients.append(part.grad)
    both, alone = gradients
    assert (both[:, 0] == 0).all()
    torch.testing.assert_close(both[:, 1], alone[:, 0] / 2)
    assert (alone != 0).all()


@pytest.mark.parametrize("noise", RADIUS_NOISES, ids=str)
def test_nearly_infinite_radii_keep_gradients_finite(noise):
    """Sharpened votes that round to 1, or just do not."""
    margins = torch.linspace(0.0, 8.0, 2001)
    outputs = torch.stack([margins, torch.zeros_like(margins)], dim=1).repeat(2, 1, 1)
    outputs.requires_grad_()
    y = torch.zeros(2001, dtype=torch.int64)
    loss = MACER(n_samples=2, gamma=40.0).loss(make_answers(outputs, y, noise=noise))
    loss.backward()
    assert loss.isfinite()
    assert outputs.grad.isfinite().all()
    assert outputs.grad.abs().max() < 100.0  # 12 * 0.5 * a few, over 2001


# What the net is trained on


DRAWS = []


class Keeping:
    """Noise that keeps its draws."""

    def _sample_at_scale(self, scale, x, generator, out):
        noisy = super()._sample_at_scale(scale, x, generator, out)
        DRAWS.append(noisy - x)
        return noisy


class Recorded(Keeping, Gaussian):
    pass


class RecordedUniform(Keeping, Uniform):
    pass


@pytest.fixture(autouse=True)
def draws():
    DRAWS.clear()
    torch.manual_seed(0)
    return DRAWS


class Linear:
    """Logarithms of a linear net's probabilities; keeps what it was asked."""

    def __init__(self, n_classes=4, *, bends=False):
        generator = torch.Generator().manual_seed(1)
        self.W = torch.randn(DIM, n_classes, generator=generator, dtype=torch.float64)
        self.W.requires_grad_()
        self.bends = bends
        self.asked = []

    def __call__(self, X):
        self.asked.append(X.detach().clone())
        logits = X.flatten(1) @ self.W
        return torch.log_softmax(logits.sin() if self.bends else logits, dim=1)


def make_batch(net, *, noise=None, epoch=1, n=7):
    generator = torch.Generator().manual_seed(2)
    X = torch.rand(n, 1, 8, 8, generator=generator, dtype=torch.float64)
    y = torch.arange(n) % 4
    return Batch(X, y, noise or Recorded(sigma=0.3), epoch, net)


def attack(objective, batch):
    """Copies, the draws in them, and what the attack added."""
    copies = objective.noisy_copies(batch)
    shape = (-1, *batch.X.shape)
    drawn = torch.cat([each.reshape(shape) for each in DRAWS])[: len(copies)]
    deltas = copies - drawn - batch.X
    torch.testing.assert_close(deltas, deltas[:1].expand_as(deltas), atol=1e-12, rtol=0)
    return copies, drawn, deltas[0]


def soft_votes_loss(net, X, drawn, y):
    """-log of the mean probability of the class, in a loop over draws."""
    p = [net(X + each).exp()[range(len(y)), y] for each in drawn]
    return -torch.log(sum(p) / len(p)).detach()


def distance(delta, norm):
    return torch.linalg.vector_norm(delta.flatten(1), norm, dim=1)


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("box", [None, (0, 1)])
def test_attacks_stay_within_radius_and_box(norm, box):
    batch = make_batch(Linear())
    objective = SmoothAdv(radius=0.7, norm=norm, box=box, warmup=1)
    _, drawn, delta = attack(objective, batch)
    assert (distance(delta, norm) <= 0.7 * (1 + 1e-6)).all()
    attacked = batch.X + delta
    outside = ((attacked < -1e-9) | (attacked > 1 + 1e-9)).any()
    assert not outside if box else outside
    # Steps of 2 radius in all reach the rim, where no box is in the way.
    if box is None:
        torch.testing.assert_close(distance(delta, norm), torch.full((7,), 0.7).double())
    clean, moved = (
        soft_votes_loss(batch.log_proba, X, drawn, batch.y) for X in (batch.X, attacked)
    )
    assert (moved > clean).all()


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("warmup", [1, 4])
def test_the_radius_grows_over_the_warm_up(norm, warmup):
    for epoch in range(1, 7):
        DRAWS.clear()
        objective = SmoothAdv(radius=0.4, norm=norm, warmup=warmup)
        _, _, delta = attack(objective, make_batch(Linear(), epoch=epoch))
        expected = 0.4 * min(1.0, epoch / warmup)
        assert distance(delta, norm).tolist() == pytest.approx([expected] * 7)


@pytest.mark.parametrize("norm", [1, 2, math.inf])
@pytest.mark.parametrize("box", [None, (0, 1)])
def test_radius_0_trains_on_clean_inputs(norm, box):
    """The paper's own code divided by 0 here."""
    batch = make_batch(Linear())
    copies, drawn, delta = attack(SmoothAdv(radius=0, norm=norm, box=box), batch)
    assert torch.equal(copies, batch.X + drawn)
    assert (delta.abs() < 1e-12).all()


def test_inputs_without_gradient_stay_where_they_are():
    net = Linear()
    net.W = torch.zeros_like(net.W)
    for norm in (1, 2, math.inf):
        DRAWS.clear()
        _, _, delta = attack(SmoothAdv(radius=1.0, norm=norm, warmup=1), make_batch(net))
        assert (delta.abs() < 1e-12).all()


@pytest.mark.parametrize("bends", [False, True])
@pytest.mark.parametrize("norm", [2, math.inf])
def test_attacks_are_projected_gradient_ascent(norm, bends):
    """Step by step, with gradients by central differences."""
    net, steps, radius = Linear(bends=bends), 3, 0.2
    batch = make_batch(net, n=2)
    objective = SmoothAdv(radius=radius, norm=norm, warmup=1, steps=steps, n_samples=3)
    _, drawn, found = attack(objective, batch)
    delta = torch.zeros_like(batch.X)
    for _ in range(steps):
        gradient = torch.zeros_like(delta)
        for k in range(DIM):
            h = torch.zeros(1, DIM, dtype=torch.float64)
            h[0, k] = 1e-5
            up, down = (
                soft_votes_loss(
                    net, batch.X + delta + s * h.view(1, 1, 8, 8), drawn, batch.y
                )
                for s in (1, -1)
            )
            gradient.flatten(1)[:, k] = (up - down) / 2e-5
        for j in range(2):
            step = 2 * radius / steps
            if norm == 2:
                delta[j] += step * gradient[j] / gradient[j].norm()
                delta[j] *= min(1.0, radius / delta[j].norm().item())
            else:
                delta[j] = (delta[j] + step * gradient[j].sign()).clamp(-radius, radius)
    torch.testing.assert_close(found, delta, atol=1e-6, rtol=0)


def test_attack_and_training_share_their_draws():
    batch = make_batch(Linear())
    _, drawn, _ = attack(SmoothAdv(n_samples=3, steps=2, warmup=1), batch)
    first, second = batch.log_proba.asked  # a pass a step
    assert torch.equal(first.unflatten(0, (3, 7)), batch.X + drawn)
    assert not torch.equal(first, second)
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize(
    ("inner", "n_copies"),
    [
        (None, 3), (Stability(), 2), (Consistency(n_samples=5), 5), (MACER(), 16),
        (Direct(n_samples=1), 1), (NoiseAugmentation(), 1),
    ],
)  # fmt: skip
def test_the_inner_objective_says_how_many_copies_are_trained_on(inner, n_copies):
    batch = make_batch(Linear())
    objective = SmoothAdv(radius=0.5, warmup=1, n_samples=3, objective=inner)
    copies, drawn, delta = attack(objective, batch)
    assert copies.shape == (n_copies, *batch.X.shape)
    assert distance(delta, 2).tolist() == pytest.approx([0.5] * 7)
    (asked, *_) = batch.log_proba.asked
    assert len(asked) == 3 * 7  # the attack sees n_samples draws, whatever the inner asks
    assert len({tuple(each.flatten().tolist()) for each in drawn}) == n_copies


def test_norm_of_the_attack_is_the_noise_s_own():
    deltas = []
    for norm in (None, 1):
        DRAWS.clear()
        torch.manual_seed(0)
        batch = make_batch(Linear(), noise=RecordedUniform(sigma=0.3))
        deltas.append(attack(SmoothAdv(norm=norm, warmup=1), batch)[2])
    assert torch.equal(*deltas)
    assert distance(deltas[0], 1).tolist() == pytest.approx([0.5] * 7)


def test_attacks_leave_inputs_and_gradients_alone():
    net = Linear()
    batch = make_batch(net)
    before = batch.X.clone()
    copies = SmoothAdv(warmup=1).noisy_copies(batch)
    assert torch.equal(batch.X, before)
    assert net.W.grad is None
    assert net.W.requires_grad
    assert not copies.requires_grad  # else a batch would keep the attack's graph


def test_attacks_need_no_gradient_mode():
    """Validation calls them where gradients may be off."""
    with torch.no_grad():
        _, _, delta = attack(SmoothAdv(radius=0.5, warmup=1), make_batch(Linear()))
    assert distance(delta, 2).tolist() == pytest.approx([0.5] * 7)


@pytest.mark.parametrize(
    "objective",
    [each for each in quick_objectives(n_samples=4) if not isinstance(each, SmoothAdv)],
    ids=str,
)
def test_copies_are_the_inputs_in_their_order_and_independent_noise(objective):
    batch = make_batch(Linear())
    copies = objective.noisy_copies(batch)
    (drawn,) = DRAWS
    assert copies.shape == (objective.n_samples, *batch.X.shape)
    torch.testing.assert_close(copies, batch.X + drawn.view_as(copies))
    assert len(torch.unique(drawn)) == drawn.numel()


# Noise that an objective cannot train under


@pytest.mark.parametrize("objective", [MACER(), SmoothAdv(objective=MACER())], ids=str)
def test_macer_says_which_noise_it_takes(objective):
    for noise in RADIUS_NOISES:
        objective.check_noise(noise)
    for noise in (Pareto(sigma=1.0), Expp(sigma=1.0)):
        with pytest.raises(
            ValueError, match=r"MACER needs noise .* Gaussian or Laplace .* got \w+\("
        ):
            objective.check_noise(noise)


def test_smooth_adv_takes_no_objective_that_chooses_the_inputs():
    message = r"objective of SmoothAdv .* must leave the inputs to it.* Got SmoothAdv\(\)"
    with pytest.raises(ValueError, match=message):
        SmoothAdv(objective=SmoothAdv()).check_noise(Gaussian(sigma=1.0))


@pytest.mark.parametrize("objective", quick_objectives(n_samples=2), ids=str)
def test_excluded_classes_have_probability_0(objective):
    """Logits of -inf, as masks have them: the loss is that without the class."""
    logits, y = draw(2, 5, 4)
    logits = logits.requires_grad_()
    mask = torch.zeros(5, dtype=torch.float64).index_fill(0, torch.tensor([4]), -math.inf)
    masked = torch.cat([logits, torch.zeros(2, 5, 1)], dim=2) + mask
    loss = objective.loss(make_answers(masked, y))
    expected = objective.loss(make_answers(logits, y))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])
