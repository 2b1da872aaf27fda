"""Figures of training hold the scores and losses that they were given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import make_net

from rs4a.metrics import AccuracyAgainstSigmaDisplay, TrainingLossDisplay

SCORES = pd.DataFrame(
    {
        "noise": ["Uniform", "Uniform", "Laplace"],
        "sigma": [0.5, 0.25, 0.25],
        "train_accuracy": [0.8, 0.9, 0.7],
        "test_accuracy": [0.5, 0.6, 0.4],
    }
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_accuracies_against_sigma():
    display = AccuracyAgainstSigmaDisplay.from_scores(SCORES)
    assert [ax.get_title() for ax in display.axes_] == ["training inputs", "test inputs"]
    assert [ax.get_xlabel() for ax in display.axes_] == ["sigma", "sigma"]
    (uniform, laplace), (uniform_test, laplace_test) = display.lines_
    # Sorted by sigma, or the line would run back.
    assert uniform.get_xdata().tolist() == [0.25, 0.5]
    assert uniform.get_ydata().tolist() == [0.9, 0.8]
    assert uniform_test.get_ydata().tolist() == [0.6, 0.5]
    assert laplace.get_ydata().tolist() == [0.7]
    assert laplace_test.get_ydata().tolist() == [0.4]
    assert uniform.get_linestyle() != laplace.get_linestyle()
    assert uniform.get_marker() == uniform_test.get_marker() != laplace.get_marker()
    (legend,) = display.figure_.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Uniform", "Laplace"]


def test_scores_need_their_columns():
    with pytest.raises(ValueError, match=r"got no \['sigma'\]"):
        AccuracyAgainstSigmaDisplay.from_scores(SCORES.drop(columns="sigma"))


def test_accuracy_panels_can_be_given():
    _, axes = plt.subplots(2)
    display = AccuracyAgainstSigmaDisplay.from_scores(SCORES, ax=axes)
    assert list(display.axes_) == list(axes)


def test_losses_of_rows():
    with_validation = [
        {"epoch": 1, "train_loss": 2.0, "valid_loss": 3.0},
        {"epoch": 2, "train_loss": 1.0},  # interrupted before the validation
    ]
    histories = {"A": with_validation, "B": [{"train_loss": 0.5}]}
    display = TrainingLossDisplay.from_histories(histories)
    labels = [line.get_label() for line in display.lines_]
    assert labels == ["A: training", "A: validation", "B"]
    train, validation, other = display.lines_
    assert train.get_xdata().tolist() == [1, 2]
    assert train.get_ydata().tolist() == [2.0, 1.0]
    np.testing.assert_array_equal(validation.get_ydata(), [3.0, np.nan])
    assert other.get_ydata().tolist() == [0.5]
    assert train.get_linestyle() == other.get_linestyle() == "-"
    assert validation.get_linestyle() == "--"
    assert train.get_marker() == validation.get_marker() != other.get_marker()
    assert train.get_color() == validation.get_color() != other.get_color()
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("epoch", "loss")


def losses(n, length=1):
    history = [{"train_loss": 1.0, "valid_loss": 2.0}]
    return {f"{number:0{length}}": history for number in range(n)}


@pytest.mark.parametrize("length", [1, 22, 60])
def test_many_names_stand_below_the_axes(length):
    display = TrainingLossDisplay.from_histories(losses(5, length))
    display.figure_.draw_without_rendering()
    assert display.ax_.get_legend() is None
    (legend,) = display.figure_.legends
    assert len(legend.get_texts()) == len(display.lines_) == 10
    where, axes = legend.get_window_extent(), display.ax_.get_tightbbox()
    assert where.y1 <= axes.y0
    assert where.y0 >= 0
    assert where.x0 >= 0
    assert where.x1 <= display.figure_.bbox.x1
    assert display.ax_.get_window_extent().height > 300  # nothing is squeezed


def test_few_names_and_given_axes_keep_the_legend_within():
    few = TrainingLossDisplay.from_histories(losses(2))
    _, ax = plt.subplots()
    given = TrainingLossDisplay.from_histories(losses(5), ax=ax)
    for display, n in ((few, 4), (given, 10)):
        assert not display.figure_.legends
        assert len(display.ax_.get_legend().get_texts()) == n


def test_losses_of_skorch(digits):
    net = make_net(max_epochs=2).fit(digits[0][:100], digits[2][:100])
    _, ax = plt.subplots()
    display = TrainingLossDisplay.from_histories({"net": net.history}, ax=ax, linewidth=3)
    (line,) = display.lines_
    assert line.get_ydata().tolist() == net.history[:, "train_loss"]
    assert line.get_label() == "net"
    assert (line.axes, line.get_linewidth()) == (ax, 3)


def test_histories_need_losses():
    with pytest.raises(ValueError, match="at least one, got none"):
        TrainingLossDisplay.from_histories({})
    with pytest.raises(ValueError, match="history 'A' has none"):
        TrainingLossDisplay.from_histories({"A": [{"epoch": 1, "valid_loss": 1.0}]})
