"""Noise through nets whose answer to it is known."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import frozen
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.utils.data import TensorDataset

from rs4a import SmoothedClassifier
from rs4a.metrics import NoisePropagationDisplay, noise_propagation
from rs4a.noises import Clean, Gaussian, Uniform

X = np.random.default_rng(0).random((6, 2, 4, 4)).astype(np.float32)


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(factor))

    def forward(self, X):
        return self.weight * X


class Twice(nn.Module):
    """Runs one layer twice, with dropout that evaluation must switch off."""

    def __init__(self):
        super().__init__()
        self.scale = Scale(3.0)
        self.block = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
        self.last = nn.Linear(32, 2)

    def forward(self, X):
        return self.last(self.block(self.scale(self.scale(X))))


class Constant(Twice):
    def forward(self, X):
        return super().forward(0.0 * X)


class Beyond(nn.Module):
    """Answers all inputs alike that have no noise: they lie within [0, 1]."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()
        self.last = nn.Linear(32, 2)

    def forward(self, X):
        return self.last(self.relu(X - 1.0).flatten(1))


def classifier(module=Twice, noise=None):
    torch.manual_seed(0)
    clf = SmoothedClassifier(
        frozen(module, classes=[0, 1]), noise=noise or Gaussian(sigma=0.3)
    )
    return clf.fit(X, [0, 1] * 3)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


class Known(Clean):
    """Noisy copies that are known: number i is i farther from its input."""

    def __init__(self, n_inputs):
        super().__init__()
        self.n_inputs = n_inputs
        self.calls = 0

    def sample(self, x, generator=None):
        self.calls += 1
        if self.calls <= self.n_inputs:  # copies of one input
            return x + torch.arange(float(len(x))).view(-1, 1, 1, 1)
        return x + float(self.calls)


def mean_distance(rows):
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(rows) for b in rows[:i]]
    return np.mean(pairs)


def test_distances_of_the_input_and_of_scaled_inputs():
    distances = noise_propagation(classifier(), X, n_copies=200, random_state=0)
    names = ["input", "scale", "scale (2)", "block.0", "block.1", "last"]
    assert distances.index.tolist() == names
    # Two copies differ by Gaussian noise of 0.3 sqrt(2) in 32 coordinates.
    noise = 0.3 * 2 * math.gamma(16.5) / math.gamma(16)
    rng = np.random.default_rng(1)
    batches = [X + rng.normal(0, 0.3, X.shape) for _ in range(200)]
    between = np.mean([mean_distance(batch) for batch in batches])
    assert distances["input"] == pytest.approx(noise / between, rel=0.01)
    # Scaling does not matter, and dropout is off.
    np.testing.assert_allclose(distances.iloc[:5], distances["input"], rtol=1e-5)
    assert abs(distances["last"] / distances["input"] - 1) > 0.01


def test_last_layer_against_plain_numpy():
    clf = classifier(Beyond)
    clf.noise_ = Known(len(X))
    net = clf.estimator_
    copies = [net.forward(np.stack([x, x + 1, x + 2])).numpy() for x in X]
    shifted = [net.forward(X + np.float32(shift)).numpy() for shift in (7, 8, 9)]
    expected = np.mean([mean_distance(each) for each in copies])
    expected /= np.mean([mean_distance(each) for each in shifted])
    got = noise_propagation(clf, X, n_copies=3)
    assert got["last"] == pytest.approx(expected, rel=1e-5)


def test_without_noise_it_is_0_and_drowned_in_noise_it_is_1():
    clean = noise_propagation(classifier(noise=Clean()), X, n_copies=3)
    np.testing.assert_allclose(clean, 0.0, atol=1e-6)  # a matmul may differ by row
    drowned = noise_propagation(classifier(noise=Gaussian(sigma=50.0)), X, random_state=0)
    np.testing.assert_allclose(drowned, 1.0, atol=0.05)


def test_a_net_that_answers_inputs_without_noise_alike():
    clf = classifier(Beyond)
    assert mean_distance(clf.estimator_.forward(X).numpy()) == 0.0
    distances = noise_propagation(clf, X, random_state=0)
    assert distances.index.tolist() == ["input", "relu", "last"]
    assert distances.between(0.1, 1.5).all()


def test_inputs_of_a_dataset():
    clf = classifier()
    expected = noise_propagation(clf, X, n_copies=4, random_state=0)
    dataset = TensorDataset(torch.from_numpy(X), torch.zeros(6))
    assert noise_propagation(clf, dataset, n_copies=4, random_state=0).equals(expected)


def test_seed_and_state():
    clf = classifier()
    clf.estimator_.module_.train()
    one, other = (noise_propagation(clf, X, random_state=3) for _ in range(2))
    assert one.equals(other)
    assert not one.equals(noise_propagation(clf, X, random_state=4))
    assert clf.estimator_.module_.training
    modules = clf.estimator_.module_.modules()
    assert not any(module._forward_hooks for module in modules)


def test_layers_can_be_named():
    distances = noise_propagation(classifier(), X, layers=["last", "block"])
    assert distances.index.tolist() == ["input", "block", "last"]
    with pytest.raises(ValueError, match=r"got \['first'\]. There are \['scale'"):
        noise_propagation(classifier(), X, layers=["first", "last"])


def test_a_layer_that_answers_all_alike():
    distances = noise_propagation(classifier(Constant), X)
    assert np.isnan(distances["last"])
    assert distances["input"] > 0.0


def test_wrong_arguments():
    with pytest.raises(ValueError, match="got 1 and 64"):
        noise_propagation(classifier(), X[:1])
    with pytest.raises(ValueError, match="got 6 and 1"):
        noise_propagation(classifier(), X, n_copies=1)
    with pytest.raises(ValueError, match="X must have shape"):
        noise_propagation(classifier(), X[:, :1])
    with pytest.raises(NotFittedError):
        noise_propagation(SmoothedClassifier(), X)


def test_display():
    classifiers = {"G": classifier(), "U": classifier(noise=Uniform(sigma=0.1))}
    display = NoisePropagationDisplay.from_estimators(
        classifiers, X, n_copies=8, random_state=0
    )
    assert [line.get_label() for line in display.lines_] == ["G", "U"]
    for line, clf in zip(display.lines_, classifiers.values(), strict=True):
        expected = noise_propagation(clf, X, n_copies=8, random_state=0)
        np.testing.assert_array_equal(line.get_ydata(), expected)
    assert len({line.get_linestyle() for line in display.lines_}) == 2
    assert len({line.get_marker() for line in display.lines_}) == 2
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == expected.index.tolist()
    label = "distance of noisy copies of one input\n/ of different inputs"
    assert display.ax_.get_ylabel() == label


def test_a_single_classifier_is_named_by_its_noise():
    _, ax = plt.subplots()
    display = NoisePropagationDisplay.from_estimators(classifier(), X, n_copies=2, ax=ax)
    assert [line.get_label() for line in display.lines_] == ["Gaussian(sigma=0.3)"]
    assert display.ax_ is ax


def test_lines_of_two_displays_on_one_axes_are_told_apart():
    first = NoisePropagationDisplay(["input", "last"], {"A": np.ones(2)}).plot()
    second = NoisePropagationDisplay(["input", "last"], {"B": np.ones(2)}).plot(first.ax_)
    (one,), (two,) = first.lines_, second.lines_
    for look in ("color", "linestyle", "marker"):
        assert plt.getp(one, look) != plt.getp(two, look)


def test_nets_with_other_layers():
    class Other(Twice):
        def forward(self, X):
            return self.last(self.block(self.scale(X)))

    both = {"A": classifier(), "B": classifier(Other)}
    with pytest.raises(ValueError, match="the same layers.* for 'B'"):
        NoisePropagationDisplay.from_estimators(both, X, n_copies=2)
    display = NoisePropagationDisplay.from_estimators(both, X, n_copies=2, layers=["last"])
    assert display.layers == ["input", "last"]
    with pytest.raises(ValueError, match="at least one, got none"):
        NoisePropagationDisplay.from_estimators({}, X)


def test_many_classifiers_are_named_below_the_axes():
    lines = {f"net {number}": np.ones(2) for number in range(6)}
    display = NoisePropagationDisplay(["input", "last"], lines).plot()
    (legend,) = display.figure_.legends
    assert [text.get_text() for text in legend.get_texts()] == list(lines)


def test_many_layers_have_few_names():
    layers = [f"layer{number}" for number in range(100)]
    display = NoisePropagationDisplay(layers, {"A": np.ones(100)}).plot()
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == layers[::4]
