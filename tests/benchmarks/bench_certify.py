"""Votes a second of `certify`, against the bare work that nobody can avoid.

Run: ``python tests/benchmarks/bench_certify.py [nets] [noises] [images] [inference]``; all
four tables without arguments. The device is a GPU where there is one; nets are then trained
on digits, enlarged, since it takes seconds: outputs of random weights nearly tie, and ties
are classified twice. All figures come from one run and are meant as ratios. The ways take
turns, so that a busy neighbour slows all of them. A ratio is the median over the rounds.

nets
    Every way to draw votes, for four nets. The reference draws ``torch.randn`` for a batch
    and runs the net on it, nothing more: no adding of the noise to an input, no counting.
    The plain loop is what the field uses since Cohen et al. (2019): an image at a time, a
    batch at a time, votes counted in numpy. The sequential way draws as many votes as it
    needs for three radii; its votes a second show what the looks cost, its images a second
    what they save.
noises
    `certify` for the twelve noises, against the bare forward pass and one draw.
images
    The same number of votes on 10, 1000 and 10 000 images.
inference
    How the net is run, against the plain float32 loop.
"""

import sys
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torchvision
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from rs4a import CertificationWarning, Inference, SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.networks import MLP, WideResNet
from rs4a.noises import (
    Clean,
    Exp1,
    Exp2,
    ExpInf,
    Expp,
    Gaussian,
    Laplace,
    Pareto,
    Pow2,
    PowInf,
    Uniform,
    UniformBall,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ON_GPU = DEVICE == "cuda"
REFERENCE = "torch.randn + forward"
SELECTION = 64
#: The sequential way saves so many votes that it is given more images.
_SEQUENTIAL = 4


class ConvNet(nn.Sequential):
    """Small convolutional net for 28x28 images."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 49, 10),
        )  # fmt: skip


class Case(NamedTuple):
    """A net, its inputs, and how much work there is: on a GPU, many times the votes."""

    make_net: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch_size: int
    n_images: int
    n_votes: int
    rounds: int


CPU_CASES = {
    "MLP 784-128-10": Case(lambda: MLP((1, 28, 28), 10), (1, 28, 28), 1024, 8, 6144, 11),
    "ConvNet 28x28": Case(ConvNet, (1, 28, 28), 1024, 4, 1984, 9),
    "WideResNet-40-2": Case(WideResNet, (3, 32, 32), 64, 2, 192, 3),
}
GPU_CASES = {
    "MLP 784-128-10": CPU_CASES["MLP 784-128-10"]._replace(
        batch_size=2**16, n_votes=2**20, rounds=5
    ),
    "ConvNet 28x28": CPU_CASES["ConvNet 28x28"]._replace(
        batch_size=2**13, n_votes=2**18, rounds=5
    ),
    "WideResNet-40-2": CPU_CASES["WideResNet-40-2"]._replace(
        batch_size=1024, n_votes=2**16, rounds=2
    ),
    "ResNet-50": Case(
        lambda: torchvision.models.resnet50(num_classes=10), (3, 224, 224), 256, 2, 1024, 2
    ),
}
CASES = GPU_CASES if ON_GPU else CPU_CASES


def synchronize():
    """Wait for the GPU."""
    if ON_GPU:
        torch.cuda.synchronize()


def prepared(case):
    """Net of a case, on its device."""
    module = case.make_net().to(DEVICE)
    if ON_GPU:
        train(module, case.shape)
    return module.eval()


def train(module, shape, sigma=0.25, epochs=4):
    """Some epochs on digits under Gaussian noise."""
    X = torch.from_numpy(images(1797, shape)).to(DEVICE)
    y = torch.from_numpy(load_digits().target).to(DEVICE)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(X)).split(64):
            noisy = X[rows] + sigma * torch.randn_like(X[rows])
            loss = nn.functional.cross_entropy(module(noisy), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def reference(module, total, batch_size, shape):
    """torch.randn and the bare forward pass."""
    with torch.inference_mode():
        for _ in range(total // batch_size):
            module(torch.randn(batch_size, *shape, device=DEVICE))


def bare_forward(module, total, batch_size, shape):
    """The net on one batch, again and again."""
    batch = torch.randn(batch_size, *shape, device=DEVICE)
    with torch.inference_mode():
        for _ in range(total // batch_size):
            module(batch)


def one_draw(noise, total, batch_size, shape):
    """The noise of as many batches, into memory that is there."""
    x = torch.zeros(batch_size, *shape, device=DEVICE)
    out = torch.empty_like(x)
    with torch.inference_mode():
        for _ in range(total // batch_size):
            noise.sample(x, out=out)


def plain_loop(module, X, n, batch_size, sigma):
    """Votes as in Cohen et al.'s published code: image by image, batch by batch."""
    with torch.no_grad():
        for x in torch.from_numpy(X).to(DEVICE):
            counts = np.zeros(10, dtype=int)
            remaining = n
            while remaining:
                size = min(batch_size, remaining)
                remaining -= size
                batch = x.repeat((size, 1, 1, 1))
                predictions = module(batch + torch.randn_like(batch) * sigma).argmax(1)
                for index in predictions.cpu().numpy():
                    counts[index] += 1


def seconds(work):
    """Time of one run."""
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def timed(ways, rounds):
    """Seconds of every way in every round; the ways take turns, the first warms up."""
    runs = [{way: seconds(run) for way, run in ways.items()} for _ in range(rounds + 1)]
    return pd.DataFrame(runs[1:])


def images(n, shape):
    """Digits of that size, again and again if need be, and never twice the same."""
    digits = torch.from_numpy(load_digits().images[:, None] / 16).float()
    large = nn.functional.interpolate(digits[:n], shape[1:]).expand(-1, *shape)
    X = large.repeat(-(-n // len(digits)), 1, 1, 1)[:n].contiguous().numpy()
    X[:, 0, 0, 0] = np.arange(n) / 65536
    return X


def classifier(module, X, noise, bound, **params):
    """A smoothed classifier of a net that is used as it is."""
    net = NeuralNetClassifier(module, classes=list(range(10)), device=DEVICE).initialize()
    clf = SmoothedClassifier(
        FrozenEstimator(net), noise=noise, bound=bound, random_state=0, **params
    )
    return clf.fit(X, np.arange(len(X)) % 10)


def ratios(times, totals, base):
    """Votes a second, and how much faster than `base` a vote is."""
    a_vote = times / pd.Series(totals)
    relative = a_vote.rdiv(a_vote[base], axis=0)
    return pd.DataFrame({
        "votes/s": 1 / a_vote.median(),
        "ratio": relative.median(),
        "lower quartile": relative.quantile(0.25),
        "upper quartile": relative.quantile(0.75),
    })  # fmt: skip


def net_table(name):
    """Every way to draw votes."""
    _, shape, batch_size, n_images, n, rounds = CASES[name]
    module = prepared(CASES[name])
    X = images(n_images, shape)
    total = n_images * n
    ways = {
        REFERENCE: lambda: reference(module, total, batch_size, shape),
        "bare forward": lambda: bare_forward(module, total, batch_size, shape),
        "plain loop (Cohen et al.)": lambda: plain_loop(module, X, n, batch_size, 0.5),
    }
    totals = dict.fromkeys(ways, total)
    for noise in (Gaussian(sigma=0.5), Laplace(sigma=0.5), Uniform(sigma=0.5)):
        clf = classifier(module, X, noise, ClopperPearson(n=n), batch_size=batch_size)
        way = f"certify, {type(noise).__name__}"
        ways[way] = lambda clf=clf: clf.certify(X)
        totals[way] = total + n_images * SELECTION
    bound = ConfidenceSequence(max_n=n, radii=[0.1, 0.25, 0.5])
    many = images(_SEQUENTIAL * n_images, shape)
    clf = classifier(module, many, Gaussian(sigma=0.5), bound, batch_size=batch_size)
    way = "certify, sequential"
    ways[way] = lambda: clf.certify(many)
    totals[way] = int(clf.certify(many).n_votes.sum()) + len(many) * SELECTION
    times = timed(ways, rounds)
    table = ratios(times, totals, REFERENCE)
    table["images/s"] = n_images / times.median()
    table.loc[way, "images/s"] *= _SEQUENTIAL
    return pd.DataFrame({"net": name, **table})


def noise_table(name):
    """`certify` for every noise, relative to forward and draw."""
    _, shape, batch_size, n_images, n, rounds = CASES[name]
    module = prepared(CASES[name])
    X, total, dim = images(n_images, shape), n_images * n, int(np.prod(shape))
    lines = []
    for noise in (
        Gaussian(0.5), UniformBall(0.5), Exp2(0.5, j=dim // 2), Pow2(0.5, a=dim),
        Laplace(0.5), Uniform(0.5), ExpInf(0.5), PowInf(0.5, a=dim + 10), Pareto(0.5),
        Exp1(0.5, k=2), Expp(0.5, p=3), Clean(),
    ):  # fmt: skip
        clf = classifier(module, X, noise, ClopperPearson(n=n), batch_size=batch_size)
        ways = {
            "bare": lambda: bare_forward(module, total, batch_size, shape),
            "draw": lambda noise=noise: one_draw(noise, total, batch_size, shape),
            "certify": lambda clf=clf: clf.certify(X),
        }
        times = timed(ways, max(rounds // 2, 2))
        times["bare + draw"] = times.pop("bare") + times.pop("draw")
        totals = {"bare + draw": total, "certify": total + n_images * SELECTION}
        line = ratios(times, totals, "certify").loc["bare + draw"]
        lines.append(
            {
                "net": name,
                "noise": str(noise),
                "votes/s": totals["certify"] / times["certify"].median(),
                "time / (forward + draw)": line["ratio"],
                "lower quartile": line["lower quartile"],
                "upper quartile": line["upper quartile"],
            }
        )
    return pd.DataFrame(lines).set_index(["net", "noise"])


def images_table():
    """The same votes on few and on many images."""
    case = CASES["MLP 784-128-10"]
    module, shape, batch_size = prepared(case), case.shape, case.batch_size
    total = 16_000_000 if ON_GPU else 1_000_000
    noise = Gaussian(0.5)
    ways = {
        "forward": lambda: bare_forward(module, total, batch_size, shape),
        "draw": lambda: one_draw(noise, total, batch_size, shape),
    }
    totals = {}
    for n_images in (10, 1000, 10_000):
        X, n = images(n_images, shape), total // n_images
        clf = classifier(module, X, noise, ClopperPearson(n=n), batch_size=batch_size)
        ways[f"{n_images} images"] = lambda clf=clf, X=X: clf.certify(X)
        totals[f"{n_images} images"] = total + n_images * SELECTION
    times = timed(ways, 3 if ON_GPU else 5)
    times["forward + draw"] = times.pop("forward") + times.pop("draw")
    return ratios(times, {**totals, "forward + draw": total}, "forward + draw")


def inference_table():
    """The plain loop, and `certify` with the net run in other ways."""
    _, shape, batch_size, n_images, n, rounds = CASES["WideResNet-40-2"]
    module = prepared(CASES["WideResNet-40-2"])
    X, total = images(n_images, shape), n_images * n
    plain = "plain loop, float32"
    ways = {plain: lambda: plain_loop(module, X, n, batch_size, 0.5)}
    totals = {plain: total}
    for inference in (
        None,
        Inference(channels_last=True),
        *([] if ON_GPU else [Inference(compile=True)]),
        Inference(dtype="bfloat16"),
        Inference(dtype="bfloat16", channels_last=True),
        Inference(dtype="bfloat16", channels_last=True, compile=True),
        *([Inference(dtype="float16", channels_last=True, compile=True)] if ON_GPU else []),
    ):
        params = {"inference": inference, "batch_size": batch_size}
        clf = classifier(module, X, Gaussian(0.5), ClopperPearson(n=n), **params)
        ways[str(inference)] = lambda clf=clf: clf.certify(X)
        totals[str(inference)] = total + n_images * SELECTION
    return ratios(timed(ways, rounds), totals, plain)


def show(table):
    """Print a table of rates and ratios."""
    rates = {name: "{:,.0f}".format for name in table if name == "votes/s"}
    others = {
        name: "{:.2f}".format for name in table.select_dtypes(float) if name not in rates
    }
    print(table.to_string(formatters={**rates, **others}), flush=True)


def main():
    """Print the tables that were asked for."""
    torch.manual_seed(0)
    # Random weights in a deep net tie for many inputs; nothing is claimed of these.
    warnings.simplefilter("ignore", CertificationWarning)
    wanted = sys.argv[1:] or ["nets", "noises", "images", "inference"]
    device = torch.cuda.get_device_name() if ON_GPU else "CPU"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {device}")
    if "nets" in wanted:
        for name in CASES:
            show(net_table(name).set_index("net", append=True).swaplevel())
    if "noises" in wanted:
        show(pd.concat(map(noise_table, ("MLP 784-128-10", "ConvNet 28x28"))))
    if "images" in wanted:
        show(images_table())
    if "inference" in wanted:
        show(inference_table())


if __name__ == "__main__":
    main()
