"""How fast scikit-learn classifiers vote, against what they need to predict.

Run: ``python tests/benchmarks/bench_classifiers.py``. For a random forest, gradient
boosting and logistic regression on the digits, in one run: votes a second of `certify`
(noise, predictions, counts), and the ratio of its time to that of the plain loop, numpy's
noise and `predict` on batches of the same size, both in one thread.
Medians and quartiles over the rounds.
"""

import time
from functools import partial

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.noises import Uniform

N_IMAGES, N_VOTES, ROUNDS = 20, 2048, 7
BASES = [
    RandomForestClassifier(random_state=0),
    HistGradientBoostingClassifier(max_iter=20, random_state=0),
    LogisticRegression(max_iter=2000),
]


def plain_loop(base, X, half_width, batch_size):
    """Votes of the loop that one would write: noise, predict, count."""

    def votes(x, seed):
        rng = np.random.default_rng(seed)
        counts = np.zeros(len(base.classes_), dtype=np.int64)
        for _ in range(0, N_VOTES, batch_size):
            noise = rng.uniform(-half_width, half_width, (batch_size, len(x)))
            labels = base.predict(x + noise)
            counts += np.bincount(
                np.searchsorted(base.classes_, labels), minlength=len(counts)
            )
        return counts

    with threadpool_limits(1):
        return [votes(x, seed) for seed, x in enumerate(X)]


def seconds(work):
    """Time of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    """Print the table."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    torch.set_num_threads(1)  # `certify` asks such classifiers in one thread
    rows = []
    for base in BASES:
        clf = SmoothedClassifier(
            base,
            noise=Uniform(sigma=0.3),
            bound=ClopperPearson(n=N_VOTES),
            n_selection=1,
            random_state=0,
        ).fit(X[:1000], y[:1000])
        images, half_width = X[1000 : 1000 + N_IMAGES], clf.noise_.scale(64)
        loop = partial(plain_loop, clf.estimator_, images, half_width, clf.batch_size)
        for _ in range(ROUNDS):
            ours = seconds(partial(clf.certify, images))
            rows.append(
                {
                    "classifier": type(base).__name__,
                    "votes a second": N_IMAGES * N_VOTES / ours,
                    "ratio": ours / seconds(loop),
                }
            )
    table = pd.DataFrame(rows).groupby("classifier", sort=False)
    print(f"{N_IMAGES} digits, {N_VOTES} votes each")
    print(table.quantile([0.25, 0.5, 0.75]).unstack().round(2).to_string())


if __name__ == "__main__":
    main()
