"""What noises cost: draws against `torch.randn`, and radii in a dimension never seen.

Run: ``python tests/benchmarks/bench_noises.py``. Draws are stated as a ratio: the time of
`torch.randn` of the same shape over the time of `noise.sample`, which adds the draw to an
input, on one thread. All ways take turns, and a ratio is the median over the rounds.

Exact noise is stated by its time over that of the same noise in floating point: for votes,
where it is known that inputs are on the grid, and for `sample`, which checks it.

Radii are stated in seconds on one core: the first call in a new dimension, which builds
whatever the radius needs, and then a million probabilities.
"""

import gc
import time

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from rs4a.noises import (
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
)  # fmt: skip

ROWS, DIM = 1024, 3072
IMAGENET = 150_528
ROUNDS = 15
#: Noises, and the share of torch.randn's speed that they are meant to reach.
DRAWS = {
    Gaussian(sigma=1.0): 0.8, UniformBall(sigma=1.0): 0.8, Exp2(sigma=1.0, j=3064): 0.8,
    Exp2(sigma=1.0, k=100, j=3071): 0.8, Pow2(sigma=1.0, a=1540): 0.8,
    Uniform(sigma=1.0): 0.5, Laplace(sigma=1.0): 0.5, ExpInf(sigma=1.0, j=3070): 0.5,
    PowInf(sigma=1.0, a=3082): 0.5, Pareto(sigma=1.0, a=3): 0.3, Exp1(sigma=1.0, k=10): 0.3,
    Expp(sigma=1.0, p=0.5): 0.15, Expp(sigma=1.0, p=1.5): 0.15, Expp(sigma=1.0, p=4): 0.15,
}  # fmt: skip
EXACT = [
    kind(sigma=s, exact=True) for kind in (Gaussian, Uniform) for s in (0.25, 1.0, 2.0)
]
RADII = [
    (Gaussian(sigma=1.0), 2), (Laplace(sigma=1.0), 1), (Laplace(sigma=1.0), np.inf),
    (Uniform(sigma=1.0), 1), (Uniform(sigma=1.0), np.inf), (Pareto(sigma=1.0), 1),
    (Expp(sigma=1.0, p=0.5), 1), (Expp(sigma=1.0, p=4), 1), (UniformBall(sigma=1.0), 2),
    (Exp2(sigma=1.0, j=1000), 2), (Exp2(sigma=1.0, j=IMAGENET - 8), 2),
    (Exp2(sigma=1.0, j=IMAGENET - 1), 2), (Pow2(sigma=1.0, a=IMAGENET / 2 + 2), 2),
    (ExpInf(sigma=1.0, k=10), np.inf), (ExpInf(sigma=1.0, j=IMAGENET - 2), 1),
    (ExpInf(sigma=1.0, k=2, j=1000), 1), (PowInf(sigma=1.0, a=IMAGENET + 4), np.inf),
    (Exp1(sigma=1.0, k=10), 1),
]  # fmt: skip


def seconds(work):
    """Time of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def draws():
    """Speed of `sample` as a share of torch.randn's."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(ROWS, DIM)
    work = {"torch.randn": lambda: torch.randn(ROWS, DIM, generator=generator)}
    for noise in DRAWS:
        work[str(noise)] = lambda noise=noise: noise.sample(x, generator)
    rounds = pd.DataFrame(
        [{way: seconds(run) for way, run in work.items()} for _ in range(ROUNDS + 1)]
    )[1:]  # the first round warms up
    ratios = rounds.rdiv(rounds["torch.randn"], axis=0)
    return pd.DataFrame(
        {
            "ratio": ratios.median(),
            "lower quartile": ratios.quantile(0.25),
            "upper quartile": ratios.quantile(0.75),
            "wanted": pd.Series({str(noise): share for noise, share in DRAWS.items()}),
        }
    ).loc[list(work)]


def exact_draws():
    """Time of exact noise over that of the noise that it stands for."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (ROWS, DIM), generator=generator) / 255
    out = torch.empty_like(x)
    work = {}
    for noise in EXACT:
        for which, each in (
            ("exact", noise),
            ("plain", clone(noise).set_params(exact=False)),
        ):
            vote = each.sampler(DIM, x.dtype)
            work[noise, which, "sample"] = lambda each=each: each.sample(x, generator)
            work[noise, which, "votes"] = lambda vote=vote: vote(x, generator, out)
    rounds = pd.DataFrame(
        [{way: seconds(run) for way, run in work.items()} for _ in range(ROUNDS + 1)]
    )[1:]
    rows = []
    for noise in EXACT:
        for way in ("sample", "votes"):
            ratios = rounds[noise, "exact", way] / rounds[noise, "plain", way]
            quartiles = ratios.quantile([0.5, 0.25, 0.75]).tolist()
            rows.append([str(noise), way, *quartiles, 1.3])
    columns = ["noise", "", "time", "lower quartile", "upper quartile", "wanted"]
    return pd.DataFrame(rows, columns=columns).set_index(["noise", ""])


def radii():
    """Seconds of the first call in a new dimension, and of a million probabilities."""
    prob_lower = np.random.default_rng(0).uniform(0.5, 1.0, 1_000_000)
    rows = []
    for noise, norm in RADII:
        gc.collect()
        first = seconds(lambda: noise.radius(0.9, norm=norm, dim=IMAGENET))  # noqa: B023
        million = seconds(lambda: noise.radius(prob_lower, norm=norm, dim=IMAGENET))  # noqa: B023
        rows.append([str(noise), f"l{norm:g}", first, million])
    return pd.DataFrame(rows, columns=["noise", "norm", "first call", "1e6 probabilities"])


def main():
    """Print the tables."""
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, 1 thread, CPU; {ROWS} rows of {DIM} in float32")
    print(draws().to_string(float_format="{:.2f}".format, na_rep=""))
    print("\nExact noise on 255 levels: time over that of plain noise")
    print(exact_draws().to_string(float_format="{:.2f}".format))
    print(f"\nSeconds, in {IMAGENET} coordinates")
    print(radii().set_index(["noise", "norm"]).to_string(float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
