"""Votes a second of `certify`, against the bare work that nobody can avoid.

Run: ``python tests/benchmarks/bench_sampling.py``. All figures come from one run on one
machine and are meant as ratios. The ways take turns, so that a busy neighbour slows all
of them, and a ratio is the median over the rounds.

The reference draws ``torch.randn`` for a batch and runs the net on it, nothing more: no
adding of the noise to an input, no counting. The plain loop is what the field uses since
Cohen et al. (2019): an image at a time, a batch at a time, votes counted in numpy.
"""

import time

import numpy as np
import pandas as pd
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.networks import MLP
from rs4a.noises import Gaussian, Laplace, Uniform

BATCH_SIZE = 1024
ROUNDS = 15
REFERENCE = "torch.randn + forward"


class ConvNet(nn.Sequential):
    """Small convolutional net for 28x28 images."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 49, 10),
        )  # fmt: skip


def reference(module, n_votes, shape):
    """torch.randn and the bare forward pass."""
    with torch.inference_mode():
        for _ in range(n_votes // BATCH_SIZE):
            module(torch.randn(BATCH_SIZE, *shape))


def bare_forward(module, n_votes, shape):
    """The net on one batch, again and again."""
    batch = torch.randn(BATCH_SIZE, *shape)
    with torch.inference_mode():
        for _ in range(n_votes // BATCH_SIZE):
            module(batch)


def plain_loop(module, X, n, sigma):
    """Votes as in Cohen et al.'s published code: image by image, batch by batch."""
    with torch.no_grad():
        for x in torch.from_numpy(X):
            counts = np.zeros(10, dtype=int)
            remaining = n
            while remaining:
                size = min(BATCH_SIZE, remaining)
                remaining -= size
                batch = x.repeat((size, 1, 1, 1))
                predictions = module(batch + torch.randn_like(batch) * sigma).argmax(1)
                for index in predictions.numpy():
                    counts[index] += 1


def seconds(work):
    """Time of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ways(module, n_images, n):
    """Work to time, by name; each draws or classifies n_images * n noisy images."""
    X = np.random.default_rng(0).random((n_images, 1, 28, 28), dtype=np.float32)
    y = np.arange(n_images) % 10
    module.eval()
    total = n_images * n
    yield REFERENCE, lambda: reference(module, total, (1, 28, 28))
    yield "bare forward", lambda: bare_forward(module, total, (1, 28, 28))
    yield "plain loop (Cohen et al.)", lambda: plain_loop(module, X, n, 0.5)
    net = NeuralNetClassifier(module, classes=list(range(10))).initialize()
    for noise in (Gaussian(sigma=0.5), Laplace(sigma=0.5), Uniform(sigma=0.5)):
        clf = SmoothedClassifier(
            FrozenEstimator(net),
            noise=noise,
            bound=ClopperPearson(n=n),
            batch_size=BATCH_SIZE,
            random_state=0,
        ).fit(X, y)
        yield f"certify, {type(noise).__name__}", lambda clf=clf: clf.certify(X)


def table(name, module, n_images, n):
    """Votes a second of every way, and its ratio to the reference."""
    work = dict(ways(module, n_images, n))
    rounds = pd.DataFrame(
        [{way: seconds(run) for way, run in work.items()} for _ in range(ROUNDS + 1)]
    )[1:]  # the first round warms up
    ratios = rounds.rdiv(rounds[REFERENCE], axis=0)
    columns = {
        "votes/s": n_images * n / rounds.median(),
        "ratio": ratios.median(),
        "lower quartile": ratios.quantile(0.25),
        "upper quartile": ratios.quantile(0.75),
    }
    return pd.DataFrame({"net": name, **columns})


def main():
    """Print the table for both nets."""
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, CPU")
    tables = [
        table("MLP 784-128-10", MLP((1, 28, 28), 10), n_images=8, n=4 * BATCH_SIZE),
        table("ConvNet 28x28", ConvNet(), n_images=4, n=2 * BATCH_SIZE),
    ]
    result = pd.concat(tables).reset_index(names="way").set_index(["net", "way"])
    print(result.to_string(formatters=["{:,.0f}".format] + ["{:.2f}".format] * 3))


if __name__ == "__main__":
    main()
