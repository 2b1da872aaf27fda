"""
Two certificates that contradict each other
===========================================

A certificate is a theorem about noise on the real numbers, and a computer adds other noise:
a float that is small holds digits that are lost when it is added to a larger one. So what
the net sees tells where the noise came from. By this idea Voracek and Hein [1]_ refuted
certificates of smoothing; Jin et al. [2]_ refuted other certificates, by other roundings.
Here the base classifier was made for it.

x is an image of zeros, and x' is x with 1/32 added to each of its 256 pixels: their
distance is 0.5. Near 0 the noisy x has digits that end far below 2^-29. The noisy x' near 0
is 1/32 plus noise of nearly -1/32, whose digits end at 2^-29. A classifier that looks at
the last digits knows x from x', and the certificates, of a radius above 0.5 for either,
cannot both be true. With ``exact=True`` the noisy input is a whole number of steps, as the
input is, and holds nothing else: the same base classifier gives both the same class, and
the certificates are theorems about what the machine computes.

References
----------
.. [1] Voracek, Hein, "Sound Randomized Smoothing in Floating-Point Arithmetic", ICLR 2023,
   arXiv:2207.07209.
.. [2] Jin, Ohrimenko, Rubinstein, "Getting a-Round Guarantees: Floating-Point Attacks on
   Certified Robustness", 2022, arXiv:2205.10159.
"""

# %%
# The classifier takes the pixels near 0 and looks for digits below 2^-29.
import argparse

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.noises import Gaussian
from rs4a.utils.rounding import format_radius

parser = argparse.ArgumentParser(description="Certificates in floating point.")
parser.add_argument("--figure", default="floating_point.png", help="where to save it")
args, _ = parser.parse_known_args()

NEAR_ZERO, LAST_DIGIT = 2.0**-7, 2.0**-29
POINTS = ["x", "x'"]


def fine_digits(X):
    """Where a number near 0 has digits below the last one of its neighbours."""
    steps = X / LAST_DIGIT
    return (X.abs() < NEAR_ZERO) & (steps != steps.round())


class LastDigits(nn.Module):
    """Class 1 where any pixel near 0 has fine digits, else class 0."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, X):
        """Scores of the two classes."""
        margin = self.weight * (fine_digits(X).flatten(1).any(dim=1).float() - 0.5)
        return torch.stack([-margin, margin], dim=1)


net = NeuralNetClassifier(LastDigits, classes=[0, 1], verbose=0).initialize()

# %%
# Both inputs lie on a grid of 256 steps, and their distance is known exactly.
x = np.zeros((1, 16, 16), dtype=np.float32)
X = np.stack([x, x + np.float32(1 / 32)])
distance = float(np.linalg.norm(X[1].astype(float) - X[0].astype(float)))
noises = {
    "plain": Gaussian(sigma=0.25),
    "exact": Gaussian(sigma=0.25, exact=True, levels=256),
}
certifications = {
    name: SmoothedClassifier(
        FrozenEstimator(net), noise=noise, bound=ClopperPearson(n=10_000), random_state=0
    )
    .fit(X, [0, 1])
    .certify(X)
    for name, noise in noises.items()
}

# %%
# Under plain noise one of two certificates is wrong, whichever it is.
print(f"distance of x and x': {distance:g}")
contradiction = {}
for name, record in certifications.items():
    differ = record.labels[0] != record.labels[1]
    contradiction[name] = bool(differ and record.radius().max() > distance)
    for point, label, radius in zip(POINTS, record.labels, record.radius(), strict=True):
        text = format_radius(radius, digits=3)
        print(f"{noises[name]}: {point} has class {label} within l2 radius {text}")
    print("  a contradiction" if contradiction[name] else "  no contradiction")

# %%
# The last digits, seen in 200 000 noisy pixels: the distance of a number from the nearest
# multiple of 2^-29.
figure, axes = plt.subplots(
    2, 2, figsize=(9, 5.4), layout="constrained", sharex="col", width_ratios=[3, 2]
)
colors = ["tab:blue", "tab:orange"]
sizes = {"plain": [2, 2], "exact": [80, 16]}
for row, (name, noise) in zip(axes, noises.items(), strict=True):
    for index, shift in enumerate([0.0, 1 / 32]):
        pixels = torch.full((200_000, 1), shift)
        noisy = noise.sample(pixels, torch.Generator().manual_seed(0))[:, 0].double()
        near = noisy[noisy.abs() < NEAR_ZERO].numpy()
        steps = near / LAST_DIGIT
        row[0].scatter(
            near, steps - np.rint(steps), s=sizes[name][index], color=colors[index],
            label=f"noisy {POINTS[index]}",
        )  # fmt: skip
    row[0].set(ylim=(-0.55, 0.55), title=f"{name} noise: pixels near 0")
    row[0].set_ylabel("digits below $2^{-29}$")
    record = certifications[name]
    row[1].barh(POINTS, record.radius(), color=colors)
    for place, label in enumerate(record.labels):
        row[1].text(0.03, place, f"class {label}", color="white", va="center")
    row[1].axvline(distance, color="black", linestyle="--")
    verdict = "contradict each other" if contradiction[name] else "agree"
    row[1].set(title=f"the certificates {verdict}")
    row[1].invert_yaxis()
axes[1, 0].legend(loc="upper right")
axes[1, 0].set(xlabel="value of the pixel", xticks=[-0.005, 0.0, 0.005])
axes[1, 1].set_xlabel("certified l2 radius; dashed: distance of x, x'")
figure.savefig(args.figure, dpi=110)
