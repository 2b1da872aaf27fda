"""
How much do certificates leave unknown?
=======================================

Certified accuracy says for how many images no attack within a radius exists; an attack says
for how many images one does. What no one knows lies between the two. This example
certifies digits under Uniform noise against l1 and under Gaussian noise against l2, attacks
the same smoothed classifiers by projected gradient descent on their soft votes, and draws
both accuracies on one axis.

But for the probability alpha of each certificate the two lines do not cross: that is also
how the tests of this library look for a wrong one.
"""

# %%
# Images in [0, 1], enlarged to 16x16; radii are about the enlarged images.
import argparse

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from rs4a import SmoothedClassifier
from rs4a.attacks import PGD
from rs4a.bounds import ConfidenceSequence
from rs4a.metrics import AttackDisplay
from rs4a.networks import LeNet
from rs4a.noises import Gaussian, Uniform
from rs4a.objectives import Stability

parser = argparse.ArgumentParser(description="Certify and attack digits.")
parser.add_argument(
    "--figure", default="attack_bounds.png", help="where to save the figure"
)
args, _ = parser.parse_known_args()

digits = load_digits()
X = (digits.images / 16).astype(np.float32).repeat(2, axis=1).repeat(2, axis=2)
X_train, X_test, y_train, y_test = train_test_split(
    X[:, np.newaxis], digits.target, test_size=100, stratify=digits.target, random_state=0
)

# %%
# A LeNet, trained for stability under the noise. The confidence sequence stops drawing
# votes as soon as an image is decided at the radii of the figure.
RADII = np.linspace(0, 3, 9)
net = NeuralNetClassifier(
    LeNet, module__input_shape=(1, 16, 16), module__mean=0.3, module__std=0.8,
    criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=0.003, max_epochs=40,
    batch_size=64, iterator_train__shuffle=True, train_split=None, verbose=0,
    callbacks__print_log=None,
)  # fmt: skip


def classifier(noise):
    """Trained under the noise."""
    bound = ConfidenceSequence(max_n=2000, radii=RADII[1:].tolist())
    clf = SmoothedClassifier(
        net, noise=noise, objective=Stability(weight=6.0), bound=bound, random_state=0
    )
    return clf.fit(X_train, y_train)


# %%
# The hatched area is what neither certificates nor the attack decide. The bands allow for
# the choice of the images.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
for noise, ax in zip((Uniform(sigma=1.0), Gaussian(sigma=0.75)), axes, strict=True):
    attack = PGD(norm=noise.norms[0], steps=10, n_samples=16, box=(0, 1), random_state=0)
    display = AttackDisplay.from_estimator(
        classifier(noise), X_test, y_test, attack=attack, radii=RADII, ax=ax
    )
    ax.set_title(str(noise))
    print(f"l{display.norm:g} radius          " + "".join(f"{r:7.2f}" for r in RADII))
    for name in ("certified", "attacked"):
        shares = 100 * getattr(display, name)
        print(f"{name:>9} accuracy " + "".join(f"{share:7.1f}" for share in shares))
axes[1].set_ylabel("")
axes[1].get_legend().remove()
figure.savefig(args.figure, dpi=150)
