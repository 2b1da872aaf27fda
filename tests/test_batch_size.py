"""Batch sizes that are found."""

import time

import numpy as np
import torch
from conftest import Threshold, frozen

from rs4a import Inference
from rs4a.noises import Gaussian
from rs4a.voting.batch_size import find_batch_size

X = np.random.default_rng(0).random((7, 6), dtype=np.float32)


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
