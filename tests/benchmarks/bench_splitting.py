"""Seconds an image of each way to certify against l1, with nets of one sigma.

python tests/benchmarks/bench_splitting.py runs

`runs` is what the command in docs/benchmarks.md, "Splitting noise on Fashion-MNIST",
leaves. One thread, one way after the other.
"""

import sys
import time
from pathlib import Path

import torch

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.datasets import load_fashion_mnist

SEQUENTIAL = ConfidenceSequence(max_n=20_000, radii=[0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
#: Name, folder, bound and number of images.
WAYS = [
    ("Uniform, 100 000 votes", "uniform_1.75", ClopperPearson(), 3),
    ("Uniform, votes that stop", "uniform_1.75", SEQUENTIAL, 20),
    ("SSN, votes that stop", "splitting_deterministicfalse_1.75", SEQUENTIAL, 20),
    ("DSSN, all views", "splitting_deterministictrue_1.75", None, 20),
]


def main():
    torch.set_num_threads(1)
    X, _ = load_fashion_mnist(split="test", as_arrays=True)
    for name, folder, bound, n_images in WAYS:
        path = Path(sys.argv[1], f"fashion_mnist_{folder}", "classifier.safetensors")
        clf = SmoothedClassifier.load(path).set_params(bound=bound, random_state=0, norm=1)
        start = time.perf_counter()
        certification = clf.certify(X[::500][:n_images])
        seconds = (time.perf_counter() - start) / n_images
        votes = certification.n_votes.mean()
        print(f"{name:26} {seconds:8.3f} s an image, {votes:9.0f} votes")


if __name__ == "__main__":
    main()
