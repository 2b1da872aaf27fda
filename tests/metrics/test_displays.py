"""Displays hold what they draw."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from rs4a import Certification
from rs4a.metrics import (
    CertifiedAccuracyDisplay,
    RadiusDisplay,
    certified_accuracy_interval,
    certified_accuracy_score,
)
from rs4a.metrics.drawing import line_style
from rs4a.noises import Gaussian, Laplace, Uniform

Y = [0, 0, 0, 0]
VOTES = np.array([[1000, 0], [900, 100], [700, 300], [100, 900]])


def certification(noise):
    return Certification(np.array([0, 1]), VOTES, VOTES, noise, dim=64)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_lines_are_certified_accuracies():
    both = {"U": certification(Uniform(lambd=1.0)), "L": certification(Laplace(lambd=1.0))}
    display = CertifiedAccuracyDisplay.from_certifications(Y, both, norm=1)
    assert [line.get_label() for line in display.lines_] == ["U", "L"]
    for name, line in zip(both, display.lines_, strict=True):
        expected = certified_accuracy_score(Y, both[name], radius=display.radii, norm=1)
        np.testing.assert_array_equal(line.get_ydata(), expected)
        assert expected[0] == 0.75
        # The step never lies above the accuracy between two radii.
        assert line.get_drawstyle() == "steps-pre"
    assert display.radii[-1] > both["L"].radius(1).max()
    assert len({line.get_linestyle() for line in display.lines_}) == 2
    assert display.figure_ is display.ax_.figure


def test_radii_and_axes_can_be_given():
    _, ax = plt.subplots()
    display = CertifiedAccuracyDisplay.from_certifications(
        Y, certification(Uniform(lambd=1.0)), radii=[0.0, 0.5, 0.9], ax=ax, linewidth=5
    )
    assert display.ax_ is ax
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), [0.75, 0.5, 0.25])
    assert display.lines_[0].get_linewidth() == 5
    assert ax.get_xlabel() == "l1 radius"


def test_norms_must_agree():
    both = {"U": certification(Uniform(lambd=1.0)), "G": certification(Gaussian(lambd=1.0))}
    with pytest.raises(ValueError, match="norm must be given"):
        CertifiedAccuracyDisplay.from_certifications(Y, both)


def test_all_abstained():
    nothing = Certification(
        np.array([0, 1]), VOTES * 0, VOTES * 0, Uniform(lambd=1.0), dim=2
    )
    display = CertifiedAccuracyDisplay.from_certifications(Y, nothing)
    assert (display.lines_[0].get_ydata() == 0).all()


def test_from_estimator_marks_the_undefended_net(fitted, digits):
    X, y = digits[1][:30], digits[3][:30]
    clf = fitted["Uniform"]
    display = CertifiedAccuracyDisplay.from_estimator(clf, X, y, norm=1)
    expected = certified_accuracy_score(y, clf.certify(X), radius=display.radii, norm=1)
    np.testing.assert_array_equal(display.lines_[0].get_ydata(), expected)
    name = "Uniform(sigma=0.3)"
    assert display.undefended == {name: clf.base_score(X, y)}
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == [name, f"{name}: net alone, undefended"]


@pytest.mark.parametrize("norm", [1, 2, math.inf])
def test_radius_display(norm):
    noises = [Gaussian(sigma=1.0), Laplace(sigma=1.0), Uniform(sigma=1.0)]
    display = RadiusDisplay.from_noises(noises, norm=norm, dim=3072)
    for noise, line in zip(noises, display.lines_, strict=True):
        expected = noise.radius(display.prob_lower, norm=norm, dim=3072)
        np.testing.assert_array_equal(line.get_ydata(), expected)
    assert len({line.get_linestyle() for line in display.lines_}) == 3
    assert (
        f"{'linf' if norm == math.inf else f'l{norm}'} radius" in display.ax_.get_ylabel()
    )


@pytest.mark.parametrize("confidence", [0.95, 0.999])
def test_bands_are_intervals(confidence):
    both = {"U": certification(Uniform(lambd=1.0)), "L": certification(Laplace(lambd=1.0))}
    options = {"radii": [0, 0.5], "norm": 1}
    display = CertifiedAccuracyDisplay.from_certifications(Y, both, **options)
    assert display.n_inputs == 4
    display.plot(confidence=confidence)
    assert display.bands_ == list(display.ax_.collections)
    for name, line, band in zip(both, display.lines_, display.bands_, strict=True):
        low, high = certified_accuracy_interval(
            Y, both[name], radius=[0, 0.5], norm=1, confidence=confidence
        )
        heights = band.get_paths()[0].vertices[:, 1]
        assert set(heights) == {*low, *high}
        assert to_rgb(band.get_facecolor()[0]) == to_rgb(line.get_color())
    none = CertifiedAccuracyDisplay.from_certifications(Y, both, norm=1, confidence=None)
    assert none.bands_ == list(none.ax_.collections) == []


def test_confidence_is_checked_before_inputs_are_certified():
    with pytest.raises(ValueError, match="confidence must be .* got 95: a probability"):
        CertifiedAccuracyDisplay.from_estimator(None, None, None, confidence=95)


def test_a_single_certification_is_named_by_its_noise():
    display = CertifiedAccuracyDisplay.from_certifications(
        Y, certification(Uniform(lambd=1.0))
    )
    assert [line.get_label() for line in display.lines_] == ["Uniform(lambd=1.0)"]


def test_lines_of_two_displays_on_one_axes_are_told_apart(fitted, digits):
    X, y = digits[1][:10], digits[3][:10]
    options = {"radii": [0.0, 0.1], "norm": 1}
    first, second = fitted["Uniform"], fitted["Laplace"]
    display = CertifiedAccuracyDisplay.from_estimator(first, X, y, **options)
    other = CertifiedAccuracyDisplay.from_estimator(second, X, y, ax=display.ax_, **options)
    (one,), (two,) = display.lines_, other.lines_
    assert (one.get_linestyle(), two.get_linestyle()) == ("-", "--")
    assert one.get_color() != two.get_color()


def test_many_lines_are_told_apart_in_black_and_white():
    assert len({repr(line_style(number)) for number in range(12)}) == 12
    radii = {f"noise {number}": np.arange(2.0) for number in range(12)}
    display = RadiusDisplay(np.array([0.5, 1.0]), radii).plot()
    first, seventh = display.lines_[0], display.lines_[6]
    assert first.get_linestyle() == seventh.get_linestyle()
    assert first.get_linewidth() < seventh.get_linewidth()
    assert display.ax_.get_ylabel() == "certified radius"
    assert display.ax_.get_legend() is None  # it stands below the axes


def test_no_band_where_nothing_is_certified():
    display = CertifiedAccuracyDisplay.from_certifications(
        Y, certification(Uniform(lambd=1.0)), radii=[0, 0.5, 2.0, 3.0]
    )
    assert display.ax_.collections[0].get_paths()[0].vertices[:, 0].max() == 0.5
