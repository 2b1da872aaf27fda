"""What box certificates cost, and how much larger they are.

Run: ``python tests/benchmarks/bench_box.py``. For 10 000 images of 3072 coordinates, in one
run: seconds of `coordinate_reach`, which reads the images, and of `radius`, which is given
what it finds; and the share that both take of the time in which the images get one noisy
copy each, `noise.sample`, a vote without the net. On one thread; medians over the rounds.

Then the radii at probability 0.99, as multiples of the radius without a box: the one for
every image alike (`input-free`), and the smallest and the largest one (`image`) of images
whose pixels are spread around one half.
"""

import time

import numpy as np
import pandas as pd
import torch

from rs4a.noises import Uniform
from rs4a.records import coordinate_reach, input_free_reach

N_IMAGES, SHAPE = 10_000, (3, 32, 32)
BOX, SCALES = (0.0, 1.0), (0.25, 0.5, 1.0, 2.0, 5.0, 20.0, 100.0)
ROUNDS = 5


def seconds(work):
    """Time of one run, and what it returns."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def one_round(X, prob_lower, lambd):
    """Seconds of the parts."""
    noise, dim = Uniform(lambd=lambd), X[0].size
    sampling, _ = seconds(lambda: noise.sample(torch.from_numpy(X)))
    reading, reach = seconds(lambda: coordinate_reach(X, BOX, lambd))
    radius, _ = seconds(lambda: noise.radius(prob_lower, 1, dim, reach=reach))
    return {
        "coordinate_reach": reading,
        "radius": radius,
        "share": (reading + radius) / sampling,
    }


def gains(X, lambd):
    """Radii as multiples of that without a box."""
    noise, dim = Uniform(lambd=lambd), X[0].size
    plain = noise.radius(0.99, 1, dim)
    by_image = noise.radius(0.99, 1, dim, reach=coordinate_reach(X, BOX, lambd))
    free = noise.radius(0.99, 1, dim, reach=input_free_reach(BOX))
    return {
        "input-free": free[0] / plain,
        "image, least": by_image.min() / plain,
        "image, most": by_image.max() / plain,
    }


def main():
    """Print both tables."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    X = np.clip(rng.normal(0.5, 0.12, (N_IMAGES, *SHAPE)), 0, 1).astype(np.float32)
    prob_lower = rng.uniform(0.5, 1.0, N_IMAGES)
    rounds = pd.DataFrame(
        [
            {"lambda": lambd, **one_round(X, prob_lower, lambd)}
            for _ in range(ROUNDS)
            for lambd in SCALES
        ]
    )
    print(f"{N_IMAGES} images of {X[0].size} coordinates: seconds, and share of one draw")
    print(rounds.groupby("lambda").median().to_string(float_format="{:.3f}".format))
    print("\nRadii at probability 0.99, as multiples of the radius without a box")
    table = pd.DataFrame({lambd: gains(X, lambd) for lambd in SCALES}).T
    print(table.rename_axis("lambda").to_string(float_format="{:.2f}".format))


if __name__ == "__main__":
    main()
