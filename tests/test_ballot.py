"""Votes handed out to workers, and batch sizes that are found."""

import time

import numpy as np
import pytest
import torch
from conftest import Threshold, frozen

import rs4a.ballot
from rs4a import Inference
from rs4a.ballot import Ballot, find_batch_size
from rs4a.noises import Gaussian, Uniform
from rs4a.sampling import Phase, Requests, Voters, stream_keys

X = np.random.default_rng(0).random((7, 6), dtype=np.float32)
KEYS = stream_keys(X, 0)
REQUESTS = Requests(*np.array([[0, 3, 3, 6], [0, 0, 500, 100], [2000, 500, 900, 3000]]))


def ballot(n_jobs, batch_size=256):
    net = frozen(Threshold, [0, 1], module__t=0.5).estimator
    noise = Uniform(sigma=0.5)
    voters = Voters(net, noise, None, n_classes=2, batch_size=batch_size)
    return Ballot(voters, X, KEYS, n_jobs)


def votes(n_jobs):
    with ballot(n_jobs) as opened:
        fixed = opened.fixed(700, Phase.ESTIMATION)
        return fixed, opened.requested(REQUESTS)


@pytest.mark.parametrize("n_jobs", [2, -1])
def test_workers_do_not_matter(n_jobs):
    for here, there in zip(votes(1), votes(n_jobs), strict=True):
        np.testing.assert_array_equal(here, there)


def test_few_votes_are_not_handed_out(monkeypatch):
    monkeypatch.setattr(rs4a.ballot, "Parallel", None)
    few = Requests(*(part[:1] for part in REQUESTS))
    with ballot(n_jobs=2, batch_size=10_000) as opened:
        assert opened.requested(few).sum() == 2000


def test_progress_of_workers_counts_votes():
    seen = []
    with ballot(n_jobs=2) as opened:
        opened.fixed(100, Phase.ESTIMATION, seen.append)
    assert sum(seen) == 700
    assert len(seen) > 1


class Slow(Threshold):
    """Takes a while a pass, and more for every input beyond 512; has memory for 2000."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes

    def forward(self, X):
        if len(X) > 2000:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.sizes.append(len(X))
        time.sleep(0.004 + 2e-5 * max(len(X) - 512, 0))
        return super().forward(X)


def test_the_smallest_batch_size_that_is_fast(monkeypatch):
    sizes = []
    net = frozen(Slow, [0, 1], module__sizes=sizes).estimator
    found = find_batch_size(net, Gaussian(sigma=0.5), None, X)
    assert found in (512, 1024)
    n_tried = len(sizes)
    compiled = Inference(compile=True)  # which is tried as it is
    assert find_batch_size(net, Gaussian(sigma=0.5), None, X) == found
    assert len(sizes) == n_tried  # found once
    assert find_batch_size(net, Gaussian(sigma=0.5), compiled, X) in (512, 1024)


def test_a_batch_size_that_fits(monkeypatch):
    class Tiny(Threshold):
        def forward(self, X):
            if len(X) > 200:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            time.sleep(0.005)
            return super().forward(X)

    net = frozen(Tiny, [0, 1]).estimator
    assert find_batch_size(net, Gaussian(sigma=0.5), None, X) == 128
