"""Votes handed out to workers: shards, and requests of a budget."""

import numpy as np
import pytest
from conftest import Threshold, frozen

import rs4a.voting.workers
from rs4a.bounds import ConfidenceSequence
from rs4a.noises import Splitting, Uniform
from rs4a.noises.streams import stream_keys
from rs4a.voting.blocks import Requests
from rs4a.voting.plans import VoteBudget
from rs4a.voting.progress import VoteBar
from rs4a.voting.source import VoteSource
from rs4a.voting.stopping import StoppingRule
from rs4a.voting.store import VoteStore
from rs4a.voting.voters import Voters

X = np.random.default_rng(0).random((7, 6), dtype=np.float32)
KEYS = stream_keys(X, 0)
REQUESTS = Requests(*np.array([[0, 3, 3, 6], [0, 0, 500, 100], [2000, 500, 900, 3000]]))
UNIFORM = Uniform(sigma=0.5)
RULE = StoppingRule(ConfidenceSequence(max_n=3000, radii=0.2), UNIFORM, 1.0, 6, 0.001, 2)
BUDGETS = [
    VoteBudget(64), VoteBudget(64, n_estimation=700), VoteBudget(64, rule=RULE),
]  # fmt: skip


def source(n_jobs, batch_size=256, noise=UNIFORM):
    net = frozen(Threshold, [0, 1], module__t=0.5).estimator
    voters = Voters(net, noise, None, n_classes=2, batch_size=batch_size)
    return VoteSource(voters, X, KEYS, n_jobs, VoteStore(None))


def votes(budget, n_jobs, **params):
    with source(n_jobs, **params) as opened:
        return opened.votes(budget)


@pytest.mark.parametrize("n_jobs", [2, -1])
@pytest.mark.parametrize("budget", BUDGETS, ids=str)
def test_workers_do_not_matter(budget, n_jobs):
    here, there = votes(budget, 1), votes(budget, n_jobs)
    np.testing.assert_array_equal(here.selection, there.selection)
    np.testing.assert_array_equal(here.counts, there.counts)
    assert not there.interrupted
    assert (here.selection.sum(axis=1) == 64).all()


def test_views_of_workers():
    noise = Splitting(lambd=0.3, levels=16, seed=0)
    budget = VoteBudget(0, n_views=noise.n_views(6))
    here, there = (votes(budget, n_jobs, noise=noise) for n_jobs in (1, 2))
    np.testing.assert_array_equal(here.counts, there.counts)
    np.testing.assert_array_equal(here.counts, here.selection)
    assert (here.counts.sum(axis=1) == budget.n_views).all()


def test_requests_of_workers():
    parts = []
    for n_jobs in (1, 2):
        with source(n_jobs) as opened:
            parts.append(opened.requested(REQUESTS))
    np.testing.assert_array_equal(*parts)
    assert parts[0].sum(axis=1).tolist() == [2000, 500, 400, 2900]


def test_few_votes_are_not_handed_out(monkeypatch):
    monkeypatch.setattr(rs4a.voting.workers, "Parallel", None)
    few = Requests(*(part[:1] for part in REQUESTS))
    with source(n_jobs=2, batch_size=10_000) as opened:
        assert opened.requested(few).sum() == 2000


def test_progress_of_workers_counts_votes():
    budget = VoteBudget(10, n_estimation=100)
    with VoteBar(7, 100, show=False) as bar, source(n_jobs=2) as opened:
        opened.votes(budget, bar=bar)
        assert bar._votes == 700


def test_tasks_take_about_as_many_votes():
    assert VoteBudget(64, n_estimation=200_000).task_size == 1
    assert VoteBudget(64, n_estimation=1000).task_size == 123
    assert VoteBudget(64, rule=RULE).task_size == 42
    assert VoteBudget(0, n_views=441).task_size == 297
