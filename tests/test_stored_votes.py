"""Votes under a seed stay as they are stored in tests/data/stored_votes.json.

`python tests/test_stored_votes.py` writes the file anew. The changelog mentions a change
that needs a new file.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from rs4a import SmoothedClassifier, noises
from rs4a.bounds import ClopperPearson, ConfidenceSequence

STORED = Path(__file__).parent / "data" / "stored_votes.json"

VOTES = json.loads(STORED.read_text())
#: Names of the noises, as `repr` writes them.
NOISES = sorted({name.rsplit(" ", 2)[0] for name in VOTES})
BOUNDS = {"fixed": ClopperPearson(n=150), "sequential": ConfidenceSequence(max_n=300)}


class FirstPixels(nn.Module):
    """Compares the sums of two groups of pixels: no weight is drawn or trained."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, X):
        sums = X.flatten(1)[:, 20:44].reshape(-1, 2, 12).sum(2)
        return nn.functional.pad(sums, (0, 1), value=3.0)


def bases():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    net = NeuralNetClassifier(FirstPixels, classes=[0, 1, 2], verbose=0).initialize()
    forest = RandomForestClassifier(5, max_depth=6, random_state=0)
    forest.fit(X[100:600], y[100:600])
    return X[:6], y[:6] % 3, {"net": net, "forest": forest}


def votes_of(base, noise, bound, X, y):
    clf = SmoothedClassifier(
        FrozenEstimator(base), noise=noise, bound=bound, n_selection=20, random_state=18
    )
    record = clf.fit(X, y).certify(X)
    return {
        "selection": record.selection_counts.tolist(),
        "estimation": record.counts.tolist(),
    }


def noise_named(name):
    return eval(name, vars(noises))


def all_votes():
    X, y, models = bases()
    return {
        f"{noise} {name} {kind}": votes_of(base, noise_named(noise), bound, X, y)
        for noise in NOISES
        for name, bound in BOUNDS.items()
        for kind, base in models.items()
    }


@pytest.mark.parametrize("kind", ["net", "forest"])
@pytest.mark.parametrize("noise", NOISES)
def test_votes_are_those_that_are_stored(noise, kind):
    X, y, models = bases()
    for name, bound in BOUNDS.items():
        votes = votes_of(models[kind], noise_named(noise), bound, X, y)
        assert votes == VOTES[f"{noise} {name} {kind}"]


if __name__ == "__main__":
    STORED.write_text(json.dumps(all_votes(), separators=(",", ":")) + "\n")
