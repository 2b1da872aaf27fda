"""Scores on certifications and logs, against their definitions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, recall_score

from rs4a import Certification, metrics
from rs4a.metrics import (
    abstention_rate,
    average_certified_radius,
    certified_accuracy_interval,
    certified_accuracy_score,
)
from rs4a.metrics.scores import binomial_interval
from rs4a.noises import Gaussian, Uniform
from rs4a.records import BoundRecord

LOG = Path(__file__).parents[1] / "data/cohen_cifar10_resnet110_sigma_0.25.tsv"
VOTES = np.array([[1000, 0], [900, 100], [520, 480], [100, 900], [500, 500]])
CERTIFICATION = Certification(np.array([0, 1]), VOTES, VOTES, Uniform(lambd=1.0), dim=64)
Y = [0, 0, 0, 0, 0]


def test_certified_accuracy_counts_correct_and_far():
    radius = CERTIFICATION.radius(1)
    assert CERTIFICATION.abstained.tolist() == [False, False, True, False, True]
    score = certified_accuracy_score(Y, CERTIFICATION, radius=0.5, norm=1)
    assert isinstance(score, float)
    assert score == 2 / 5
    assert certified_accuracy_score(Y, CERTIFICATION, radius=float(radius[1])) == 2 / 5
    assert (
        certified_accuracy_score(Y, CERTIFICATION, radius=float(radius[1]) + 1e-9) == 1 / 5
    )


def test_abstentions_are_errors_even_at_radius_zero():
    assert certified_accuracy_score(Y, CERTIFICATION, radius=0) == 2 / 5


def test_several_radii_in_any_order_and_kind():
    expected = [0.2, 0.4, 0.0]
    for radii in ([0.9, 0.5, 2.0], (0.9, 0.5, 2.0), np.array([0.9, 0.5, 2.0])):
        np.testing.assert_array_equal(
            certified_accuracy_score(Y, CERTIFICATION, radius=radii), expected
        )
    assert certified_accuracy_score(Y, CERTIFICATION, radius=[]).shape == (0,)


def test_average_certified_radius_is_the_area_under_the_curve():
    grid = np.linspace(0, 1, 200_001)[1:]
    area = certified_accuracy_score(Y, CERTIFICATION, radius=grid[::20]).mean()
    assert average_certified_radius(Y, CERTIFICATION) == pytest.approx(area, abs=1e-3)
    radius = CERTIFICATION.radius()
    assert average_certified_radius(Y, CERTIFICATION) == (radius[0] + radius[1]) / 5


def test_norm_of_the_adversary():
    assert average_certified_radius(Y, CERTIFICATION, norm=2) == pytest.approx(
        average_certified_radius(Y, CERTIFICATION, norm=1) / 8
    )


def test_abstention_rate():
    assert abstention_rate(Y, CERTIFICATION) == 2 / 5


def test_torch_labels():
    assert certified_accuracy_score(torch.tensor(Y), CERTIFICATION, radius=0.5) == 2 / 5


def test_published_log():
    log = Certification.from_tsv(LOG)
    frame = pd.read_csv(LOG, sep="\t")
    for radius in (0.0, 0.25, 0.5, 0.75):
        expected = ((frame["correct"] == 1) & (frame["radius"] >= radius)).mean()
        assert certified_accuracy_score(log.y_true, log, radius=radius) == expected
    scores = certified_accuracy_score(log.y_true, log, radius=[0.25, 0.5])
    np.testing.assert_allclose(scores, [0.60, 0.43], atol=0.015)
    assert abstention_rate(log.y_true, log) == 43 / 500


def test_other_kind_of_labels():
    with pytest.raises(ValueError, match="y_true must have labels as the certification"):
        certified_accuracy_score([str(label) for label in Y], CERTIFICATION, radius=0.5)
    assert (
        certified_accuracy_score(pd.Series(Y, dtype=object), CERTIFICATION, radius=0.5)
        == 0.4
    )


@pytest.mark.parametrize("radius", [-0.1, np.nan, [0.5, -1.0]])
def test_bad_radius(radius):
    with pytest.raises(ValueError, match="radius must be at least 0"):
        certified_accuracy_score(Y, CERTIFICATION, radius=radius)


@pytest.mark.parametrize("score", [certified_accuracy_score, average_certified_radius])
def test_other_number_of_labels(score):
    kwargs = {"radius": 0.5} if score is certified_accuracy_score else {}
    with pytest.raises(ValueError, match="y_true must have 5 entries.*got 3"):
        score([0, 0, 0], CERTIFICATION, **kwargs)


def unbalanced(names=(0, 1)):
    """97 inputs of one class, all certified, and 3 of another, one of them certified."""
    counts = [[1000, 0]] * 99 + [[0, 1000]]
    record = Certification.from_counts(
        counts,
        labels=[names[0]] * 99 + [names[1]],
        classes=names,
        noise=Uniform(lambd=1.0),
        dim=4,
    )
    return [names[0]] * 97 + [names[1]] * 3, record


@pytest.mark.parametrize("names", [(0, 1), ("paid", "default")])
def test_macro_is_the_mean_over_classes(names):
    y, record = unbalanced(names)
    assert certified_accuracy_score(y, record, radius=0.5) == 0.98
    macro = certified_accuracy_score(y, record, radius=[0.5, 2.0], average="macro")
    np.testing.assert_array_equal(macro, [(1 + 1 / 3) / 2, 0.0])
    radius = record.radius()[0]
    acr = average_certified_radius(y, record, average="macro")
    assert acr == pytest.approx(radius * 2 / 3)
    assert abstention_rate(y, record, average="macro") == 0.0


@pytest.mark.parametrize("kind", [list, np.array, pd.Series, torch.tensor])
def test_weights_are_those_of_scikit_learn(kind):
    y, record = unbalanced()
    weights = np.random.default_rng(0).integers(0, 5, 100).tolist()
    score = certified_accuracy_score(
        y, record, radius=[0, 2.0], sample_weight=kind(weights)
    )
    assert score[0] == pytest.approx(
        accuracy_score(y, record.labels, sample_weight=weights)
    )
    macro = certified_accuracy_score(
        y, record, radius=0, sample_weight=kind(weights), average="macro"
    )
    expected = recall_score(y, record.labels, sample_weight=weights, average="macro")
    assert macro == pytest.approx(expected)


def test_classes_without_weight_are_left_out_and_all_right_is_exactly_one():
    y, record = unbalanced()
    weights = np.r_[np.random.default_rng(0).random(97), np.zeros(3)]
    score = certified_accuracy_score(
        y, record, radius=[0, 0.5, 0.9], sample_weight=weights, average="macro"
    )
    np.testing.assert_array_equal(score, [1.0, 1.0, 1.0])
    one = certified_accuracy_score([0] * 100, record, radius=0, average="macro")
    assert one == 0.99  # a class that is predicted only is none of y


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        ([1.0] * 4, r"one number for each of the 5 inputs.* got shape \(4,\)"),
        (["a"] * 5, "one number for each of the 5 inputs.* dtype <U1"),
        ([1, 1, 1, 1, -1], "must be finite and at least 0, got -1"),
    ],
)
def test_bad_weights(weights, error):
    for score in (average_certified_radius, abstention_rate):
        with pytest.raises(ValueError, match=f"sample_weight.*{error}"):
            score(Y, CERTIFICATION, sample_weight=weights)


@pytest.mark.parametrize("average", [None, "weighted", 1])
def test_bad_average(average):
    for score in (average_certified_radius, abstention_rate):
        with pytest.raises(ValueError, match="average must be 'micro'"):
            score(Y, CERTIFICATION, average=average)


def test_infinite_radius_without_weight():
    y, record = unbalanced()
    radii = np.r_[np.full(99, 1.0), np.inf]
    log = Log(record.labels, record.abstained, radii)
    weights = np.r_[np.ones(99), 0.0]
    assert np.isfinite(average_certified_radius(y, log, sample_weight=weights))


class Log:
    def __init__(self, labels, abstained, radii):
        self.labels, self.abstained, self.radii = labels, abstained, radii

    def radius(self, norm=None):
        return self.radii


def test_interval_over_classes():
    y, record = unbalanced()
    low, high = certified_accuracy_interval(y, record, radius=0.5, average="macro")
    each = [
        binomial_interval(np.array(share), n, 0.975) for share, n in ((1, 97), (1 / 3, 3))
    ]
    assert (low, high) == tuple(np.mean(each, axis=0))


# Records without inputs


def records_without_inputs():
    noise = Gaussian(sigma=0.25)
    votes = Certification.from_counts([[990, 10]], labels=[0], noise=noise, dim=4)
    bounds = BoundRecord(np.array([0, 1]), np.array([0]), np.array([0.9]), noise, 4)
    log = Certification.from_tsv(LOG, noise=noise, dim=3072)
    return [record[:0] for record in (votes, bounds, log)]


CALLS = {
    "score": lambda record: certified_accuracy_score([], record, radius=[0.1, 0.2]),
    "interval": lambda record: metrics.certified_accuracy_interval([], record, radius=0.1),
    "acr": lambda record: metrics.average_certified_radius([], record),
    "abstentions": lambda record: metrics.abstention_rate([], record),
    "frame": lambda record: metrics.certified_accuracy_frame([(record, [])], radii=[0.1]),
    "table": lambda record: metrics.certified_accuracy_table([(record, [])], radii=[0.1]),
    "display": lambda record: metrics.CertifiedAccuracyDisplay.from_certifications(
        [], {"a": record}
    ),
    "envelope": lambda record: metrics.EnvelopeDisplay.from_results([(record, [])]),
    "panels": lambda record: metrics.SigmaCurvesDisplay.from_results([(record, [])]),
    "predictions": lambda record: metrics.PredictionDisplay.from_results([(record, [])]),
    "radii": lambda record: metrics.PredictionDisplay.from_results(
        [(record, [])], target="radius"
    ),
}


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["votes", "bounds", "log"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_nothing_is_known_of_no_inputs(call, kind):
    with pytest.raises(
        ValueError, match="^certification must hold at least one input, got"
    ):
        call(records_without_inputs()[kind])


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["votes", "bounds", "log"])
def test_records_of_no_inputs_are_records(kind):
    record = records_without_inputs()[kind]
    assert len(record) == len(record.radius()) == len(record.radius(np.inf)) == 0
    assert "n=0" in repr(record)
    assert "nan" not in str(record)
    if kind < 2:
        assert record.to_frame().shape[0] == 0


def test_a_summary_of_no_inputs_has_no_accuracy():
    record = records_without_inputs()[0]
    assert record.summary().startswith("0 inputs under Gaussian(sigma=0.25)")
    with pytest.raises(
        ValueError, match="^certification must hold at least one input, got"
    ):
        record.summary([])
