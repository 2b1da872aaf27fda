"""Speed of `certify` at another commit against the speed here, in one run.

Run: ``git worktree add /tmp/old 0.1.0``, then
``python tests/benchmarks/bench_commits.py /tmp/old [--rounds 15]``.

Two processes import one copy of the package each, and take turns: a busy neighbour slows
both. A ratio above 1 says that the copy here is faster. CPU time leaves out the time in
which a neighbour has the core.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

HERE = Path(__file__).parents[2]


def cases():
    """Fitted classifiers by the name of the case, and the rows to certify."""
    from rs4a import SmoothedClassifier
    from rs4a.bounds import ClopperPearson, ConfidenceSequence
    from rs4a.noises import Gaussian, Splitting, Uniform

    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    large = np.kron(X[:200].reshape(-1, 8, 8), np.ones((1, 4, 4), dtype=np.float32))
    large = large.reshape(len(large), -1)

    def fitted(X, noise, bound, estimator=None):
        clf = SmoothedClassifier(estimator, noise=noise, bound=bound, random_state=0)
        return clf.fit(X, y[: len(X)])

    short, fixed, stops = (
        ClopperPearson(n=1000),
        ClopperPearson(n=10_000),
        ConfidenceSequence(),
    )
    train, gaussian, forest = X[:400], Gaussian(sigma=0.25), RandomForestClassifier(20)
    return {
        "fixed votes": (fitted(train, gaussian, fixed), X[400:420]),
        "one row": (fitted(train, gaussian, short), X[400:401]),
        "votes that stop": (fitted(train, gaussian, stops), X[400:440]),
        "Uniform": (fitted(train, Uniform(sigma=0.25), fixed), X[400:420]),
        "1024 coordinates": (fitted(large, gaussian, fixed), large[100:104]),
        "all views": (fitted(train, Splitting(lambd=4.0, levels=16), None), X[400:600]),
        "forest": (fitted(train, gaussian, short, forest), X[400:402]),
    }


def serve():
    """Answer each name of a case that comes in with the seconds of `certify`."""
    torch.set_num_threads(1)
    prepared = cases()
    print(";".join(prepared), flush=True)
    for name in map(str.strip, sys.stdin):
        clf, rows = prepared[name]
        start, cpu = time.perf_counter(), time.process_time()
        clf.certify(rows)
        print(time.perf_counter() - start, time.process_time() - cpu, flush=True)


def started(root):
    """A process that imports the package of a folder."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", __file__, "--serve"],
        env=os.environ | {"PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def asked(process, case):
    """Seconds of the clock and of the CPU that `certify` takes there."""
    print(case, file=process.stdin, flush=True)
    return [float(each) for each in process.stdout.readline().split()]


def compare(old, rounds):
    """Print the ratio of the median times of each case."""
    processes = [started(old), started(HERE)]
    names = {process.stdout.readline().strip() for process in processes}.pop()
    print(f"{'old / new':24} {'clock':>6} {'CPU':>6}")
    for case in names.split(";"):
        for process in processes:
            asked(process, case)
        times = {process: [] for process in processes}
        for turn in range(rounds):
            # The second of two calls finds the caches full: the order changes.
            for process in processes[:: -1 if turn % 2 else 1]:
                times[process].append(asked(process, case))
        before, after = (np.median(times[each], axis=0) for each in processes)
        print(f"{case:24} {before[0] / after[0]:6.2f} {before[1] / after[1]:6.2f}")
    for process in processes:
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path, nargs="?", help="folder of the other commit")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    serve() if args.serve else compare(args.old, args.rounds)
