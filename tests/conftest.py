"""Fixtures and nets that several test modules use."""

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import settings
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.networks import MLP
from rs4a.noises import Gaussian, Laplace, Uniform

# The first radius in a dimension builds a table, later ones do not: no deadline.
settings.register_profile("rs4a", deadline=None)
settings.load_profile("rs4a")

matplotlib.use("agg")
# Small nets gain nothing from threads, and lose much where other processes are busy.
torch.set_num_threads(1)

NOISES = [Gaussian(sigma=0.3), Laplace(sigma=0.3), Uniform(sigma=0.3)]


class Threshold(nn.Module):
    """Class 0 where the first coordinate is at most t: its probability is known."""

    def __init__(self, t=0.0):
        super().__init__()
        self.t = t
        self.unused = nn.Parameter(torch.zeros(1))  # an optimizer wants one

    def forward(self, X):
        margin = self.t - X.flatten(1)[:, 0]
        return torch.stack([margin, -margin], dim=1)


def frozen(module, classes, **kwargs):
    """A net that is used as it is."""
    net = NeuralNetClassifier(module, classes=classes, verbose=0, **kwargs)
    return FrozenEstimator(net.initialize())


def make_net(**kwargs):
    """An unfitted net for the 8x8 digits, flat or as images, that trains in a second."""
    options = {
        "module": MLP,
        "module__input_shape": (1, 8, 8),
        "module__n_classes": 10,
        "module__hidden": (64,),
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.Adam,
        "lr": 0.01,
        "max_epochs": 10,
        "iterator_train__shuffle": True,
        "train_split": None,
        "callbacks__print_log": None,
        "verbose": 0,
    }
    return NeuralNetClassifier(**{**options, **kwargs})


@pytest.fixture(scope="session")
def digits():
    """Digits as images (n, 1, 8, 8) in [0, 1]: X_train, X_test, y_train, y_test."""
    bunch = load_digits()
    X = (bunch.images[:, np.newaxis] / 16).astype(np.float32)
    return train_test_split(X, bunch.target, test_size=400, random_state=0)


@pytest.fixture(scope="session")
def fitted(digits):
    """Fitted classifiers by the name of their noise; leave them as they are."""
    X, _, y, _ = digits
    return {
        type(noise).__name__: SmoothedClassifier(
            make_net(), noise=noise, bound=ClopperPearson(n=1000), random_state=0
        ).fit(X, y)
        for noise in NOISES
    }
