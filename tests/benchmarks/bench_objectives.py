"""Training objectives: what they certify on Fashion-MNIST, and what an epoch costs.

Run: ``python tests/benchmarks/bench_objectives.py [accuracy] [epochs] [--jobs=N]``; both
without a name. Fashion-MNIST is Debian's package dataset-fashion-mnist; another folder with
its four idx files may be given as ``--data=FOLDER``.

accuracy
    Certified accuracy of a LeNet on test images: every objective under Uniform noise
    against l1 and Gaussian noise against l2, at two sigmas each, mean and spread over three
    seeds, which stand for other weights, noise, order of batches and training images. All
    objectives train on the same images for the same number of epochs, so those with more
    copies or attacks take longer. Finished cells are kept in a folder of the temporary
    directory: an interrupted run goes on.
epochs
    Time of an epoch against the same net trained by plain skorch, medians over rounds in
    which the ways take turns.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler

import rs4a
from rs4a import SmoothedClassifier
from rs4a.bounds import ConfidenceSequence
from rs4a.datasets import load_fashion_mnist
from rs4a.metrics import certified_accuracy_score
from rs4a.networks import MLP, LeNet
from rs4a.noises import Gaussian, Uniform
from rs4a.objectives import (
    MACER,
    Consistency,
    Direct,
    NoiseAugmentation,
    SmoothAdv,
    Stability,
)
from rs4a.training.train import train

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FOLDER = "/usr/share/datasets/fashion-mnist"
RADII = [0.5, 1.0, 1.5, 2.0]
SEEDS = (0, 1, 2)
EPOCHS = 10
#: Images for training, for testing, and most votes for one of these; a GPU gets all.
SIZES = (60_000, 10_000, 100_000) if DEVICE == "cuda" else (10_000, 500, 4000)
NOISES = [Uniform(sigma=1.5), Gaussian(sigma=1.0), Uniform(sigma=0.75), Gaussian(sigma=0.5)]
_MEAN, _STD = 0.286, 0.353  # of the training images


def _memory():
    """Cache of finished cells, which ends with any change of the library or this file."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(Path(rs4a.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    name = f"rs4a_bench_objectives_{digest.hexdigest()[:16]}"
    return joblib.Memory(Path(tempfile.gettempdir()) / name, verbose=0)


_MEMORY = _memory()


def objectives(noise):
    """Objectives to compare; attacks in the noise's own norm."""
    radius = 1.0 if noise.norms[0] == 1 else 0.5
    return {
        "augmentation": NoiseAugmentation(),
        "stability": Stability(),
        "consistency": Consistency(),
        "direct": Direct(n_samples=8),
        "MACER": MACER(n_samples=8),
        "MACER, weight 3": MACER(n_samples=8, weight=3.0),
        "SmoothAdv": SmoothAdv(radius=radius, warmup=EPOCHS // 2, box=(0, 1)),
    }


def make_net(module, sigma, **kwargs):
    """Adam with a cosine schedule; the net standardises noisy inputs."""
    return NeuralNetClassifier(
        module, **kwargs, module__n_classes=10, module__input_shape=(1, 28, 28),
        module__mean=_MEAN, module__std=float(np.hypot(_STD, sigma)),
        criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=0.002,
        batch_size=64, iterator_train__shuffle=True, train_split=None, device=DEVICE,
        verbose=0, callbacks__print_log=None,
    )  # fmt: skip


@_MEMORY.cache
def cell(folder, noise, objective, seed, sizes):
    """Certified accuracy at the radii, of one net."""
    n_train, n_test, max_n = sizes
    torch.set_num_threads(1)
    X, y = load_fashion_mnist(folder)
    X_test, y_test = load_fashion_mnist(folder, split="test")
    rows = np.random.default_rng(seed).permutation(len(X))[:n_train]
    schedule = LRScheduler("CosineAnnealingLR", T_max=EPOCHS)
    net = make_net(LeNet, noise.sigma, max_epochs=EPOCHS, callbacks=[("lr", schedule)])
    clf = SmoothedClassifier(
        net,
        noise=noise,
        objective=objective,
        bound=ConfidenceSequence(max_n=max_n, radii=RADII),
        random_state=seed,
    )
    clf.fit(X[rows], y[rows])
    certification = clf.certify(X_test[:n_test])
    return certified_accuracy_score(y_test[:n_test], certification, radius=RADII)


def accuracy(folder, n_jobs):
    """Table of certified accuracy, in percent."""
    cells = [
        (noise, name, objective, seed)
        for noise in NOISES
        for seed in SEEDS
        for name, objective in objectives(noise).items()
    ]
    results = joblib.Parallel(n_jobs=n_jobs)(
        joblib.delayed(cell)(folder, noise, objective, seed, SIZES)
        for noise, _, objective, seed in cells
    )
    rows = [
        {
            "noise": str(noise),
            "objective": name,
            **dict(zip(RADII, 100 * each, strict=True)),
        }
        for (noise, name, _, _), each in zip(cells, results, strict=True)
    ]
    by_objective = pd.DataFrame(rows).groupby(["noise", "objective"], sort=False)
    mean, spread = by_objective.mean(), by_objective.std()
    print("\nCertified accuracy in percent, mean and standard deviation over seeds;")
    print(f"{len(SEEDS)} seeds, {EPOCHS} epochs; images to train on and to test, votes:")
    print(f"{SIZES}\n")
    print((mean.map("{:.1f}".format) + spread.map(" ({:.1f})".format)).to_string())


def epoch_seconds(module, objective, X, y):
    """Fastest of the epochs after the first."""
    net = make_net(module, sigma=0.5, max_epochs=3)
    net.initialize()
    if objective is None:
        net.partial_fit(X, y)
    else:
        train(
            net, X, y, noise=Gaussian(sigma=0.5), objective=objective, n_classes=10, seed=0
        )
    return min(net.history[1:, "dur"])


def epochs(folder):
    """Table of the time of an epoch, as a multiple of plain skorch's, on one thread."""
    torch.set_num_threads(1)
    X, y = load_fashion_mnist(folder)
    X, y = X[:4000], y[:4000]
    ways = {"plain skorch": None, **objectives(Gaussian(sigma=0.5))}
    ways["consistency, m = 4"] = Consistency(n_samples=4)
    columns = {}
    for module in (MLP, LeNet):
        rounds = [
            {name: epoch_seconds(module, each, X, y) for name, each in ways.items()}
            for _ in range(7)
        ]
        seconds = pd.DataFrame(rounds)
        columns[module.__name__] = seconds.div(seconds["plain skorch"], axis=0).median()
    print("\nTime of an epoch, as a multiple of plain skorch's, batches of 64:\n")
    print(pd.DataFrame(columns).map("{:.2f}".format).to_string())


def main():
    """Make the tables that are named on the command line."""
    options = dict(each[2:].split("=") for each in sys.argv[1:] if each.startswith("--"))
    names = [each for each in sys.argv[1:] if not each.startswith("--")]
    folder = options.get("data", FOLDER)
    if "accuracy" in names or not names:
        accuracy(folder, int(options.get("jobs", "1")))
    if "epochs" in names or not names:
        epochs(folder)


if __name__ == "__main__":
    main()
