"""Comparison of two classifiers: McNemar's test, Holm's correction, the paired interval."""

from dataclasses import FrozenInstanceError, replace
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rs4a import Certification
from rs4a.metrics import certified_accuracy_score, compare_certified
from rs4a.metrics.comparisons import _paired_interval
from rs4a.noises import Gaussian, Uniform
from rs4a.records import BoundRecord

RADII = [0.0, 0.3, 0.6, 0.9]
#: Votes of 1000 for class 0 whose radii in l1, under Uniform(lambd=1), are 0 to 0.95.
LEVELS = np.array([400, 520, 700, 850, 1000])


def record_of(top, noise=None):
    top = np.asarray(top)
    return Certification.from_counts(
        np.stack([top, 1000 - top], axis=1), labels=np.where(top < 500, 1, 0),
        noise=noise or Uniform(lambd=1.0), dim=64,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pair():
    """Records a and b, of which a is often better, and true labels."""
    rng = np.random.default_rng(3)
    a, b = LEVELS[rng.integers(1, 5, 60)], LEVELS[rng.integers(0, 4, 60)]
    y = np.zeros(60, int)
    y[:5] = 1
    return record_of(a), record_of(b), y


def exact_p(i, j):
    """Twice the probability of as few heads, or fewer, among i + j fair coins."""
    n = i + j
    return min(1.0, 2 * sum(comb(n, k) for k in range(min(i, j) + 1)) / 2**n)


def holm_by_hand(p_values):
    order = np.argsort(p_values, kind="stable")
    steps = np.array(p_values)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def test_against_the_definitions(pair):
    a, b, y = pair
    result = compare_certified(y, a, b, radius=RADII, norm=1)
    certified = [
        np.array(
            [(each.labels == y) & ~each.abstained & (each.radius(1) >= r) for r in RADII]
        )
        for each in (a, b)
    ]
    only_a = [sum(rows[0] > rows[1]) for rows in np.stack(certified, axis=1)]
    only_b = [sum(rows[1] > rows[0]) for rows in np.stack(certified, axis=1)]
    assert result.only_a.tolist() == only_a
    assert result.only_b.tolist() == only_b
    assert max(only_b) > 0
    p_values = [exact_p(i, j) for i, j in zip(only_a, only_b, strict=True)]
    np.testing.assert_allclose(result.p_value, p_values, rtol=1e-9)
    np.testing.assert_allclose(result.p_adjusted, holm_by_hand(p_values), rtol=1e-9)
    assert (result.p_adjusted > result.p_value).any()
    assert result.statistic.tolist() == np.minimum(only_a, only_b).tolist()
    for got, each in ((result.accuracy_a, a), (result.accuracy_b, b)):
        expected = certified_accuracy_score(y, each, radius=RADII, norm=1)
        np.testing.assert_array_equal(got, expected)
    np.testing.assert_allclose(result.difference, result.accuracy_a - result.accuracy_b)
    assert (result.low < result.difference).all()
    assert (result.difference < result.high).all()
    assert (result.n_inputs, result.norm, result.confidence) == (60, 1, 0.95)


def test_more_than_few_discordant_inputs_are_tested_exactly():
    a, b = record_of([1000] * 70 + [520] * 40), record_of([520] * 70 + [1000] * 40)
    result = compare_certified([0] * 110, a, b, radius=0.5)
    assert result.p_value == pytest.approx(exact_p(70, 40), rel=1e-9)
    assert result.p_value == result.p_adjusted


def test_one_radius_gives_numbers_and_records_change_places(pair):
    a, b, y = pair
    one, swapped = (
        compare_certified(y, a, b, radius=0.6),
        compare_certified(y, b, a, radius=0.6),
    )
    kinds = {name: type(value) for name, value in vars(one).items()}
    assert {kinds.pop("only_a"), kinds.pop("only_b"), kinds.pop("n_inputs")} == {int}
    assert set(kinds.values()) == {float}
    assert one.norm == 1
    assert (one.only_a, one.only_b) == (swapped.only_b, swapped.only_a)
    assert one.difference == -swapped.difference
    assert (one.low, one.high) == pytest.approx((-swapped.high, -swapped.low))
    assert one.p_value == swapped.p_value < 0.05
    same = compare_certified(y, a, a)
    assert (same.radius, same.difference, same.p_value) == (0.0, 0.0, 1.0)
    assert (same.low, same.high) == pytest.approx((-same.high, same.high))
    with pytest.raises(FrozenInstanceError):
        same.p_value = 0.0


def test_table_and_text(pair):
    a, b, y = pair
    result = compare_certified(y, a, b, radius=RADII, confidence=0.9)
    frame = result.to_frame()
    assert frame.index.name == "l1 radius"
    assert frame.index.tolist() == RADII
    assert frame["only_a"].tolist() == result.only_a.tolist()
    lines = str(result).splitlines()
    assert "60 inputs; 90% interval" in lines[0]
    assert "4 radii" in lines[1]
    head = "l1 radius a b a - b low high only a only b p adjusted p"
    assert " ".join(lines[2].split()) == head
    last = lines[-1].split()
    discordant = [str(result.only_a[-1]), str(result.only_b[-1])]
    assert [last[0], *last[6:8]] == ["0.9", *discordant]
    assert float(last[-1]) == pytest.approx(result.p_adjusted[-1], rel=0.05)
    text = str(compare_certified(y, a, b, radius=0.3))
    assert "1 radius" in text
    assert len(text.splitlines()) == 4


def test_logs_and_bounds_are_compared_as_records_are(pair, tmp_path):
    a, b, y = pair
    expected = compare_certified(y, a, b, radius=RADII).to_frame()
    logs = []
    for name, each in (("a", a), ("b", b)):
        each.to_tsv(tmp_path / name, y)
        logs.append(Certification.from_tsv(tmp_path / name))
    bounds = BoundRecord(b.classes, b.labels, b.prob_lower, b.noise, b.dim)
    for first, second in (logs, (a, logs[1]), (a, bounds)):
        got = compare_certified(y, first, second, radius=RADII).to_frame()
        pd.testing.assert_frame_equal(got, expected)


def test_other_inputs_are_refused(pair, tmp_path):
    a, b, y = pair
    with pytest.raises(ValueError, match="a and b must be of the same inputs.* 60 and 59"):
        compare_certified(y, a, b[1:])
    a.to_tsv(tmp_path / "log.tsv", y)
    log = Certification.from_tsv(tmp_path / "log.tsv")
    other = replace(log, index=log.index + np.arange(60) // 30)
    with pytest.raises(
        ValueError, match="same inputs.* index 30 and 31 in row 30.*common_i"
    ):
        compare_certified(y, log, other)
    other_labels = replace(log, y_true=np.where(np.arange(60) == 7, 1, log.y_true))
    with pytest.raises(ValueError, match="same inputs.* y_true 0 and 1 in row 7"):
        compare_certified(y, log, other_labels)
    named = [replace(b, index=pd.Index(list(names))) for names in ("x" * 60, "y" * 60)]
    with pytest.raises(ValueError, match="same inputs.* index x and y in row 0"):
        compare_certified(y, *named)
    compare_certified(y, named[0], replace(a, index=named[0].index))
    compare_certified(y, named[0], a)  # one of them does not know its names


def test_bad_arguments_have_one_error_each(pair):
    a, b, y = pair
    with pytest.raises(ValueError, match="norm must be given"):
        compare_certified(y, a, record_of([1000] * 60, Gaussian(sigma=1.0)))
    with pytest.raises(ValueError, match="y_true must have 60 entries"):
        compare_certified(y[1:], a, b)
    with pytest.raises(ValueError, match=r"radius must hold at least one radius, got \[\]"):
        compare_certified(y, a, b, radius=[])
    with pytest.raises(ValueError, match="radius must be at least 0"):
        compare_certified(y, a, b, radius=[0.1, -0.1])
    for confidence in (0.0, 95, None):
        with pytest.raises(ValueError, match="confidence must be a float in the range"):
            compare_certified(y, a, b, confidence=confidence)
    with pytest.raises(TypeError, match="certification must be a Certification"):
        compare_certified(y, a, y)
    none = a[np.zeros(60, bool)]
    with pytest.raises(ValueError, match="must hold at least one input"):
        compare_certified([], none, none)


@pytest.mark.parametrize("n", [30, 200])
@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.15, 0.05), (0.4, 0.2)], ids=str)
def test_paired_interval_covers_nearly_as_often_as_it_says(n, shares):
    """Exact sum over all pairs of counts, but those of probability below 1e-9."""
    i, j = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    law = stats.multinomial.pmf(
        np.stack([i, j, np.maximum(n - i - j, 0)], axis=-1), n, [*shares, 1 - sum(shares)]
    )
    law = np.where(i + j <= n, law, 0.0)
    assert law.sum() == pytest.approx(1.0)
    low, high = _paired_interval(i, j, n, 0.95)
    covered = (low <= shares[0] - shares[1]) & (shares[0] - shares[1] <= high)
    assert 0.94 < (law * covered).sum() < 0.98
