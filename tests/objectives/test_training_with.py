"""Every objective with all that skorch can do, and with all that can go wrong."""

import copy
import math
import pickle
import warnings
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import make_net
from every import quick_objectives
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
)
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from skorch.scoring import loss_scoring
from skorch.utils import noop
from torch import nn
from torch.utils.checkpoint import checkpoint

from rs4a import SmoothedClassifier, objectives
from rs4a.nets.outputs import log_probabilities
from rs4a.noises import Gaussian, Laplace, Pareto, Uniform
from rs4a.objectives import (
    MACER,
    Consistency,
    Direct,
    NoiseAugmentation,
    NoisyOutputs,
    Objective,
    SmoothAdv,
    Stability,
)
from rs4a.training.train import train

OBJECTIVES = [
    *quick_objectives(n_samples=3, warmup=1, steps=2),
    SmoothAdv(warmup=1, steps=2, objective=Consistency()),
]
each_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
ATTACKS = [each for each in OBJECTIVES if isinstance(each, SmoothAdv)]
attacks = pytest.mark.parametrize("objective", ATTACKS, ids=str)


@pytest.fixture(scope="module")
def data(digits):
    return digits[0][:128], digits[2][:128].astype(np.int64)


# Nets


def net_of(cls=NeuralNetClassifier, module=None, **kwargs):
    """A net of two batches an epoch."""
    if module is not None:  # without the parameters of conftest's MLP
        kwargs = {"criterion": nn.CrossEntropyLoss, "train_split": None, "verbose": 0,
                  "callbacks__print_log": None, **kwargs}  # fmt: skip
        return cls(module, **{"max_epochs": 2, "batch_size": 64, **kwargs})
    params = make_net(**{"max_epochs": 2, "batch_size": 64, **kwargs}).get_params(
        deep=False
    )
    return cls(**params)


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, X):
        return self.linear(X.flatten(1))


class Double(Linear):
    def __init__(self):
        super().__init__()
        self.double()

    def forward(self, X):
        assert X.dtype == torch.float64
        return super().forward(X)


class TwoOutputs(Linear):
    def forward(self, X):
        return super().forward(X), X.flatten(1).mean(dim=1)


class BatchNorm(nn.Module):
    """With dropout, a frozen layer, and a part that stays in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.norm, self.frozen = nn.BatchNorm1d(64), nn.BatchNorm1d(64)
        self.body = nn.Sequential(nn.Linear(64, 32), nn.Dropout(0.3), nn.Linear(32, 10))
        for parameter in self.frozen.parameters():
            parameter.requires_grad_(False)
        self.train()

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, X):
        return self.body(self.frozen(self.norm(X.flatten(1))))


class OwnLoss(NeuralNetClassifier):
    """Wants every argument, and as many inputs and outputs as labels."""

    def get_loss(self, y_pred, y_true, X, *args, **kwargs):
        outputs, means = y_pred
        assert len(outputs) == len(y_true) == len(X) == len(means)
        torch.testing.assert_close(means, X.flatten(1).mean(dim=1))
        return super().get_loss(outputs, y_true, X, *args, **kwargs)


class OwnStep(NeuralNetClassifier):
    """Hands the inputs to get_loss by position, which skorch does by name."""

    def train_step_single(self, batch, **fit_params):
        self._set_training(True)
        X, y = batch
        y_pred = self.infer(X)
        loss = self.get_loss(y_pred, y, X, True)
        loss.backward()
        self.n_steps_ = getattr(self, "n_steps_", 0) + 1
        return {"loss": loss, "y_pred": y_pred}

    def get_loss(self, y_pred, y_true, X=None, training=False):
        assert len(y_pred) == len(y_true) == len(X)
        return super().get_loss(y_pred, y_true, X=X, training=training)


class Accumulating(NeuralNetClassifier):
    """Steps after every second batch, as in skorch's FAQ."""

    def get_loss(self, *args, **kwargs):
        return super().get_loss(*args, **kwargs) / 2

    def train_step(self, batch, **fit_params):
        n_batches = len(self.history[-1, "batches"])
        step = self.train_step_single(batch, **fit_params)
        if n_batches % 2 == 0:
            self.optimizer_.step()
            self.optimizer_.zero_grad()
            self.n_steps_ = getattr(self, "n_steps_", 0) + 1
        return step


# Training, and what must be as before


def hooks(net):
    return [
        hook
        for module in net.module_.modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
        for hook in getattr(module, kind)
    ]


def modes(net):
    return [module.training for module in net.module_.modules()]


def weights(net):
    return [each.detach().clone() for each in net.module_.parameters()]


def run(net, objective, data, *, noise=None, seed=0):
    noise = noise or Gaussian(sigma=0.2)
    X, y = data
    return train(net, X, y, noise=noise, objective=objective, n_classes=10, seed=seed)


def trains(net, objective, data):
    """Train; see that the weights changed, and nothing else."""
    net.initialize()
    plain_class, params, start = type(net), net.get_params(deep=False), weights(net)
    requires_grad = [each.requires_grad for each in net.module_.parameters()]
    settings = copy.deepcopy(objective.get_params())
    torch.manual_seed(11)
    np.random.seed(11)
    states = torch.get_rng_state(), str(np.random.get_state())
    assert run(net, objective, data) is net
    assert torch.equal(torch.get_rng_state(), states[0])
    assert str(np.random.get_state()) == states[1]
    assert type(net) is plain_class
    assert "smoothing_" not in vars(net)
    assert hooks(net) == []
    assert [each.requires_grad for each in net.module_.parameters()] == requires_grad
    after = net.get_params(deep=False)
    assert after.keys() == params.keys()
    changed = [name for name, value in params.items() if after[name] is not value]
    assert [name for name in changed if not name.startswith("_")] == []  # accelerate's own
    assert str(objective.get_params()) == str(settings)
    validated = net.train_split is not None
    assert net.module_.training is not validated  # as skorch leaves them
    assert np.isfinite(net.history[:, "train_loss"]).all()
    assert all(each.isfinite().all() for each in net.module_.parameters())
    moved = [not torch.equal(*each) for each in zip(start, weights(net), strict=True)]
    assert moved == requires_grad
    return net


@each_objective
def test_scores_and_early_stopping(objective, data):
    net = net_of(
        train_split=ValidSplit(4),
        max_epochs=6,
        lr=0.0,
        optimizer=torch.optim.SGD,
        callbacks=[
            EpochScoring("accuracy", on_train=True, name="train_acc"),
            EpochScoring(loss_scoring, name="clean_loss"),
            ("stop", EarlyStopping("clean_loss", patience=2, sink=noop)),
        ],
    ).initialize()
    start = weights(net)
    run(net, objective, data)
    assert all(torch.equal(*each) for each in zip(start, weights(net), strict=True))
    assert len(net.history) == 3  # of 6: at a rate of 0 patience ends
    # On clean inputs, by the net's own loss, whatever the objective.
    clean = net.history[:, "clean_loss"]
    X, y = data
    _, valid = net.get_split_datasets(X, y)
    assert clean == pytest.approx([loss_scoring(net, valid, None)] * 3)


@each_objective
def test_scores_of_what_was_learnt(objective, data):
    torch.manual_seed(0)
    net = net_of(
        train_split=ValidSplit(4),
        max_epochs=15,
        callbacks=[EpochScoring("accuracy", on_train=True, name="train_acc")],
    )
    trains(net, objective, data)
    # A score that mixed up copies and labels would be 0.1.
    assert net.history[-1, "train_acc"] > 0.4
    assert net.history[-1, "valid_acc"] > 0.3
    assert net.score(*data) > 0.4


@each_objective
def test_checkpoints(objective, data, tmp_path):
    save = Checkpoint(dirname=tmp_path, monitor=None, f_pickle="net.pkl")
    net = trains(net_of(callbacks=[save]), objective, data)
    saved = pickle.loads((tmp_path / "net.pkl").read_bytes())
    assert type(saved) is NeuralNetClassifier
    assert "smoothing_" not in vars(saved)
    loaded = net_of().initialize()
    loaded.load_params(tmp_path / "params.pt", f_optimizer=tmp_path / "optimizer.pt")
    for other in (saved, loaded):
        np.testing.assert_array_equal(
            other.predict_proba(data[0]), net.predict_proba(data[0])
        )
    saved.partial_fit(*data)
    assert len(saved.history) == 4


@each_objective
def test_learning_rate_schedules(objective, data):
    net = net_of(callbacks=[LRScheduler("StepLR", step_size=1, gamma=0.1)])
    trains(net, objective, data)
    assert net.history[:, "event_lr"] == pytest.approx([0.01, 0.001])


@each_objective
def test_plateau_schedules_follow_the_validation_loss(objective, data):
    schedule = LRScheduler("ReduceLROnPlateau", monitor="valid_loss", patience=0)
    net = net_of(callbacks=[schedule], train_split=ValidSplit(4), max_epochs=3)
    trains(net, objective, data)


@each_objective
@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_accelerate(objective, mixed_precision, data):
    accelerate = pytest.importorskip("accelerate")
    from skorch.hf import AccelerateMixin

    class Accelerated(AccelerateMixin, NeuralNetClassifier):
        pass

    dtypes = set()

    class Probing(Linear):
        def forward(self, X):
            outputs = super().forward(X)
            if outputs.requires_grad:
                dtypes.add((self.training, outputs.dtype))
            return outputs

    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    try:
        net = Accelerated(
            Probing,
            criterion=nn.CrossEntropyLoss,
            accelerator=accelerate.Accelerator(mixed_precision=mixed_precision, cpu=True),
            callbacks__print_log__sink=noop,
            train_split=None,
            verbose=0,
            max_epochs=2,
            batch_size=64,
        )
        trains(net, objective, data)
        assert not net._wrapped_with_accelerator
        expected = torch.float32 if mixed_precision == "no" else torch.bfloat16
        # In the attack as in training.
        attacked = isinstance(objective, SmoothAdv)
        assert dtypes == {(True, expected)} | ({(False, expected)} if attacked else set())
        noise = Gaussian(sigma=0.2)
        net.set_params(lr=0.2, max_epochs=8)
        clf = SmoothedClassifier(net, noise=noise, objective=objective, random_state=0)
        assert clf.fit(*data).score(*data) > 0.15
    finally:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


@each_objective
def test_data_loaders_with_workers(objective, data):
    with warnings.catch_warnings():
        # Python 3.12 warns of forks where torch has threads.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded")
        trains(net_of(iterator_train__num_workers=2, max_epochs=1), objective, data)


@each_objective
def test_own_losses_of_nets_that_return_tuples(objective, data):
    net = net_of(OwnLoss, TwoOutputs, train_split=ValidSplit(4))
    trains(net, objective, data)


@each_objective
def test_own_steps(objective, data):
    net = trains(net_of(OwnStep), objective, data)
    assert net.n_steps_ == 4


@each_objective
def test_gradient_accumulation(objective, data):
    net = trains(net_of(Accumulating, batch_size=32), objective, data)
    assert net.n_steps_ == 4


@each_objective
def test_gradient_clipping(objective, data):
    net = net_of(callbacks=[GradientNormClipping(1e-3)])
    trains(net, objective, data)
    norms = [each.grad.norm() for each in net.module_.parameters()]
    assert torch.stack(norms).norm() <= 1e-3 * (1 + 1e-4)


@each_objective
def test_closures_of_lbfgs(objective, data):
    """Under one draw and one attack, else its line search would not converge."""
    net = net_of(
        optimizer=torch.optim.LBFGS, optimizer__line_search_fn="strong_wolfe",
        optimizer__max_iter=3, lr=1.0, batch_size=128,
    )  # fmt: skip
    trains(net, objective, data)


@each_objective
@pytest.mark.parametrize("module", [Double, BatchNorm])
def test_modules(objective, module, data):
    net = net_of(module=module, train_split=ValidSplit(4))
    trains(net, objective, data)


@each_objective
def test_nets_that_return_tuples(objective, data):
    """Losses of the votes need no loss of the user's own, others do, as in skorch."""
    net = net_of(module=TwoOutputs)
    if isinstance(objective, Direct | MACER):
        trains(net, objective, data)
    else:
        with pytest.raises(TypeError, match="tuple"):
            run(net, objective, data)


@each_objective
def test_probability_nets(objective, data):
    class Softmax(Linear):
        def forward(self, X):
            return super().forward(X).softmax(dim=1)

    net = net_of(module=Softmax, criterion=nn.NLLLoss, train_split=ValidSplit(4))
    trains(net, objective, data)


@each_objective
def test_the_same_seed_gives_the_same_weights(objective, data):
    options = {"module": BatchNorm, "iterator_train__shuffle": True}
    one, two, other = (run(net_of(**options), objective, data, seed=s) for s in (3, 3, 4))
    assert all(torch.equal(*each) for each in zip(weights(one), weights(two), strict=True))
    assert not torch.equal(weights(one)[-1], weights(other)[-1])
    assert one.history[:, "train_loss"] == two.history[:, "train_loss"]


# The loss that skorch records is the objective's


PASSES = []


class Traced(Linear):
    """Keeps what it saw and said: in the attack, in training or in validation."""

    def forward(self, X):
        outputs = super().forward(X)
        mode = "train" if self.training else "attack"
        mode = mode if outputs.requires_grad else "valid"
        PASSES.append((mode, X.detach().clone(), outputs.detach().clone()))
        return outputs


class Trace:
    """What a linear net saw and said, pass by pass."""

    module, passes = Traced, PASSES

    def __init__(self):
        PASSES.clear()

    def of(self, mode):
        return [(X, outputs) for kind, X, outputs in self.passes if kind == mode]


def deltas(trace, n):
    """What each batch's attack added: against the first look at its draws, unmoved."""
    first, found = None, []
    for kind, X, _ in trace.passes[1:]:  # after the check of outputs
        if kind == "attack":
            first = X if first is None else first
        else:
            found.append((X[:n] - first[:n]).flatten(1))
            first = None
    return found


@each_objective
@pytest.mark.parametrize("part", ["train", "valid"])
def test_the_recorded_loss_is_the_objective_s(objective, part, data):
    trace = Trace()
    X, y = data
    valid = Dataset(X[:40], y[:40])
    net = net_of(
        module=trace.module, max_epochs=1, batch_size=128,
        train_split=predefined_split(valid),
    )  # fmt: skip
    noise = Laplace(sigma=0.2)
    run(net, objective, data, noise=noise)
    *_, (noisy, outputs) = trace.of(part)
    labels = torch.from_numpy(y if part == "train" else y[:40])
    n = len(labels)
    n_copies = len(outputs) // n

    def own_loss(k):
        return nn.functional.cross_entropy(outputs[: k * n], labels.repeat(k))

    answers = NoisyOutputs(
        outputs.unflatten(0, (n_copies, n)), labels, noise, 64, own_loss,
        lambda each: log_probabilities(net, each),
    )  # fmt: skip
    expected = objective.loss(answers).item()
    assert net.history[-1, f"{part}_loss"] == pytest.approx(expected)
    # Row i + n k is copy k of input i.
    errors = noisy.unflatten(0, (n_copies, n)) - torch.from_numpy(X[:n])
    assert errors.std() == pytest.approx(0.2, rel=0.2)
    assert not torch.equal(errors[0], errors[-1])


@attacks
def test_validation_is_attacked(objective, data):
    trace = Trace()
    valid = Dataset(data[0][:40], data[1][:40])
    net = net_of(
        module=trace.module, max_epochs=1, batch_size=128,
        train_split=predefined_split(valid),
    )  # fmt: skip
    run(net, clone(objective).set_params(radius=0.3, norm=math.inf), data)
    in_training, in_validation = deltas(trace, 40)
    for delta in (in_training, in_validation):
        assert delta.abs().max() == pytest.approx(0.3, abs=1e-5)


@attacks
def test_attacks_leave_gradients_and_running_statistics_alone(objective, data):
    """From the callback before the attack to the user's step after it."""
    compared = []

    class Mark(Callback):
        def on_batch_begin(self, net, **kwargs):
            net.state_ = copy.deepcopy(net.module_.state_dict())
            for parameter in net.module_.parameters():
                parameter.grad = torch.full_like(parameter, 7.0)
            net.modes_ = modes(net)

    class Comparing(NeuralNetClassifier):
        def train_step(self, batch, **fit_params):
            self.compare()
            return super().train_step(batch, **fit_params)

        def validation_step(self, batch, **fit_params):
            self.compare()
            return super().validation_step(batch, **fit_params)

        def compare(self):
            state = self.module_.state_dict()
            assert all(torch.equal(state[name], old) for name, old in self.state_.items())
            assert all((each.grad == 7.0).all() for each in self.module_.parameters())
            assert modes(self) == self.modes_
            compared.append(self.module_.training)

    options = {"callbacks": [Mark()], "train_split": ValidSplit(4), "max_epochs": 2}
    net = run(net_of(Comparing, BatchNorm, **options), objective, data)
    # Two batches and one in validation, twice; the first after validation is in its mode.
    assert compared == [True, True, True, False, True, True]
    assert net.module_.norm.num_batches_tracked == 4
    assert net.module_.frozen.num_batches_tracked == 0


# The warm-up


def largest(trace, n=128):
    return [delta.abs().max().item() for delta in deltas(trace, n)]


def test_partial_fit_continues_the_warm_up(data):
    trace = Trace()
    net = net_of(module=trace.module, max_epochs=2, batch_size=128)
    objective = SmoothAdv(radius=0.4, norm=math.inf, warmup=4)
    clf = SmoothedClassifier(net, noise=Gaussian(sigma=0.1), objective=objective)
    grown = []
    for _ in range(3):
        trace.passes.clear()
        clf.partial_fit(*data)
        grown += largest(trace)
    assert grown == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4], abs=1e-5)
    trace.passes.clear()
    clf.fit(*data)  # anew
    assert largest(trace) == pytest.approx([0.1, 0.2], abs=1e-5)


def test_epochs_before_smoothing_count_for_no_warm_up(data):
    trace = Trace()
    net = net_of(module=trace.module, max_epochs=2, batch_size=128).fit(*data)
    objective = SmoothAdv(radius=0.4, norm=math.inf, warmup=4)
    clf = SmoothedClassifier(net, noise=Gaussian(sigma=0.1), objective=objective)
    for expected in ([0.1, 0.2], [0.3, 0.4]):
        trace.passes.clear()
        # The net knows its outputs by a pass, which is no batch.
        clf.partial_fit(*data)
        last = [i for i, each in enumerate(trace.passes) if each[0] == "valid"][-1]
        trace.passes[:] = trace.passes[last:]
        assert largest(trace) == pytest.approx(expected, abs=1e-5)
    assert len(net.history) == 2


# What is refused


SAYS_NOTHING = {"criterion": nn.MultiMarginLoss, "module": Linear}


@each_objective
def test_outputs_must_be_known_as_probabilities(objective, data):
    net = net_of(**SAYS_NOTHING)
    if type(objective) is NoiseAugmentation:  # asks for no probabilities
        trains(net, objective, data)
        return
    with pytest.raises(TypeError, match="got the criterion MultiMarginLoss") as error:
        run(net, objective, data)
    assert "predict_nonlinearity" in str(error.value)
    assert type(net) is NeuralNetClassifier
    named = net_of(**SAYS_NOTHING, predict_nonlinearity=lambda z: z.softmax(dim=-1))
    trains(named, objective, data)


@each_objective
@pytest.mark.parametrize("step", ["train_step", "train_step_single"])
def test_steps_that_divide_a_batch_are_refused(objective, step, data):
    class Dividing(NeuralNetClassifier):
        pass

    def divided(self, batch, **fit_params):
        X, y = batch
        half = len(X) // 2
        getattr(NeuralNetClassifier, step)(self, (X[:half], y[:half]), **fit_params)
        return getattr(NeuralNetClassifier, step)(self, (X[half:], y[half:]), **fit_params)

    setattr(Dividing, step, divided)
    net = net_of(Dividing)
    with pytest.raises(ValueError, match=r"whole batches, of \d+ noisy copies, got \d+"):
        run(net, objective, data)
    assert type(net) is Dividing
    assert len(net.fit(*data).history) == 2  # the net itself may


def test_loops_that_train_without_train_step_are_refused(data):
    """They would see no noise."""

    class OwnLoop(NeuralNetClassifier):
        def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
            for batch in iterator or ():
                self.train_step_single(batch)

    with pytest.raises(ValueError, match="belongs into its train_step"):
        run(net_of(OwnLoop), Consistency(), data)


BAD = [
    (NoiseAugmentation(n_samples=0), "n_samples"),
    (NoiseAugmentation(n_samples=None), "n_samples"),
    (Stability(weight=-1.0), "weight"),
    (Stability(weight=math.nan), "weight"),
    (Stability(weight=math.inf), "weight"),
    (Direct(n_samples=1.5), "n_samples"),
    (Consistency(weight="much"), "weight"),
    (Consistency(entropy_weight=-0.1), "entropy_weight"),
    (Consistency(n_samples=1), "n_samples"),
    (MACER(n_samples=1), "n_samples"),
    (MACER(weight=None), "weight"),
    (MACER(gamma=0), "gamma"),
    (MACER(beta=-1.0), "beta"),
    (SmoothAdv(radius=-0.1), "radius"),
    (SmoothAdv(radius=math.inf), "radius"),
    (SmoothAdv(norm=3), "norm"),
    (SmoothAdv(norm="2"), "norm"),
    (SmoothAdv(steps=0), "steps"),
    (SmoothAdv(n_samples=0), "n_samples"),
    (SmoothAdv(warmup=0), "warmup"),
    (SmoothAdv(box=(1, 0)), "box"),
    (SmoothAdv(box=0.5), "box"),
    (SmoothAdv(objective="Stability"), "objective"),
    (SmoothAdv(objective=Stability), "objective"),
    (SmoothAdv(objective=Stability(weight=-1.0)), "weight"),
    (SmoothAdv(objective=SmoothAdv()), "objective"),
    (Stability, "objective"),
    ("Stability", "objective"),
]


@pytest.mark.parametrize(("objective", "name"), BAD, ids=str)
def test_bad_parameters_are_named(objective, name, data):
    net = net_of()
    clf = SmoothedClassifier(net, objective=objective)  # only fit looks at it
    for fit in (clf.fit, clf.partial_fit):
        with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b"):
            fit(*data)
        assert not hasattr(clf, "estimator_")
    assert not net.initialized_


@pytest.mark.parametrize("objective", [MACER(), SmoothAdv(objective=MACER())], ids=str)
def test_noise_that_macer_has_no_radius_for_is_refused_at_fit(objective, data):
    clf = SmoothedClassifier(net_of(), noise=Pareto(sigma=0.3), objective=objective)
    with pytest.raises(ValueError, match=r"MACER .* got Pareto\(sigma=0.3\)"):
        clf.fit(*data)


# Errors anywhere


class Boom(Exception):
    pass


class Fuse:
    """Blows at the k-th call."""

    def __init__(self, k=None):
        self.k = k
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.calls == self.k:
            raise Boom


def with_fuse(fuse, place):
    """A net, without validation, that asks the fuse in its forward or its criterion."""

    class Module(BatchNorm):
        def forward(self, X):
            if place == "forward":
                fuse()
            outputs = super().forward(X)
            if place == "backward" and outputs.requires_grad:
                outputs.register_hook(lambda gradient: fuse())
            return outputs

    class Criterion(nn.CrossEntropyLoss):
        def forward(self, outputs, y):
            if place == "criterion":
                fuse()
            return super().forward(outputs, y)

    return net_of(module=Module, criterion=Criterion, max_epochs=2).initialize()


@each_objective
@pytest.mark.parametrize("place", ["forward", "backward", "criterion"])
def test_errors_in_any_call_leave_nothing_behind(objective, place, data):
    """In the check of outputs, in the attack, in training: every call in turn."""
    fuse = Fuse()
    run(with_fuse(fuse, place), objective, data)
    asked = place != "criterion" or not isinstance(objective, Direct | MACER)
    n_attacks = 4 * 2 * isinstance(objective, SmoothAdv)  # batches, steps
    expected = {"forward": 5 + n_attacks, "backward": 4 + n_attacks, "criterion": 4}
    assert fuse.calls == (expected[place] if asked else 0)
    n_first = n_attacks // 4
    before_training = {"forward": 1 + n_first, "backward": n_first, "criterion": 0}
    for k in range(1, fuse.calls + 1):
        net = with_fuse(Fuse(k), place)
        before = modes(net)
        requires_grad = [each.requires_grad for each in net.module_.parameters()]
        with pytest.raises(Boom):
            run(net, objective, data)
        assert type(net) is NeuralNetClassifier
        assert "smoothing_" not in vars(net)
        assert hooks(net) == []
        assert modes(net) == before
        assert [e.requires_grad for e in net.module_.parameters()] == requires_grad
        if k <= before_training[place]:
            assert all(each.grad is None for each in net.module_.parameters())
            assert net.module_.norm.num_batches_tracked == 0
        net.set_params(max_epochs=1).fit(*data)  # the fuse has blown


CALLS = [
    "on_train_begin", "on_epoch_begin", "on_batch_begin", "on_grad_computed",
    "on_batch_end", "on_epoch_end", "on_train_end",
]  # fmt: skip


@each_objective
@pytest.mark.parametrize("call", CALLS)
def test_errors_in_callbacks_leave_nothing_behind(objective, call, data):
    class Failing(Callback):
        pass

    def fail(self, net, *args, **kwargs):
        if len(net.history) != 1 or call == "on_epoch_end":
            raise Boom

    setattr(Failing, call, fail)
    net = net_of(module=BatchNorm, callbacks=[Failing()]).initialize()
    before = modes(net)
    with pytest.raises(Boom):
        run(net, objective, data)
    assert type(net) is NeuralNetClassifier
    assert "smoothing_" not in vars(net)
    assert hooks(net) == []
    assert modes(net) == before


@attacks
def test_keyboard_interrupts_in_the_attack_end_the_training(objective, data):
    class Interrupted(BatchNorm):
        calls = 0

        def forward(self, X):
            if not self.training and torch.is_grad_enabled():
                self.calls += 1
                if self.calls == 4:  # in the attack of the second batch
                    raise KeyboardInterrupt
            return super().forward(X)

    net = run(net_of(module=Interrupted, max_epochs=9), objective, data)
    assert type(net) is NeuralNetClassifier
    assert len(net.history) == 1  # skorch's way: what was learnt is kept
    assert net.module_.training
    assert net.module_.body.training


# As scikit-learn's parameter objects


@pytest.mark.parametrize(
    "objective",
    [
        *OBJECTIVES,
        NoiseAugmentation(),
        MACER(4, weight=1.0, gamma=2.0, beta=3.0),
        SmoothAdv(1.0, 1, steps=3, n_samples=4, warmup=5, box=(0, 1), objective=MACER()),
    ],
    ids=str,
)
def test_objectives_are_parameter_objects(objective):
    copies = [
        clone(objective),
        pickle.loads(pickle.dumps(objective)),
        copy.deepcopy(objective),
        eval(repr(objective), vars(objectives)),
        type(objective)().set_params(**objective.get_params(deep=False)),
    ]
    for other in copies:
        assert type(other) is type(objective)
        assert repr(other) == repr(objective)
        assert str(other.get_params()) == str(objective.get_params())
    assert set(type(objective)().get_params()) == set(
        type(objective)._parameter_constraints
    ) | ({"norm", "box"} if isinstance(objective, SmoothAdv) else set())


def test_fit_works_on_a_clone_of_the_objective(data):
    """What becomes of the user's object afterwards counts from the next fit on."""
    learnt = []
    for later in (1.0, 0.1):
        objective = SmoothAdv(objective=Stability(), warmup=1)
        clf = SmoothedClassifier(net_of(), objective=objective, random_state=0).fit(*data)
        objective.set_params(radius=later, objective__weight=later)
        learnt.append(weights(clf.partial_fit(*data).estimator_))
        assert clf.objective is objective
    assert all(torch.equal(*each) for each in zip(*learnt, strict=True))


class Agreement(Objective):
    """A user's objective, as in Objective's docstring: no constraints declared."""

    n_samples = 2

    def __init__(self, weight=1.0):
        self.weight = weight

    def loss(self, answers):
        first, second = answers.log_proba.exp()
        distance = (first - second).square().sum(dim=1).mean()
        return answers.base_loss() + self.weight * distance


@pytest.mark.parametrize(
    "objective", [Agreement(), SmoothAdv(warmup=1, objective=Agreement())], ids=str
)
def test_objectives_of_users_are_fitted(objective, data):
    net = net_of(max_epochs=15)
    clf = SmoothedClassifier(net, noise=Gaussian(sigma=0.2), objective=objective)
    assert clf.fit(*data).score(*data) > 0.5


def test_objectives_are_told_noise_and_dimension(data):
    told = []

    class Asking(NoiseAugmentation):
        def loss(self, answers):
            told.append((answers.noise, answers.dim, answers.outputs.shape, answers.y))
            return super().loss(answers)

    noise = Laplace(sigma=0.2)
    run(net_of(max_epochs=1), Asking(n_samples=3), data, noise=noise)
    assert [each[:3] for each in told] == [(noise, 64, (3, 64, 10))] * 2
    np.testing.assert_array_equal(
        torch.cat([each[3] for each in told]).sort()[0].numpy(), np.sort(data[1])
    )


def search(clf, grid, data):
    return GridSearchCV(clf, grid, cv=2, error_score="raise").fit(*data)


def test_one_search_over_objectives_noises_and_sigmas(data):
    grid = {
        "objective": [None, *OBJECTIVES],
        "noise": [Gaussian(), Uniform()],
        "noise__sigma": [0.1, 2.0],
    }
    clf = SmoothedClassifier(net_of(max_epochs=4), n_selection=16, random_state=0)
    results = search(clf, grid, data)
    assert len(results.cv_results_["params"]) == 4 * (1 + len(OBJECTIVES))
    scores = results.cv_results_["mean_test_score"]
    sigmas = np.asarray(results.cv_results_["param_noise__sigma"], dtype=float)
    assert scores[sigmas == 0.1].mean() > scores[sigmas == 2.0].mean() + 0.1
    assert grid["noise"][0].sigma is None  # the grid's own objects are left alone


@pytest.mark.parametrize(
    ("objective", "name"),
    [
        (Stability(), "objective__weight"),
        (SmoothAdv(objective=Consistency()), "objective__objective__weight"),
        (SmoothAdv(objective=Consistency()), "objective__radius"),
    ],
    ids=str,
)
def test_searches_reach_nested_parameters(objective, name, data):
    clf = SmoothedClassifier(net_of(), objective=objective, random_state=0)
    results = search(clf, {name: [0.0, 1e4]}, data)
    scores = results.cv_results_["mean_test_score"]
    assert scores[0] > scores[1]  # an excessive weight, or radius, is no training
    assert results.best_estimator_.get_params()[name] == 0.0
    assert objective.get_params() == clf.objective.get_params()
    with pytest.raises(ValueError, match=r"\b(weight|radius)\b"):
        search(clf, {name: [-1.0]}, data)


def test_objectives_of_the_search_are_named_in_the_results(data):
    clf = SmoothedClassifier(net_of(max_epochs=1), random_state=0)
    names = search(clf, {"objective": OBJECTIVES}, data).cv_results_["param_objective"]
    assert [str(each) for each in names] == [str(each) for each in OBJECTIVES]


class OwnCriterion(NeuralNetClassifier):
    """A step that computes the loss itself."""

    def train_step_single(self, batch, **fit_params):
        self._set_training(True)
        X, y = batch
        y_pred = self.infer(X)
        loss = self.criterion_(y_pred, y)
        loss.backward()
        return {"loss": loss, "y_pred": y_pred}


@each_objective
def test_steps_that_would_drop_the_objective_are_refused(objective, data):
    """Augmentation is the net's own loss anyhow; any other would not be trained at all."""
    net = net_of(OwnCriterion, Linear)
    if isinstance(objective, NoiseAugmentation) or objective is ATTACKS[0]:
        assert len(run(net, objective, data).history) == 2
        return
    with pytest.raises(
        ValueError, match="must get its loss from get_loss, got a train_step"
    ):
        run(net, objective, data)
    assert type(net) is OwnCriterion


class Checkpointed(nn.Module):
    """Layers that run again for the gradients, as large nets do to save memory."""

    modes: ClassVar[list] = []

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.Dropout(0.5), nn.Linear(32, 10))

    def forward(self, X):
        return checkpoint(self._run, X.flatten(1), use_reentrant=False)

    def _run(self, X):
        if torch.is_grad_enabled():
            self.modes.append(self.layers[1].training)
        return self.layers(X)


def test_layers_that_run_again_do_so_as_they_ran(data):
    """In evaluation for the gradients of the attack, in training for those of the loss."""
    Checkpointed.modes.clear()
    objective = SmoothAdv(steps=1, n_samples=1, warmup=1)
    run(net_of(module=Checkpointed, max_epochs=1), objective, data)
    of_a_batch = [False, False, True, True]  # forward, again; forward, again
    assert Checkpointed.modes == of_a_batch * 2


class Special(NoiseAugmentation):
    """A user's subclass with another loss."""

    def loss(self, answers):
        return answers.base_loss() + answers.outputs.square().mean()


def test_subclasses_with_another_loss_are_not_taken_for_augmentation(data):
    assert NoiseAugmentation().is_base_loss
    assert not Special().is_base_loss
    with pytest.raises(ValueError, match="must get its loss from get_loss"):
        run(net_of(OwnCriterion, Linear), Special(), data)


def test_nested_parameters_of_nothing_are_refused():
    """At any depth, and where a grid has None beside objects."""
    clf = SmoothedClassifier(objective=SmoothAdv())
    message = "objective__objective__weight cannot be set: objective__objective is None"
    with pytest.raises(ValueError, match=message):
        clf.set_params(objective__objective__weight=1.0)
    message = "Invalid parameter 'weight' for estimator NoiseAugmentation"
    with pytest.raises(ValueError, match=message):
        clf.set_params(objective=None, objective__weight=1.0)
    clf.set_params(objective=SmoothAdv(objective=Stability()))
    clf.set_params(objective__objective__weight=1.0)
    assert clf.objective.objective.weight == 1.0
