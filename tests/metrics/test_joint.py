"""Joint statements: Holm's correction against p-values, and the error of families."""

import numpy as np
import pytest
import torch
from conftest import Threshold, frozen
from scipy import stats
from scipy.special import betaln, xlog1py, xlogy
from statsmodels.stats.multitest import multipletests

from rs4a import Certification, SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.metrics import jointly_certified
from rs4a.metrics.predictions import certified_hits
from rs4a.noises import Gaussian, Splitting, Uniform
from rs4a.records import BoundRecord

N_VOTES, RADIUS = 1000, 0.5


def votes_near_the_threshold(n=400, share=0.75, n_classes=3, seed=0):
    """Votes for class 0, many of them around the share that the radius needs."""
    rng = np.random.default_rng(seed)
    top = rng.binomial(N_VOTES, np.clip(rng.normal(share, 0.03, n), 0.5, 1.0))
    second = rng.binomial(N_VOTES - top, 0.7)
    rest = np.zeros((n, n_classes - 3), dtype=int)
    return np.column_stack([top, second, N_VOTES - top - second, rest])


def record_of(counts, noise, bound=None, **kwargs):
    rng = np.random.default_rng(1)
    return Certification.from_counts(
        counts, labels=np.zeros(len(counts), int), noise=noise, dim=16, bound=bound,
        tokens=rng.integers(2**64, size=len(counts), dtype=np.uint64), **kwargs,
    )  # fmt: skip


def holm(p_values, alpha):
    return multipletests(p_values, alpha=alpha, method="holm")[0]


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
@pytest.mark.parametrize(
    ("noise", "norm", "needed"),
    [
        (Uniform(lambd=1.0), 1, 0.5 + RADIUS / 2),
        (Gaussian(sigma=1.0), 2, stats.norm.cdf(RADIUS)),
    ],
    ids=["Uniform", "Gaussian"],
)
def test_marks_those_of_binomial_p_values(noise, norm, needed, alpha):
    counts = votes_near_the_threshold(share=needed + 0.05)
    y = np.zeros(len(counts), int)
    y[::7] = 1  # the answer is another one: nothing is claimed
    p_values = stats.binom.sf(counts[:, 0] - 1, N_VOTES, needed)
    p_values[y != 0] = 1.0
    expected = holm(p_values, alpha)
    record = record_of(counts, noise)
    marked = jointly_certified(y, record, radius=RADIUS, norm=norm, alpha=alpha)
    np.testing.assert_array_equal(marked, expected)
    assert marked.dtype == bool
    # Holm's steps matter: the first one alone marks fewer, no correction marks more.
    first = certified_hits(y, record.recompute(alpha=alpha / len(y)), RADIUS, norm)[1]
    alone = certified_hits(y, record.recompute(alpha=alpha), RADIUS, norm)[1]
    assert first.sum() < marked.sum() < alone.sum()


def test_marks_those_of_the_wealth_of_a_sequence():
    counts = votes_near_the_threshold(share=0.82)
    k, n, p = counts[:, 0], N_VOTES, 0.5 + RADIUS / 2
    log_wealth = betaln(k + 0.5, n - k + 0.5) - betaln(0.5, 0.5)
    log_wealth -= xlogy(k, p) + xlog1py(n - k, -p)
    # A share below p is no evidence that the probability is above it.
    p_values = np.where(k / n > p, np.minimum(np.exp(-log_wealth), 1.0), 1.0)
    record = record_of(counts, Uniform(lambd=1.0), ConfidenceSequence())
    marked = jointly_certified(np.zeros(len(counts)), record, radius=RADIUS)
    np.testing.assert_array_equal(marked, holm(p_values, 0.05))
    assert 0 < marked.sum() < len(marked)


def smallest_alphas(record, norm):
    """p-values by bisection: the smallest alpha that certifies each input, rounded up."""
    low, high = np.full(len(record), 1e-12), np.ones(len(record))
    for _ in range(20):
        middle = np.sqrt(low * high)
        enough = np.array(
            [
                record[i].recompute(alpha=a).radius(norm)[0] >= RADIUS
                for i, a in enumerate(middle.tolist())
            ]
        )
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return high


@pytest.mark.parametrize(
    "bound",
    [
        ClopperPearson(randomized=True),
        ClopperPearson(runner_up=True),
        ConfidenceSequence(runner_up=True),
    ],
    ids=str,
)
def test_marks_those_of_the_smallest_alphas(bound):
    counts = votes_near_the_threshold(n=30, share=0.74)
    record = record_of(counts, Gaussian(sigma=1.0), bound)
    marked = jointly_certified(np.zeros(30, int), record, radius=RADIUS)
    np.testing.assert_array_equal(marked, holm(smallest_alphas(record, 2), 0.05))
    assert 0 < marked.sum() < 30


def test_alpha_of_the_record_is_ignored_and_norms_are_heeded():
    counts = votes_near_the_threshold(share=0.82)
    y, record = np.zeros(len(counts), int), record_of(counts, Uniform(lambd=1.0))
    marked = jointly_certified(y, record, radius=RADIUS)
    other = record.recompute(alpha=0.3)
    np.testing.assert_array_equal(jointly_certified(y, other, radius=RADIUS), marked)
    in_l2 = jointly_certified(y, record, radius=RADIUS / 4, norm=2)  # 4: root of dim
    np.testing.assert_array_equal(in_l2, marked)
    assert not jointly_certified(y, record, radius=2.1).any()
    all_right = record_of([[N_VOTES, 0]] * 5, Uniform(lambd=1.0))
    assert jointly_certified([0] * 5, all_right, radius=RADIUS).all()


def test_deterministic_votes_need_no_correction():
    noise = Splitting(lambd=1.0, deterministic=True, levels=4, seed=0)
    n_views = noise.n_views(64)
    record = Certification.from_counts(
        [[n_views, 0], [n_views - 1, 1], [0, n_views]], noise=noise, dim=64
    )
    radius = record.radius()[1]
    marked = jointly_certified([0, 0, 0], record, radius=radius, alpha=1e-9)
    assert marked.tolist() == [True, True, False]


@pytest.mark.slow
def test_error_of_families_under_a_net_with_known_probabilities():
    """Half of the inputs lie just within the radius of the other class."""
    n_families, size, alpha, radius = 1000, 10, 0.1, 0.3
    rng = np.random.default_rng(5)
    X = rng.uniform(-1.0, 1.0, (n_families * size, 2)).astype(np.float32)
    false = np.arange(len(X)) % size < size // 2
    X[:, 0] = np.where(false, -radius * (1 - 1e-6), -0.9)
    clf = SmoothedClassifier(
        frozen(Threshold, [0, 1]), noise=Uniform(lambd=1.0), bound=ClopperPearson(n=300),
        n_selection=16, random_state=0,
    ).fit(X[:4], np.array([0, 1, 0, 1]))  # fmt: skip
    record = clf.certify(X)
    share = record.counts[false, 0].sum() / record.counts[false].sum()
    assert share == pytest.approx(0.5 + radius / 2, abs=0.002)
    wrong, marked_true = [], 0
    for rows in np.arange(len(X)).reshape(n_families, size):
        marked = jointly_certified([0] * size, record[rows], radius=radius, alpha=alpha)
        wrong.append((marked & false[rows]).any())
        marked_true += (marked & ~false[rows]).sum()
    assert sum(wrong) <= stats.binom.ppf(1 - 1e-6, n_families, alpha)
    # The correction is not so strong that the bound says nothing; without it, it fails.
    assert sum(wrong) > n_families * alpha / 3
    assert marked_true > 0.99 * n_families * size / 2
    hits = certified_hits([0] * len(X), record.recompute(alpha=alpha), radius, 1)[1]
    uncorrected = (hits & false).reshape(n_families, size).any(axis=1)
    assert uncorrected.sum() > stats.binom.ppf(1 - 1e-6, n_families, alpha)


def test_bad_arguments_have_one_error_each(tmp_path):
    record = record_of([[N_VOTES, 0]] * 3, Uniform(lambd=1.0))
    y = [0, 0, 0]
    for alpha in (0.0, 1.0, 5, "0.05"):
        with pytest.raises(ValueError, match=r"alpha must be a float in the range \(0, 1"):
            jointly_certified(y, record, radius=0.5, alpha=alpha)
    for radius in (-0.1, np.nan):
        with pytest.raises(ValueError, match="radius must be at least 0"):
            jointly_certified(y, record, radius=radius)
    with pytest.raises(ValueError, match="radius must be a single number"):
        jointly_certified(y, record, radius=[0.1, 0.2])
    with pytest.raises(ValueError, match="y_true must have 3 entries"):
        jointly_certified([0], record, radius=0.5)
    with pytest.raises(TypeError, match="certification must be a Certification"):
        jointly_certified(y, torch.zeros(3), radius=0.5)
    record.to_tsv(tmp_path / "log.tsv", y)
    no_votes = [
        Certification.from_tsv(tmp_path / "log.tsv"),
        BoundRecord(np.array([0, 1]), np.array(y), np.full(3, 0.9), record.noise, 16),
    ]
    for each in no_votes:
        with pytest.raises(TypeError, match=f"votes.* got {type(each).__name__}"):
            jointly_certified(y, each, radius=0.5)
