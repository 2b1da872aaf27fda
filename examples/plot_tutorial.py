"""
Tutorial: from noise to a certificate
=====================================

A classifier's answer can be flipped by a tiny, chosen change of its input. This page
follows the tutorial of the paper "Randomized Smoothing of All Shapes and Sizes" [1]_ on
scikit-learn's digits: what noise does to an image, which radius it proves, how a net is
trained under it, and what is certified in the end.

The *smoothed* classifier answers with the class that a net f gives most often to noisy
copies of an input x. Let rho be the probability of that class,

    rho = P(f(x + noise) = c).

If rho is above 1/2, it stays above 1/2 at every x' that is near x, so that the answer stays
the same there. How near depends on the noise, on rho and on the norm of x' - x, and on
nothing else: not on the net, nor on the attacker.

References
----------
.. [1] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
   arXiv:2002.08118.
"""

# %%
# Images
# ------
# Digits as images of 16x16 pixels with values in [0, 1]: the 8x8 originals, each pixel
# four times. Sigmas and radii are in these units.
import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import nn

from rs4a import SmoothedClassifier
from rs4a.bounds import ConfidenceSequence
from rs4a.datasets import load_digits_images
from rs4a.metrics import CertifiedAccuracyDisplay, RadiusDisplay, certified_accuracy_score
from rs4a.networks import make_network
from rs4a.noises import Gaussian, Laplace, Uniform
from rs4a.utils.rounding import format_radius

parser = argparse.ArgumentParser(description="From noise to a certificate, on digits.")
parser.add_argument("--figures", default=".", help="folder for the figures")
args, _ = parser.parse_known_args()
figures = Path(args.figures)


def load(split):
    """Enlarged images and labels."""
    X, y = load_digits_images(split=split)
    return X.repeat(2, axis=2).repeat(2, axis=3), y


X_train, y_train = load("train")
X_test, y_test = load("test")
dim = X_test[0].size
print(f"{len(X_train)} images for training, {len(X_test)} for tests, {dim} pixels each")

# %%
# Noise
# -----
# The noises differ in shape. They are compared at one sigma, the root mean square of a
# coordinate; the scale lambda of their density follows from it.
kinds = [Gaussian, Laplace, Uniform]
draws = torch.zeros(1000, dim)
for kind in kinds:
    noise = kind(sigma=1.0)
    measured = noise.sample(draws, generator=torch.Generator().manual_seed(0)).std()
    print(f"{noise}: lambda {noise.scale(dim):.3f}, sigma measured {measured:.3f}")

# %%
# What a net sees under them.
sigmas = [0.0, 0.25, 0.5, 1.0]
image = torch.from_numpy(X_test[:1])
figure, axes = plt.subplots(
    len(kinds), len(sigmas), figsize=(6.4, 5.0), layout="constrained"
)
for row, kind in zip(axes, kinds, strict=True):
    for ax, sigma in zip(row, sigmas, strict=True):
        generator = torch.Generator().manual_seed(1)
        noisy = kind(sigma=sigma).sample(image, generator=generator) if sigma else image
        ax.imshow(noisy[0, 0].numpy(), cmap="gray", vmin=-0.5, vmax=1.5)
        ax.set(xticks=[], yticks=[], title=f"sigma {sigma:g}" if kind is Gaussian else "")
    row[0].set_ylabel(kind.__name__)
figure.savefig(figures / "tutorial_noise.png", dpi=120)

# %%
# Radii
# -----
# From rho to the radius, for an adversary in l1, at one sigma: Uniform noise certifies the
# most at moderate rho, Laplace noise the most as rho goes to 1. The dimension matters for
# other norms and noises. What is printed is rounded down, so that it is proven.
noises = [kind(sigma=0.5) for kind in kinds]
for noise in noises:
    radii = noise.radius(np.array([0.6, 0.9, 0.999]), norm=1, dim=dim)
    texts = ", ".join(format_radius(radius, digits=3) for radius in radii)
    print(f"{noise}: l1 radius {texts} at rho = 0.6, 0.9, 0.999")
display = RadiusDisplay.from_noises(noises, norm=1, dim=dim)
display.figure_.savefig(figures / "tutorial_radii.png", dpi=120)

# %%
# Training
# --------
# A net that has never seen noise does not know what is in a noisy image. So it is trained
# on noisy images; the classifier around it draws new noise for each batch. Standardisation
# is the net's first layer, behind the noise.
net = NeuralNetClassifier(
    make_network,
    module__name="LeNet",
    module__input_shape=(1, 16, 16),
    module__n_classes=10,
    module__mean=0.3,
    module__std=0.6,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=0.003,
    max_epochs=30,
    batch_size=64,
    callbacks=[("rate", LRScheduler("CosineAnnealingLR", T_max=30))],
    callbacks__print_log=None,
    iterator_train__shuffle=True,
    train_split=None,
    verbose=0,
)
radii = np.round(np.arange(0.15, 1.51, 0.15), 2)
classifiers = {
    str(noise): SmoothedClassifier(
        net,
        noise=noise,
        bound=ConfidenceSequence(max_n=5000, radii=radii.tolist()),
        norm=1,
        random_state=0,
    ).fit(X_train, y_train)
    for noise in noises
}

# %%
# Certificates
# ------------
# rho is not known, but votes are: 64 choose the class, others bound its probability from
# below, and the bound gives the radius. It holds with probability 1 - alpha, 0.999 here,
# for each image. Votes of an image end as soon as they decide which of the radii it
# reaches.
n_test = 150
certifications = {name: clf.certify(X_test[:n_test]) for name, clf in classifiers.items()}
one = certifications["Uniform(sigma=0.5)"]
for index in range(5):
    print(
        f"a {y_test[index]}: answered {one.labels[index]}, {one.n_votes[index]} votes, "
        f"rho at least {format_radius(one.prob_lower[index], digits=3)}, l1 radius "
        f"{format_radius(one.radius()[index], digits=3)}"
    )

# %%
# Certified accuracy: the share of images that are classified rightly, provably whatever an
# attack within the radius does. An image without a certificate counts as an error. For
# comparison: how often the net alone, without noise and without any guarantee, is right.
for name, certification in certifications.items():
    scores = certified_accuracy_score(y_test[:n_test], certification, radius=[0.45, 0.9])
    print(
        f"{name}: {scores.round(3)} at l1 radius 0.45, 0.9; net alone "
        f"{classifiers[name].base_score(X_test, y_test):.3f}; "
        f"{certification.n_votes.mean():.0f} votes an image"
    )
display = CertifiedAccuracyDisplay.from_certifications(
    y_test[:n_test], certifications, radii=[0.0, *radii]
)
display.figure_.savefig(figures / "tutorial_certified_accuracy.png", dpi=120)

# %%
# From here: ``plot_sigma_sweep.py`` searches over noises and sigmas,
# ``plot_robust_radii.py`` draws the radii of all noises, ``plot_attack_bounds.py`` attacks
# what is certified, and ``reproduce/`` runs the paper's experiments on the data sets of
# the paper.
