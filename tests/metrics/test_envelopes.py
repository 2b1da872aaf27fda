"""Figures over many sigmas hold what the tables say."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rs4a.metrics import (
    EnvelopeDisplay,
    SigmaCurvesDisplay,
    certified_accuracy_score,
    certified_accuracy_table,
)
from rs4a.metrics.scores import binomial_interval
from rs4a.noises import Gaussian, Laplace, Uniform
from rs4a.records import BoundRecord


def result(noise, bounds, norm=1):
    n = len(bounds)
    record = BoundRecord(
        classes=np.array([0, 1]),
        labels=np.zeros(n, dtype=int),
        prob_lower=np.array(bounds),
        noise=noise,
        dim=4,
        norm=norm,
    )
    return record, [0] * n


RESULTS = [
    result(Uniform(sigma=1.0), [0.6, 0.8, 0.8, 0.9]),
    result(Laplace(sigma=0.5), [0.4, 0.7, 0.8, 0.9]),
    result(Uniform(sigma=0.5), [0.9, 0.9, 0.9, 0.95]),
]
RADII = np.array([0.0, 0.2, 0.5, 1.0])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def names_in(legend):
    return [text.get_text() for text in legend.get_texts()]


def test_envelope():
    display = EnvelopeDisplay.from_results(iter(RESULTS), radii=RADII)
    table = certified_accuracy_table(RESULTS, radii=RADII)
    assert [line.get_label() for line in display.lines_] == ["Uniform", "Laplace"]
    for line in display.lines_:
        np.testing.assert_array_equal(line.get_xdata(), RADII)
        np.testing.assert_array_equal(line.get_ydata(), table.loc[line.get_label()])
        # The step never lies above the accuracy between two radii.
        assert line.get_drawstyle() == "steps-pre"
    assert len({line.get_linestyle() for line in display.lines_}) == 2
    assert display.ax_.get_xlabel() == "l1 radius"
    assert display.figure_ is display.ax_.figure
    assert names_in(display.ax_.get_legend()) == ["Uniform", "Laplace"]


def test_envelope_reaches_the_largest_radius():
    display = EnvelopeDisplay.from_results(RESULTS, norm=2)
    assert display.radii[-1] > max(record.radius(2).max() for record, _ in RESULTS)
    assert display.ax_.get_xlabel() == "l2 radius"
    assert all(line.get_ydata()[-1] == 0.0 for line in display.lines_)


def test_envelope_on_given_axes():
    _, ax = plt.subplots()
    display = EnvelopeDisplay.from_results(RESULTS, radii=RADII, ax=ax, linewidth=3)
    assert display.ax_ is ax
    assert {line.get_linewidth() for line in display.lines_} == {3}


def test_sigma_curves():
    display = SigmaCurvesDisplay.from_results(RESULTS, radii=RADII)
    titles = [ax.get_title() for ax in display.axes_]
    assert titles == ["sigma = 0.5", "sigma = 1"]
    labels = [[line.get_label() for line in lines] for lines in display.lines_]
    assert labels == [["Laplace", "Uniform"], ["Uniform"]]
    for line, (record, y) in zip(
        [*display.lines_[0], *display.lines_[1]],
        [RESULTS[1], RESULTS[2], RESULTS[0]],
        strict=True,
    ):
        expected = certified_accuracy_score(y, record, radius=RADII)
        np.testing.assert_array_equal(line.get_ydata(), expected)


def test_a_noise_looks_the_same_in_every_panel():
    display = SigmaCurvesDisplay.from_results(RESULTS)
    (laplace, uniform), (alone,) = display.lines_
    assert uniform.get_linestyle() == alone.get_linestyle() != laplace.get_linestyle()
    assert uniform.get_color() == alone.get_color() != laplace.get_color()
    (legend,) = display.figure_.legends
    assert names_in(legend) == ["Laplace", "Uniform"]


def test_a_panel_ends_where_nothing_is_certified():
    display = SigmaCurvesDisplay.from_results(RESULTS)
    for ax, lines in zip(display.axes_, display.lines_, strict=True):
        end = ax.get_xlim()[1]
        at_end = display.radii >= end
        assert all((line.get_ydata()[at_end] == 0.0).all() for line in lines)
        just_before = display.radii[display.radii < end][-1]
        accuracies = [line.get_ydata()[display.radii == just_before] for line in lines]
        assert max(accuracies) > 0.0


def test_best_of_two_with_one_sigma():
    both = [*RESULTS[:1], result(Uniform(sigma=1.0), [0.95] * 4)]
    display = SigmaCurvesDisplay.from_results(both, radii=[0.1, 1.3])
    ((line,),) = display.lines_
    assert line.get_ydata().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("n", [1, 2, 4, 5])
def test_panels_without_use_are_hidden(n):
    results = [result(Uniform(sigma=1.0 + i), [0.9]) for i in range(n)]
    display = SigmaCurvesDisplay.from_results(results)
    visible = [ax for ax in display.figure_.axes if ax.get_visible()]
    assert visible == list(display.axes_)
    assert len(visible) == n
    assert display.axes_[-1].get_xlabel() == "l1 radius"
    display.figure_.draw_without_rendering()


def test_panels_can_be_given():
    _, axes = plt.subplots(1, 2)
    display = SigmaCurvesDisplay.from_results(RESULTS, ax=axes)
    assert list(display.axes_) == list(axes)
    assert names_in(axes[0].get_legend()) == ["Laplace", "Uniform"]
    assert not display.figure_.legends
    with pytest.raises(ValueError, match="ax must be None or 2 Axes, one per panel, got 1"):
        SigmaCurvesDisplay.from_results(RESULTS, ax=axes[:1])


@pytest.mark.parametrize("display", [EnvelopeDisplay, SigmaCurvesDisplay])
def test_wrong_results(display):
    with pytest.raises(ValueError, match="at least one certification, got none"):
        display.from_results([])
    with pytest.raises(ValueError, match="norm must be given"):
        display.from_results([*RESULTS, result(Gaussian(sigma=1.0), [0.9] * 4, norm=2)])
    with pytest.raises(ValueError, match="must be of the same inputs"):
        display.from_results([*RESULTS, result(Gaussian(sigma=1.0), [0.9] * 3)])
    with pytest.raises(ValueError, match="one for each of the 3 results, got 'abc'"):
        display.from_results(RESULTS, names="abc")


def test_envelope_of_names():
    names = ["first seed", "second seed", "first seed"]
    display = EnvelopeDisplay.from_results(RESULTS, radii=RADII, names=names)
    lines = {line.get_label(): line.get_ydata() for line in display.lines_}
    assert list(lines) == ["first seed", "second seed"]
    records = [record for record, _ in RESULTS]
    first, laplace, third = (
        certified_accuracy_score([0] * 4, each, radius=RADII) for each in records
    )
    assert (first > third).any()
    assert (third > first).any()
    np.testing.assert_array_equal(lines["first seed"], np.maximum(first, third))
    np.testing.assert_array_equal(lines["second seed"], laplace)


def test_sigma_curves_of_names():
    both = [RESULTS[0], result(Uniform(sigma=1.0), [0.9] * 4)]
    display = SigmaCurvesDisplay.from_results(both, radii=[0.5], names=["A", "B"])
    (lines,) = display.lines_
    assert [line.get_label() for line in lines] == ["A", "B"]
    assert [line.get_ydata().tolist() for line in lines] == [[0.75], [1.0]]


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="SigmaCurvesDisplay has nothing to draw"):
        SigmaCurvesDisplay(RADII, {}).plot()


def test_bands():
    low, high = binomial_interval(0.75, 4, 0.9)
    display = EnvelopeDisplay.from_results(RESULTS, radii=RADII, confidence=0.9)
    assert len(display.ax_.collections) == 2
    heights = display.ax_.collections[1].get_paths()[0].vertices[:, 1]
    assert display.lines_[1].get_ydata().max() == 0.75
    assert heights.max() == high
    assert low in heights
    assert display.bands_ == list(display.ax_.collections)
    curves = SigmaCurvesDisplay.from_results(RESULTS, radii=RADII, confidence=0.9)
    assert [len(ax.collections) for ax in curves.axes_] == [2, 1]
    assert curves.bands_ == [list(ax.collections) for ax in curves.axes_]
    for kind in (EnvelopeDisplay, SigmaCurvesDisplay):
        plain = kind.from_results(RESULTS, radii=RADII, confidence=None)
        assert not any(ax.collections for ax in plain.figure_.axes)
