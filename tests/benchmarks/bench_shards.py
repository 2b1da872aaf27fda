"""What shards, the memory and workers cost and give: ratios, measured in one run.

python tests/benchmarks/bench_shards.py            # all
python tests/benchmarks/bench_shards.py overhead   # of shards and of memory=
python tests/benchmarks/bench_shards.py scaling    # from one worker to two
python tests/benchmarks/bench_shards.py image      # an image's costs, for large runs

Images are made up, 1 x 28 x 28; the net is a small CNN; a worker has one thread. Ways take
turns within a round, and the median over the rounds counts.
"""

import argparse
import pickle
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from joblib import parallel_config
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.networks import make_network
from rs4a.noises import Uniform
from rs4a.noises.streams import stream_keys
from rs4a.utils.describe import describe
from rs4a.voting.plans import VoteBudget, draw_votes
from rs4a.voting.store import VoteStore
from rs4a.voting.voters import Voters
from rs4a.voting.workers import pack_voters

N_VOTES = 1000


def images(n):
    return np.random.default_rng(0).random((n, 1, 28, 28), dtype=np.float32)


def classifier(X, **params):
    net = NeuralNetClassifier(
        make_network, module__name="LeNet", module__dataset="mnist",
        classes=list(range(10)), criterion=nn.CrossEntropyLoss,
    )  # fmt: skip
    clf = SmoothedClassifier(
        FrozenEstimator(net.initialize()), noise=Uniform(sigma=0.5), random_state=0,
        bound=ClopperPearson(n=N_VOTES), **params,
    )  # fmt: skip
    return clf.fit(X[:2], [0, 1])


def seconds(task):
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def medians(ways, rounds):
    times = {name: [] for name in ways}
    for _ in range(rounds):
        for name, task in ways.items():
            times[name].append(seconds(task))
    return {name: statistics.median(values) for name, values in times.items()}


def overhead(n_images, rounds):
    """Certification of 1000 images: at once, and shard by shard into a new folder."""
    X = images(n_images)
    plain = classifier(X)

    def kept():
        with tempfile.TemporaryDirectory() as folder:
            classifier(X, memory=folder).certify(X)

    with tempfile.TemporaryDirectory() as folder:
        full = classifier(X, memory=folder)
        full.certify(X)
        ways = {
            "at once": lambda: plain.certify(X),
            "memory, empty": kept,
            "memory, full": lambda: full.certify(X),
        }
        times = medians(ways, rounds)
    print(f"{n_images} images, {N_VOTES} votes each: time over that of certifying at once")
    for name, value in times.items():
        print(f"{name:15} {value / times['at once']:6.3f}")


def scaling(n_images, rounds):
    """One worker against two, each with one thread."""
    X = images(n_images)
    one, two = classifier(X), classifier(X, n_jobs=2)
    with parallel_config("loky", inner_max_num_threads=1):
        two.certify(X[:200])  # workers start
        times = medians({"1": lambda: one.certify(X), "2": lambda: two.certify(X)}, rounds)
    print(
        f"{n_images} images: 2 workers are {times['1'] / times['2']:.2f} times as fast as 1"
    )


def image(n_images, rounds):
    """What an image costs besides its votes, small and large ones."""
    clf = classifier(images(2))
    voters = Voters(clf.estimator_, clf.noise_, None, n_classes=10, batch_size=1024)
    X, budget = images(100), VoteBudget(64, n_estimation=N_VOTES)
    with voters:
        drawing = seconds(lambda: draw_votes(voters, X, stream_keys(X, 0), budget))
    packed = pack_voters(voters)
    sending = seconds(lambda: pickle.dumps(packed))
    print(f"{1000 * drawing / len(X):9.4f} ms to draw 1064 votes of a 1 x 28 x 28 image")
    print(f"{1000 * sending:9.4f} ms to send the net, once a worker")
    for shape in ((1, 28, 28), (3, 224, 224)):
        X = np.random.default_rng(0).random((100, *shape), dtype=np.float32)
        for name, value in medians(other_costs(X), rounds).items():
            print(f"{1000 * value / len(X):9.4f} ms to {name} {shape}")


def other_costs(X):
    """What is done with every image, or its votes for 1000 classes, besides drawing."""
    store = VoteStore(Path(tempfile.mkdtemp()))
    names, votes = [f"{k:040x}" for k in range(len(X))], np.zeros((2, 1000), int)
    return {
        "send": lambda: pickle.loads(pickle.dumps(X)),
        "hash": lambda: stream_keys(X, 0),
        "name the votes of": lambda: [describe("net", name, 64, 0) for name in names],
        "write the votes of": lambda: [store.save(name, votes) for name in names],
        "read the votes of": lambda: [store.load(name, votes.shape) for name in names],
    }


PARTS = {"overhead": overhead, "scaling": scaling, "image": image}


def main():
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("parts", nargs="*", default=list(PARTS), metavar="part")
    options.add_argument("--images", type=int, default=1000)
    options.add_argument("--rounds", type=int, default=5)
    args = options.parse_args()
    torch.set_num_threads(1)
    for name in args.parts:
        PARTS[name](args.images, args.rounds)


if __name__ == "__main__":
    main()
