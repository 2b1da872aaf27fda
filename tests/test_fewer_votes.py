"""Certification that stops when the votes suffice, as a user meets it."""

from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Threshold, frozen
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

import rs4a.voting.sequential
from rs4a import Certification, CertificationWarning, Inference, SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.metrics import make_certified_scorer
from rs4a.noises import Exp2, Gaussian, Laplace, Uniform

RADII = [0.1, 0.25, 0.4]


@pytest.fixture(scope="module")
def clf(fitted):
    """Frozen net under Uniform noise, lambda = 0.52, and a bound that may stop."""
    return SmoothedClassifier(
        FrozenEstimator(fitted["Uniform"].estimator_),
        noise=Uniform(sigma=0.3),
        bound=ConfidenceSequence(max_n=5000, radii=RADII),
        random_state=0,
    )


@pytest.fixture(scope="module")
def X(digits):
    return digits[1][:60]


@pytest.fixture(scope="module")
def fit(clf, digits):
    _, X, _, y = digits

    def fit(**params):
        return clone(clf).set_params(**params).fit(X, y)

    return fit


@pytest.fixture(scope="module")
def expected(fit, X):
    return fit().certify(X)


def same_votes(one, other):
    np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_array_equal(one.selection_counts, other.selection_counts)
    return True


def certified(certification):
    return certification.radius(norm=1)[:, np.newaxis] >= RADII


# Fewer votes, the same answers


def test_easy_inputs_get_few_votes(expected):
    assert expected.adaptive
    assert expected.n_votes.min() < 200
    assert expected.n_votes.max() <= 5000
    assert expected.n_votes.mean() < 2000


def test_what_is_certified_is_what_many_votes_certify(fit, X, expected):
    fixed = fit(bound=ClopperPearson(n=20_000)).certify(X)
    both = expected.labels == fixed.labels
    assert both.all()
    assert (certified(expected) <= certified(fixed)).all()
    assert (certified(expected) != certified(fixed)).mean() < 0.05


def test_inputs_stop_early_only_where_all_radii_are_decided(fit, X, expected):
    stopped = expected.n_votes < 5000
    further = fit(bound__max_n=50_000).certify(X[stopped])
    decided = certified(expected)[stopped]
    # What was certified stays so, and what was given up is certified by chance only.
    assert (certified(further) >= decided).mean() > 0.98
    assert (certified(further) > decided).mean() < 0.05


@pytest.mark.slow
def test_rtol(fit, X):
    certification = fit(bound=ConfidenceSequence(max_n=20_000, rtol=0.2)).certify(X[:20])
    stopped = (certification.n_votes < 20_000) & ~certification.abstained
    assert stopped.any()
    best = fit(bound=ClopperPearson(n=100_000)).certify(X[:20])
    true = best.counts.max(axis=1) / 100_000
    known = best.noise.radius(true, norm=1, dim=64)
    assert (certification.radius() <= known).all()
    assert (certification.radius()[stopped] >= 0.79 * known[stopped]).all()


def test_a_radius_out_of_reach_costs_nothing(fit, X):
    certification = fit(bound__radii=[10.0]).certify(X)
    assert certification.n_votes.sum() == 0
    assert certification.abstained.all()
    assert (certification.radius() == 0).all()


@pytest.mark.parametrize(
    "radii", [0, -1.0, [0.1, 0], [np.inf], [np.nan], [], "wide", ["wide"], [[0.1]], [None]]
)
def test_bad_radii(fit, X, radii):
    with pytest.raises(ValueError, match="radii of ConfidenceSequence must be a number"):
        fit(bound__radii=radii)


def test_radii_in_any_form(fit, X):
    one = fit(bound__radii=0.25).certify(X[:10])
    assert same_votes(fit(bound__radii=[0.25, 0.25]).certify(X[:10]), one)
    assert same_votes(fit(bound__radii=np.array([0.25])).certify(X[:10]), one)
    three = fit(bound__radii=(0.4, 0.1, 0.25)).certify(X[:10])
    assert same_votes(fit(bound__radii=RADII).certify(X[:10]), three)


# The votes do not depend on how they are drawn


@pytest.mark.parametrize(
    "params",
    [{"batch_size": 37}, {"batch_size": 10**6}, {"n_jobs": 2, "batch_size": 256}],
    ids=str,
)
def test_votes_do_not_depend_on_batches_or_workers(fit, X, expected, params):
    assert same_votes(fit(**params).certify(X), expected)


def test_votes_do_not_depend_on_threads(fit, X, expected):
    try:
        torch.set_num_threads(3)
        assert same_votes(fit().certify(X), expected)
    finally:
        torch.set_num_threads(1)


def test_votes_do_not_depend_on_other_inputs(fit, X, expected):
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = fit().certify(X[order])
    np.testing.assert_array_equal(shuffled.counts, expected.counts[order])
    np.testing.assert_array_equal(fit().certify(X[7:9]).counts, expected.counts[7:9])


@pytest.mark.parametrize("noise", [Laplace(sigma=0.3), Exp2(sigma=0.3, j=30)], ids=str)
def test_other_noises(fit, X, noise):
    clf = fit(noise=noise, bound=ConfidenceSequence(max_n=1000, radii=[0.05]))
    votes = clf.certify(X[:10])
    assert same_votes(clf.set_params(batch_size=50).certify(X[:10]), votes)
    assert votes.n_votes.min() < 1000


# Budgets


@pytest.mark.parametrize("max_votes", [0, 1, 100, 5000, 20_000])
def test_a_budget_is_kept(fit, X, expected, max_votes):
    certification = fit().certify(X, max_votes=max_votes)
    assert certification.n_votes.sum() == max_votes
    other = fit(batch_size=100).certify(X[::-1], max_votes=max_votes)
    np.testing.assert_array_equal(other.counts[::-1], certification.counts)


def test_an_ample_budget_changes_nothing(fit, X, expected):
    assert same_votes(fit().certify(X, max_votes=10**9), expected)


def test_a_budget_goes_where_it_decides(fit, X):
    clf = fit(bound__radii=[0.25])
    budget = 200 * len(X)
    spent = clf.certify(X, max_votes=budget)
    even = fit(bound=ConfidenceSequence(max_n=200, radii=[0.25])).certify(X)
    assert even.n_votes.sum() <= budget
    assert certified(spent)[:, 1].sum() >= certified(even)[:, 1].sum()


@pytest.mark.parametrize("max_votes", [-1, 1.5, "many"])
def test_bad_budgets(fit, X, max_votes):
    with pytest.raises((ValueError, TypeError), match="max_votes"):
        fit().certify(X, max_votes=max_votes)


@pytest.mark.parametrize("name", ["max_votes", "previous"])
def test_fixed_bounds_take_no_budget(fit, X, expected, name):
    value = {"max_votes": 100, "previous": expected}[name]
    with pytest.raises(ValueError, match=f"{name} needs a bound that may stop"):
        fit(bound=ClopperPearson(n=100)).certify(X, **{name: value})


# Going on


@pytest.mark.parametrize("rungs", [[1000, 5000], [33, 70, 777, 5000]])
def test_votes_are_kept_from_rung_to_rung(fit, X, expected, rungs, monkeypatch):
    clf, record, drawn = fit(), None, []
    draw = rs4a.voting.sequential._Ahead.take

    def counting(self, requests):
        drawn.append(requests)
        return draw(self, requests)

    monkeypatch.setattr(rs4a.voting.sequential._Ahead, "take", counting)
    for max_n in rungs:
        before = record
        record = clf.set_params(bound__max_n=max_n).certify(X, previous=record)
        if before is not None:
            assert (record.counts >= before.counts).all()
    taken = sum(int((each.stops - each.starts).sum()) for each in drawn)
    assert taken == record.n_votes.sum()  # no vote was drawn twice
    assert (certified(record) == certified(expected)).mean() > 0.97


def test_going_on_draws_the_votes_that_one_run_draws(fit, X):
    """The stream is the same, also from an odd number of votes on."""
    every = {"futility": 0.0, "radii": None, "rtol": 0.0}
    clf = fit(bound=ConfidenceSequence(max_n=1500, **every))
    at_once = clf.certify(X[:5])
    part = clf.set_params(bound__max_n=333).certify(X[:5])
    assert part.n_votes.tolist() == [333] * 5
    rest = clf.set_params(bound__max_n=1500).certify(X[:5], previous=part)
    assert same_votes(rest, at_once)


def test_going_on_after_a_file(fit, X, expected, tmp_path):
    part = fit(bound__max_n=500).certify(X)
    part.save(tmp_path / "votes.npz")
    part = Certification.load(tmp_path / "votes.npz")
    rest = fit().certify(X, previous=part)
    assert (rest.counts >= part.counts).all()
    assert rest.seconds > part.seconds


OTHERS = {
    "noise": {"noise": Uniform(sigma=0.31)},
    "inputs or seed": {"random_state": 1},
    "selection votes": {"n_selection": 63},
    "inference": {"inference": Inference(dtype="bfloat16")},
}


@pytest.mark.parametrize("name", OTHERS)
def test_votes_of_something_else_are_refused(fit, X, expected, name):
    with pytest.raises(ValueError, match=f"got a record with other .*{name}"):
        fit(**OTHERS[name]).certify(X, previous=expected)


def test_votes_of_other_inputs_nets_or_kinds_are_refused(fit, fitted, X, expected):
    with pytest.raises(ValueError, match="other inputs or seed"):
        fit().certify(X[::-1], previous=expected)
    other_net = FrozenEstimator(fitted["Gaussian"].estimator_)
    with pytest.raises(ValueError, match="other .*net"):
        fit(estimator=other_net).certify(X, previous=expected)
    fixed = fit(bound=ClopperPearson(n=100)).certify(X)
    with pytest.raises(ValueError, match="other sampling"):
        fit().certify(X, previous=fixed)


class Strips(torch.nn.Module):
    """Takes images of any shape, and sees how wide they are."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, X):
        first = X[..., 0].mean(dim=1) - 0.5
        return self.scale * torch.stack([first, -first], dim=1)


def test_votes_of_inputs_in_another_shape_are_refused():
    inputs = np.random.default_rng(0).random((10, 6), dtype=np.float32)
    wide, high = inputs.reshape(10, 2, 3), inputs.reshape(10, 3, 2)
    clf = SmoothedClassifier(
        frozen(Strips, [0, 1]), bound=ConfidenceSequence(max_n=500), random_state=0
    )
    record = clf.fit(wide, [0, 1] * 5).certify(wide)
    with pytest.raises(ValueError, match="other input shape"):
        clf.fit(high, [0, 1] * 5).certify(high, previous=record)


# Interruptions


class Interrupted(Threshold):
    """Is interrupted in its hundredth forward pass."""

    passes: ClassVar[list[int]] = []

    def forward(self, X):
        self.passes.append(len(X))
        if len(self.passes) == 100:
            raise KeyboardInterrupt
        return super().forward(X)


def test_an_interruption_leaves_a_record():
    inputs = np.random.default_rng(0).random((10, 3), dtype=np.float32)
    clf = SmoothedClassifier(
        frozen(Interrupted, [0, 1], module__t=0.5),
        noise=Uniform(sigma=0.5),
        bound=ConfidenceSequence(radii=[0.25]),
        batch_size=64,
        random_state=0,
    ).fit(inputs, [0, 1] * 5)
    with pytest.warns(CertificationWarning, match="certify was interrupted"):
        part = clf.certify(inputs)
    assert 0 < part.n_votes.sum() < 64 * 100
    rest = clf.certify(inputs, previous=part)
    assert (rest.counts >= part.counts).all()


# Two bounds, and a random one


@pytest.mark.parametrize("bound", [ClopperPearson(n=2000), ConfidenceSequence(max_n=2000)])
def test_two_bounds_help_where_others_share_the_rest(fit, X, bound):
    noise = Uniform(sigma=0.6)
    one = fit(noise=noise, bound=bound).certify(X)
    two = fit(noise=noise, bound=clone(bound).set_params(runner_up=True)).certify(X)
    gain = two.radius() - one.radius()
    assert gain.max() > 0.05
    assert gain.min() > -0.05  # half of alpha is spent on the runner-up
    assert (two.prob_runner_up <= 1 - two.prob_lower).all()
    assert two.abstained.mean() < one.abstained.mean()
    assert ((two.radius() > 0) == ~two.abstained).all()


def test_two_bounds_need_a_noise_that_takes_them(fit, X):
    clf = fit(noise=Laplace(sigma=0.3), bound=ClopperPearson(n=100, runner_up=True))
    with pytest.raises(ValueError, match="Splitting or Uniform has, got Laplace"):
        clf.certify(X)


def test_the_random_bound_is_reproducible_and_no_worse(fit, X):
    ordinary = fit(bound=ClopperPearson(n=300)).certify(X)
    clf = fit(bound=ClopperPearson(n=300, randomized=True))
    certification = clf.certify(X)
    assert same_votes(certification, ordinary)
    assert (certification.prob_lower >= ordinary.prob_lower).all()
    assert (certification.prob_lower > ordinary.prob_lower).mean() > 0.5
    np.testing.assert_array_equal(clf.certify(X).prob_lower, certification.prob_lower)
    # The record has what it takes: no re-rolling at a recomputation.
    again = ordinary.recompute(bound=ClopperPearson(n=300, randomized=True))
    np.testing.assert_array_equal(again.prob_lower, certification.prob_lower)


# Searches that train nothing


def test_search_over_max_n(clf, digits):
    _, X, _, y = digits
    search = GridSearchCV(
        clf,
        {"bound__max_n": [20, 200, 2000]},
        scoring=make_certified_scorer(radius=0.25, norm=1),
        cv=2,
    ).fit(X[:60], y[:60])
    scores = search.cv_results_["mean_test_score"]
    assert (np.diff(scores) >= 0).all()
    assert scores[0] < scores[-1]


def test_search_over_alpha_and_bound_trains_nothing(clf, digits, monkeypatch):
    def train(*args, **kwargs):
        raise AssertionError("trained")

    monkeypatch.setattr("rs4a.training.bases.train", train)
    _, X, _, y = digits
    bounds = [ClopperPearson(n=100), ConfidenceSequence(max_n=500, radii=[0.25])]
    search = GridSearchCV(
        clf,
        {"alpha": [0.1, 0.001], "bound": bounds},
        scoring=make_certified_scorer(radius=0.25, norm=1),
        cv=2,
        error_score="raise",
    ).fit(X[:60], y[:60])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_record_answers_for_other_alphas_without_votes(fit, X, expected):
    again = expected.recompute(alpha=0.05)
    assert (again.prob_lower >= expected.prob_lower).all()
    fixed = fit(bound=ClopperPearson(n=1000)).certify(X)
    anytime = fixed.recompute(bound=ConfidenceSequence())
    assert (anytime.prob_lower <= fixed.prob_lower).all()
    np.testing.assert_array_equal(
        anytime.recompute(bound=ClopperPearson(n=1000)).prob_lower, fixed.prob_lower
    )


# How the net is run


@pytest.mark.parametrize(
    "inference",
    [Inference(dtype="bfloat16"), Inference(channels_last=True)],
    ids=str,
)
def test_inference_holds_for_certify_and_predict_and_is_recorded(
    fit, X, inference, tmp_path
):
    clf = fit(inference=inference, bound=ClopperPearson(n=200))
    certification = clf.certify(X)
    assert repr(certification.inference) == repr(inference)
    np.testing.assert_array_equal(clf.predict(X), certification.labels)
    certification.save(tmp_path / "votes.npz")
    loaded = Certification.load(tmp_path / "votes.npz")
    assert repr(loaded.inference) == repr(inference)
    assert loaded.net_digest == certification.net_digest


def test_automatic_batch_size(fit, X, expected):
    assert same_votes(fit(batch_size="auto").certify(X), expected)


def test_gaussian_with_rtol_0_goes_on_to_the_end(fitted, X):
    clf = clone(fitted["Gaussian"]).set_params(
        estimator=FrozenEstimator(fitted["Gaussian"].estimator_),
        noise=Gaussian(sigma=0.3),
        bound=ConfidenceSequence(max_n=100, rtol=0.0),
    )
    certification = clf.fit(X, np.arange(len(X)) % 10).certify(X[:5])
    np.testing.assert_array_equal(certification.n_votes, 100)


# Found by reviews


def test_a_record_keeps_its_own_inference(fit, X):
    clf = fit(inference=Inference())
    part = clf.certify(X[:3], max_votes=96)
    clf.set_params(inference__dtype="bfloat16")
    assert part.inference.dtype is None
    with pytest.raises(ValueError, match="other .*inference"):
        clf.certify(X[:3], previous=part)


def test_an_ambient_precision_has_no_say(fit, X, expected):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert same_votes(fit().certify(X), expected)


@pytest.mark.parametrize("futility", [0.0, 0.1, 0.5])
def test_nothing_is_given_up_before_the_first_look(fit, X, expected, futility):
    certification = fit(bound__futility=futility).certify(X)
    assert certification.n_votes.min() >= 32
    assert (certified(certification) & certified(expected)).mean() > 0.2


def test_radii_of_any_kind_can_be_saved(fit, X, tmp_path):
    for radii in (np.array([0.1, 0.25]), (0.1, 0.25), pd.Series([0.1, 0.25])):
        certification = fit(bound__radii=radii).certify(X[:2])
        certification.save(tmp_path / "votes")
        assert Certification.load(tmp_path / "votes").bound.radii == [0.1, 0.25]


def test_previous_is_a_record(fit, X):
    with pytest.raises(TypeError, match="previous must be a Certification, got ndarray"):
        fit().certify(X, previous=np.zeros(3))
