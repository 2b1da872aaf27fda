"""What runs before and beside training leaves a net as trainable as it was."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from rs4a import SmoothedClassifier
from rs4a.attacks import PGD
from rs4a.bounds import ClopperPearson
from rs4a.metrics import noise_propagation
from rs4a.noises import Gaussian

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
A, YA, B, YB = X[:300], y[:300], X[300:500], y[300:500]


class LazyFirst(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyLinear(32), nn.ReLU(), nn.Linear(32, 10))


class LazyHead(nn.Sequential):
    def __init__(self):
        convolution = nn.Conv2d(1, 8, 3)
        shape, last = nn.Unflatten(1, (1, 8, 8)), nn.LazyLinear(10)
        super().__init__(shape, convolution, nn.ReLU(), nn.Flatten(), last)


class LazyNorm(nn.Sequential):
    def __init__(self):
        hidden, last = nn.LazyLinear(32), nn.LazyLinear(10)
        super().__init__(nn.LazyBatchNorm1d(), hidden, nn.ReLU(), last)


class Scaled(nn.Module):
    """Scales its hidden layer by a table that it does not make before it is asked."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, X):
        return self.last(self.first(X).relu() * self.scale())


class InAttribute(Scaled):
    table = None

    def scale(self):
        if self.table is None:
            self.table = torch.linspace(0.5, 1.5, 32)
        return self.table


class InBuffer(Scaled):
    def scale(self):
        if not hasattr(self, "table"):
            self.register_buffer("table", torch.linspace(0.5, 1.5, 32))
        return self.table


@lru_cache
def cached_table(n):
    return torch.linspace(0.5, 1.5, n)


class InCache(Scaled):
    def scale(self):
        return cached_table(32)


class InDict(Scaled):
    def __init__(self):
        super().__init__()
        self.tables = {}

    def scale(self):
        return self.tables.setdefault("table", torch.linspace(0.5, 1.5, 32))


KINDS = [LazyFirst, LazyHead, LazyNorm, InAttribute, InBuffer, InCache, InDict]


def net(module):
    return NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=8,
        batch_size=64,
        train_split=None,
        verbose=0,
    )


def smoothed(estimator):
    bound = ClopperPearson(n=50)
    noise = Gaussian(sigma=0.1)
    return SmoothedClassifier(estimator, noise=noise, bound=bound, random_state=0)


@pytest.mark.parametrize("module", KINDS)
def test_fit_trains_a_net_as_well_as_skorch(module):
    cached_table.cache_clear()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        alone = net(module).fit(A, YA).score(B, YB)
    clf = smoothed(net(module)).fit(A, YA)
    assert not any(p.is_inference() for p in clf.estimator_.module_.parameters())
    assert all(p.grad is not None for p in clf.estimator_.module_.parameters())
    assert clf.base_score(B, YB) > alone - 0.06


USES = {
    "certify": lambda clf: clf.certify(B[:2]),
    "predict": lambda clf: clf.predict(B[:2]),
    "base_score": lambda clf: clf.base_score(B[:20], YB[:20]),
    "PGD": lambda clf: PGD(norm=2, steps=1, n_samples=2).perturb(
        clf, B[:2], YB[:2], radius=0.1
    ),
    "noise_propagation": lambda clf: noise_propagation(clf, B[:4]),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("module", KINDS)
def test_a_frozen_net_can_be_trained_on(module, use):
    cached_table.cache_clear()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own = net(module).initialize()
        USES[use](smoothed(FrozenEstimator(own)).fit(A, YA))
        assert own.partial_fit(A, YA).score(B, YB) > 0.6


def test_a_callers_inference_mode_leaves_no_inference_tensors():
    cached_table.cache_clear()
    own = net(InAttribute).initialize()
    clf = smoothed(FrozenEstimator(own)).fit(A, YA)
    with torch.inference_mode():
        clf.certify(B[:2])
    own.partial_fit(A, YA)
