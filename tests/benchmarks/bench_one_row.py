"""One row served by `certify`, and what the wide state of the generators costs.

Run: ``python tests/benchmarks/bench_one_row.py``. The ways take turns in one run, so that a
busy neighbour slows all of them.

one row
    `certify` of one digit, against twice `predict` plus the votes alone.
streams
    CPU time of `certify` with the whole state of the Mersenne Twister from a keyed hash,
    against `manual_seed`, which keeps 32 bits: the share of the sampling time that the
    independence of blocks costs. Median over the rounds.
"""

import time
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import torch
from sklearn.datasets import load_digits

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.noises import Gaussian
from rs4a.noises.streams import stream_keys
from rs4a.voting import blocks as sampling
from rs4a.voting.blocks import Phase
from rs4a.voting.voters import Voters

ROUNDS = 25
X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
ONES = np.ones((1, 4, 4), dtype=np.float32)
LARGE = np.kron(X.reshape(-1, 8, 8), ONES).reshape(len(X), -1)


def seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Time of one call."""
    start = clock()
    call()
    return clock() - start


def fitted(X, bound):
    clf = SmoothedClassifier(noise=Gaussian(sigma=0.25), bound=bound, random_state=0)
    return clf.fit(X[:300], y[:300])


def one_row():
    """Print the times of one row, in milliseconds, and the ratio."""
    clf, x = fitted(X, ClopperPearson(n=1000)), X[300:301]
    keys = stream_keys(x, 0)

    def votes():
        with Voters(clf._net, clf.noise_, None, n_classes=10, batch_size=1024) as voters:
            voters.fixed(x, keys, n_votes=1000, phase=Phase.ESTIMATION)

    ways = {
        "certify": lambda: clf.certify(x),
        "predict": lambda: clf.predict(x),
        "votes": votes,
    }
    clf.certify(x)
    times = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, call in ways.items():
            times[name].append(seconds(call, time.perf_counter))
    certify, predict, alone = (1e3 * np.median(each) for each in times.values())
    print(f"certify {certify:.1f}, predict {predict:.1f}, votes alone {alone:.1f} ms")
    print(f"certify / (2 predict + votes) {certify / (2 * predict + alone):.2f}")


def narrow(key, device):
    """As before: 32 bits of a seed."""
    return torch.Generator(device).manual_seed(key % 2**64)


def streams():
    """Print the ratio of CPU times for two sizes of input and two bounds."""
    torch.set_num_threads(1)
    for inputs in (X, LARGE):
        for bound in (ClopperPearson(n=4000), ConfidenceSequence(max_n=4000)):
            clf = fitted(inputs, bound)
            times = {narrow: [], sampling.generator: []}
            for _ in range(ROUNDS):
                for way, spent in times.items():
                    with patch.object(sampling, "generator", way):
                        call = lambda: clf.certify(inputs[300:306])  # noqa: B023, E731
                        spent.append(seconds(call, time.process_time))
            before, now = (np.median(each) for each in times.values())
            print(f"{inputs.shape[1]} coordinates, {bound}: {now / before:.3f}")


if __name__ == "__main__":
    one_row()
    streams()
