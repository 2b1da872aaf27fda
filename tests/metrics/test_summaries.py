"""A certification in a few lines."""

import re

import numpy as np
import pytest
from scipy.stats import binom

from rs4a import Certification
from rs4a.bounds import ConfidenceSequence
from rs4a.exceptions import CertificationWarning
from rs4a.metrics import certified_accuracy_interval, certified_accuracy_score
from rs4a.noises import Splitting, Uniform

COUNTS = [[1000, 0], [990, 10], [900, 100], [520, 480], [0, 1000]]
LABELS = [0, 0, 0, 0, 1]


@pytest.fixture
def record():
    return Certification.from_counts(
        COUNTS, labels=LABELS, noise=Uniform(lambd=1.0), dim=64
    )


def test_print(record):
    text = str(record)
    assert text == record.summary() == Certification.summary(record)
    assert text.splitlines()[0] == "5 inputs under Uniform(lambd=1.0)"
    assert "estimation votes: 5000, 1000 per input" in text
    assert "abstained: 1 of 5" in text
    # Rounded down: radii are 0.986..., 0.95..., 0.74..., 0 and 0.986...
    radius = np.sort(record.radius())
    assert f"median {np.floor(radius[2] * 1000) / 1000:.3f}" in text
    assert f"largest {np.floor(radius[4] * 1000) / 1000:.3f}" in text
    assert "accuracy" not in text


def test_labels_and_radii(record):
    text = record.summary([0, 0, 0, 0, 0], radii=[0.0, 0.5])
    assert "  l1 radius 0: 60.0% (14.6% to 94.8%)" in text
    assert "  l1 radius 0.5: 60.0% (14.6% to 94.8%)" in text
    with pytest.raises(ValueError, match="y_true must have 5 entries"):
        record.summary([0, 0])
    with pytest.raises(ValueError, match="radii must be None without y_true"):
        record.summary(radii=[0.5])
    with pytest.raises(ValueError, match="radius must be at least 0"):
        record.summary(LABELS, radii=[-1.0])


def test_radii_of_its_own_are_round_and_within_reach(record):
    lines = record.summary(LABELS).splitlines()
    radii = [float(line.split()[2][:-1]) for line in lines if line.startswith("  l1")]
    assert radii == [0, 0.2, 0.4, 0.6, 0.8]
    nothing = Certification.from_counts(
        [[5, 5]], labels=[0], noise=Uniform(lambd=1.0), dim=64
    )
    assert "  l1 radius 0: 0.0%" in nothing.summary([0])


def test_another_norm(record):
    text = record.summary(LABELS, norm=np.inf)
    assert "certified radius, in linf norm, alters" in text
    assert "  linf radius 0: 80.0%" in text


def test_numbers_of_votes_and_html():
    adaptive = Certification.from_counts(
        [[1000, 0], [50, 10]],
        labels=[0, 0],
        noise=Uniform(lambd=1.0),
        dim=64,
        bound=ConfidenceSequence(),
        adaptive=True,
    )
    assert "estimation votes: 1060, 60 to 1000 per input" in str(adaptive)
    assert adaptive._repr_html_() == f"<pre>{adaptive}</pre>"
    assert repr(adaptive).startswith("Certification(n=2, noise=Uniform(lambd=1.0)")


def test_deterministic_and_empty(record):
    noise = Splitting(lambd=1.0, deterministic=True, levels=4, seed=0)
    n_views = noise.n_views(64)
    exact = Certification.from_counts(
        [[n_views, 0]], noise=noise, dim=64, classes=[0, 1], adaptive=None
    )
    assert "probability" not in str(exact)
    none = Certification(
        np.array([0, 1]),
        np.zeros((0, 2), int),
        np.zeros((0, 2), int),
        Uniform(lambd=1.0),
        4,
    )
    assert str(none).startswith("0 inputs under Uniform")


def test_interval_is_that_of_clopper_and_pearson(record):
    rng = np.random.default_rng(0)
    votes = np.column_stack([rng.integers(400, 1001, 80), np.zeros(80, int)])
    votes[:, 1] = 1000 - votes[:, 0]
    many = Certification.from_counts(
        votes, labels=np.zeros(80, int), noise=Uniform(lambd=1.0), dim=64
    )
    radii = np.linspace(0.0, 1.0, 21)
    for confidence in (0.9, 0.99):
        low, high = certified_accuracy_interval(
            np.zeros(80), many, radius=radii, confidence=confidence
        )
        hits = np.rint(80 * certified_accuracy_score(np.zeros(80), many, radius=radii))
        # At each end, as many hits or more, or as few or fewer, are just rare enough.
        tail = (1 - confidence) / 2
        some, most = hits > 0, hits < 80
        as_many = binom.sf(hits - 1, 80, low)
        np.testing.assert_allclose(as_many, np.where(some, tail, 1.0), rtol=1e-9)
        as_few = binom.cdf(hits, 80, high)
        np.testing.assert_allclose(as_few, np.where(most, tail, 1.0), rtol=1e-9)
        assert some.any()
        assert most.any()
    assert low[-1] == 0.0


def test_interval_of_one_radius_and_of_all_right(record):
    low, high = certified_accuracy_interval(LABELS[:3], _first(record, 3), radius=0.0)
    assert isinstance(low, float)
    assert low == pytest.approx(0.025 ** (1 / 3))
    assert high == 1.0
    with pytest.raises(ValueError, match="confidence must be"):
        certified_accuracy_interval(LABELS, record, radius=0.0, confidence=95)


def _first(record, n):
    return Certification.from_counts(
        record.counts[:n], labels=record.labels[:n], noise=record.noise, dim=record.dim
    )


def test_small_radii_keep_their_digits(record):
    small = Certification.from_counts(
        COUNTS, labels=LABELS, noise=Uniform(sigma=0.001), dim=3072
    )
    largest = small.radius(np.inf).max()
    text = re.search(r"linf radius: .* largest (\S+)", small.summary(norm=np.inf))[1]
    assert len(text.lstrip("0.")) == 3
    assert 0.99 * largest < float(text) <= largest


def test_accuracies_are_rounded_down_and_radii_not_up():
    many = Certification.from_counts(
        [[1000, 0]] * 4998 + [[0, 1000]] * 2,
        labels=[0] * 4998 + [1] * 2, noise=Uniform(lambd=1.0), dim=4,
    )  # fmt: skip
    text = many.summary(np.zeros(5000), radii=[0.1234567])
    assert "  l1 radius 0.1234567: 99.9% (99.8% to 100.0%)" in text


def test_rows_of_classes_and_a_warning_of_one_answer():
    record = Certification.from_counts(
        [[1000, 0]] * 100, labels=["paid"] * 100, classes=["paid", "default"],
        noise=Uniform(lambd=1.0), dim=4,
    )  # fmt: skip
    y = ["paid"] * 97 + ["default"] * 3
    with pytest.warns(CertificationWarning, match="Every answer under .* is 'paid'"):
        text = record.summary(y, radii=[0.0, 0.5], average="macro")
    assert "certified accuracy, mean over classes, with its 95% interval" in text
    assert "  l1 radius 0.5: 50.0% (" in text
    rows = [line.split() for line in text.splitlines()[-2:]]
    assert rows == [["default", "3", "0.0%", "0.0%"], ["paid", "97", "100.0%", "100.0%"]]
    with pytest.warns(CertificationWarning):
        weighted = record.summary(y, radii=[0.5], sample_weight=[1.0] * 97 + [97 / 3] * 3)
    assert "weighted, without an interval" in weighted
    assert weighted.splitlines()[8] == "  l1 radius 0.5: 50.0%"
    with pytest.raises(ValueError, match="sample_weight must be None without y_true"):
        record.summary(sample_weight=[1.0] * 100)
    assert "each class" not in record.summary(["paid"] * 100)


def test_of_many_classes_the_lowest_have_rows():
    counts = np.eye(30, dtype=int) * 1000
    record = Certification.from_counts(
        counts, labels=range(30), noise=Uniform(lambd=1.0), dim=4
    )
    lines = record.summary(np.r_[np.arange(29), 0]).splitlines()
    start = next(i for i, line in enumerate(lines) if "20 of 29 classes" in line)
    assert lines[start + 2].split()[:3] == ["0", "2", "50.0%"]
    assert len(lines) == start + 22
