"""Memory of `certify`, against the number of inputs.

Run, on Linux: ``python tests/benchmarks/bench_memory.py``. A file of 28x28 images in
float32 is certified by a small convolutional net with 40 votes an image: through a map,
through a map by two workers, through a torch Dataset that reads the file, and, to compare,
as an array in memory. Every line is the median over processes of their own: the largest
resident memory of the process and of a worker, in MB; the size of the record; seconds.
*ratio* is the process's memory over that of the first line of its kind.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.noises import Uniform

SHAPE, N_CLASSES = (1, 28, 28), 10
SIZES = {
    "map": (1_000, 10_000, 50_000),
    "map, 2 workers": (1_000, 50_000),
    "Dataset": (1_000, 50_000, 100_000, 150_000),
    "array": (1_000, 50_000),
}
ROUNDS = 3


class Images(torch.utils.data.Dataset):
    """Images of a file, each read when it is asked for."""

    def __init__(self, path, n):
        self.path = path
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, row):
        size = int(np.prod(SHAPE))
        image = np.fromfile(self.path, np.float32, size, offset=4 * size * row)
        return torch.from_numpy(image.reshape(SHAPE))


def inputs(kind, path, n):
    """Inputs of a file, in one of the ways to give them."""
    if kind == "Dataset":
        return Images(path, n)
    mapped = np.memmap(path, np.float32, "r", shape=(n, *SHAPE))
    return np.array(mapped) if kind == "array" else mapped


def classifier(n_jobs):
    """A small net with random weights; it votes as any other does."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(1152, N_CLASSES)
    )
    net = NeuralNetClassifier(module, classes=list(range(N_CLASSES))).initialize()
    return SmoothedClassifier(
        FrozenEstimator(net),
        noise=Uniform(sigma=0.25),
        bound=ClopperPearson(n=32),
        n_selection=8,
        alpha=0.5,
        random_state=0,
        n_jobs=n_jobs,
    ).fit(np.random.default_rng(0).random((10, *SHAPE), np.float32), np.arange(10))


def largest_memory():
    """Most resident memory of this process so far, in MB.

    getrusage would count what the process had before exec: the memory of its parent.
    """
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def measure(kind, path, n):
    """One line, in this process."""
    workers = 2 if "workers" in kind else None
    clf, X = classifier(workers), inputs(kind, path, n)
    start = time.perf_counter()
    record = clf.certify(X)
    taken = time.perf_counter() - start
    own = largest_memory()
    arrays = (record.counts, record.selection_counts, record.tokens)
    return {
        "MB": own,
        "MB, worker": max(Parallel(workers)(delayed(largest_memory)() for _ in range(8)))
        if workers
        else np.nan,
        "record, MB": sum(each.nbytes for each in arrays) / 2**20,
        "seconds": taken,
    }


def in_new_process(*line):
    """The measurement of a line by a process that has done nothing else."""
    command = [sys.executable, __file__, json.dumps(line)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def write_images(path, n):
    """A file of random images, written in parts."""
    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        for _ in range(0, n, 1000):
            rng.random((1000, *SHAPE), np.float32).tofile(file)


def main():
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "images")
        write_images(path, max(max(sizes) for sizes in SIZES.values()))
        rows = [
            {"inputs": kind, "images": n, **in_new_process(kind, path, n)}
            for _ in range(ROUNDS)
            for kind, sizes in SIZES.items()
            for n in sizes
        ]
    table = pd.DataFrame(rows).groupby(["inputs", "images"], sort=False).median()
    first = table["MB"].groupby(level="inputs", sort=False).transform("first")
    table.insert(1, "ratio", table["MB"] / first)
    formats = {"ratio": "{:.3f}".format, "record, MB": "{:.1f}".format}
    print(table.to_string(formatters=formats, float_format="{:.0f}".format))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(*json.loads(sys.argv[1]))))
    else:
        main()
