"""Distributions of predictions are those of the records."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rs4a import Certification
from rs4a.metrics import PredictionDisplay
from rs4a.metrics.scores import binomial_interval
from rs4a.noises import Gaussian, Laplace, Uniform
from rs4a.records import BoundRecord

CLASSES = np.array(["cat", "dog"])
VOTES = np.array([[990, 10], [700, 300], [520, 480], [100, 900]])
SELECTION = np.array([[10, 0], [7, 3], [6, 4], [1, 9]])
Y = ["cat", "dog", "cat", "emu"]


def certification(noise, norm=1):
    return Certification(CLASSES, SELECTION, VOTES, noise, dim=64, norm=norm)


def record(noise, proba=SELECTION / 10):
    votes = certification(noise)
    return BoundRecord(CLASSES, votes.labels, votes.prob_lower, noise, 64, 1, proba=proba)


RESULTS = [
    (certification(Uniform(sigma=1.0)), Y),
    (record(Laplace(sigma=0.5)), Y),
    (certification(Uniform(sigma=0.5)), Y),
]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def drawn(line):
    """Values whose distribution a line shows, and their shares."""
    return np.asarray(line.get_xdata())[1:], np.asarray(line.get_ydata())[1:]


@pytest.mark.parametrize("target", ["prob_lower", "prob_correct", "radius"])
def test_distributions(target):
    display = PredictionDisplay.from_results(RESULTS, target=target)
    assert [ax.get_title() for ax in display.axes_] == ["sigma = 0.5", "sigma = 1"]
    labels = [[line.get_label() for line in lines] for lines in display.lines_]
    assert labels == [["Laplace", "Uniform"], ["Uniform"]]
    lines = [*display.lines_[0], *display.lines_[1]]
    for line, (each, _) in zip(lines, [RESULTS[1], RESULTS[2], RESULTS[0]], strict=True):
        expected = {
            "prob_lower": each.prob_lower,
            # Of cat, dog, cat; nothing voted for an emu.
            "prob_correct": [1.0, 0.3, 0.6, 0.0],
            "radius": each.radius(1),
        }[target]
        values, shares = drawn(line)
        np.testing.assert_allclose(values, np.sort(expected), rtol=1e-12)
        np.testing.assert_allclose(shares, [0.25, 0.5, 0.75, 1.0])
        assert values.max() <= line.axes.get_xlim()[1]


def test_labels():
    radius = PredictionDisplay.from_results(RESULTS, target="radius", norm=np.inf)
    assert radius.axes_[0].get_xlabel() == "certified linf radius"
    bounds = PredictionDisplay.from_results(RESULTS)
    assert bounds.axes_[0].get_xlabel() == "lower bound on the top class"
    assert bounds.axes_[0].get_xlim() == (0.0, 1.0)
    (legend,) = bounds.figure_.legends
    assert [text.get_text() for text in legend.get_texts()] == ["Laplace", "Uniform"]


def test_lines_are_told_apart():
    display = PredictionDisplay.from_results(RESULTS)
    (laplace, uniform), (alone,) = display.lines_
    assert uniform.get_linestyle() == alone.get_linestyle() != laplace.get_linestyle()


@pytest.mark.parametrize("target", ["prob_lower", "prob_correct", "radius"])
def test_bands_are_intervals_of_the_shares(target):
    display = PredictionDisplay.from_results(RESULTS, target=target, confidence=0.9)
    assert [len(bands) for bands in display.bands_] == [2, 1]
    low, high = binomial_interval([0.0, 0.25, 0.5, 0.75, 1.0], 4, 0.9)
    for lines, bands in zip(display.lines_, display.bands_, strict=True):
        for line, band in zip(lines, bands, strict=True):
            corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
            values = np.asarray(line.get_xdata())
            assert corners >= {
                *zip(values, low, strict=True),
                *zip(values, high, strict=True),
            }
            # A share holds from its value on, up to the next one.
            assert corners >= set(zip(values[1:], low[:-1], strict=True))
    plain = PredictionDisplay.from_results(RESULTS, target=target, confidence=None)
    assert plain.bands_ == [[], []]


def test_panels_can_be_given():
    _, axes = plt.subplots(2)
    display = PredictionDisplay.from_results(RESULTS, ax=axes, linewidth=3)
    assert list(display.axes_) == list(axes)
    assert display.lines_[0][0].get_linewidth() == 3


def test_wrong_arguments():
    with pytest.raises(ValueError, match="target must be one of .* got 'votes'"):
        PredictionDisplay.from_results(RESULTS, target="votes")
    for names, twice in ((None, "Uniform"), (["A", "A"], "A")):
        with pytest.raises(ValueError, match=f"two with {twice} and sigma=1.*by names="):
            PredictionDisplay.from_results([RESULTS[0], RESULTS[0]], names=names)
    without = [(record(Laplace(sigma=0.5), proba=None), Y)]
    assert PredictionDisplay.from_results(without, target="radius").norm == 1.0
    with pytest.raises(ValueError, match="BoundRecord with proba=None"):
        PredictionDisplay.from_results(without, target="prob_correct")
    both = [*RESULTS, (certification(Gaussian(sigma=1.0), norm=2), Y)]
    PredictionDisplay.from_results(both)  # no radii, no norm
    with pytest.raises(ValueError, match="norm must be given"):
        PredictionDisplay.from_results(both, target="radius")


def test_labels_must_fit():
    with pytest.raises(ValueError, match="y_true must have 4 entries"):
        PredictionDisplay.from_results([(RESULTS[0][0], Y[:3])], target="prob_correct")
    other = (RESULTS[0][0], ["cat", "dog", "emu", "cat"])
    with pytest.raises(ValueError, match="must be of the same inputs"):
        PredictionDisplay.from_results([*RESULTS, other])


def test_two_seeds_have_names():
    two = [RESULTS[0], (record(Uniform(sigma=1.0)), Y)]
    display = PredictionDisplay.from_results(two, names=["one", "two"])
    (lines,) = display.lines_
    assert [line.get_label() for line in lines] == ["one", "two"]


def test_a_log_knows_radii_only(tmp_path):
    RESULTS[0][0].to_tsv(tmp_path / "log.tsv", Y)
    noise = Uniform(sigma=1.0)
    log = Certification.from_tsv(tmp_path / "log.tsv", norm=1, dim=64, noise=noise)
    results = [(log, log.y_true)]
    ((line,),) = PredictionDisplay.from_results(results, target="radius").lines_
    np.testing.assert_array_equal(drawn(line)[0], np.sort(log.radius(1)))
    np.testing.assert_allclose(log.radius(1), RESULTS[0][0].radius(1), rtol=0, atol=1e-10)
    for target in ("prob_lower", "prob_correct"):
        with pytest.raises(ValueError, match="must be 'radius' for a CertificationLog"):
            PredictionDisplay.from_results(results, target=target)
