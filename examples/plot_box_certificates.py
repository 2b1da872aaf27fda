"""
How much further does a certificate reach in a box?
===================================================

An attacked image is an image still: its pixels stay in [0, 1]. An attack that moves it by
more than 1 in l1 distance has to move several pixels, and under Uniform noise a change is
the weaker the more pixels share it. So with ``box=(0, 1)`` [1]_ the same votes prove a
larger radius wherever the plain one exceeds what a single pixel can be moved by, and never
a smaller one.

How much larger depends on lambda, the largest plain radius there is: at most 1.386 times,
for large lambda, and here up to 1.16 times. A radius in a box says nothing about changes
that leave it.

References
----------
.. [1] Voracek, Hein, "Improving l1-Certified Robustness via Randomized Smoothing by
   Leveraging Box Constraints", ICML 2023.
"""

# %%
# Digits in [0, 1], enlarged to 16x16; radii are about the enlarged images.
import argparse

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.metrics import CertifiedAccuracyDisplay, certified_accuracy_score
from rs4a.noises import Uniform
from rs4a.objectives import Stability

parser = argparse.ArgumentParser(description="Certify digits in a box.")
parser.add_argument("--figure", default="box_certificates.png", help="where to save it")
args, _ = parser.parse_known_args()

digits = load_digits()
X = (digits.images / 16).astype(np.float32).repeat(2, axis=1).repeat(2, axis=2)
X_train, X_test, y_train, y_test = train_test_split(
    X[:, np.newaxis], digits.target, test_size=300, random_state=0, stratify=digits.target
)


# %%
# Votes are drawn once. The box is a question about them: `recompute` draws none. From the
# images it knows how far each pixel can be moved.
clf = SmoothedClassifier(
    noise=Uniform(sigma=1.0), objective=Stability(weight=6.0),
    bound=ClopperPearson(n=3000), random_state=0,
)  # fmt: skip
plain = clf.fit(X_train, y_train).certify(X_test)
in_box = plain.recompute(box=(0, 1), X=X_test)

# %%
# Nothing is lost anywhere, and radii may exceed lambda, where the plain ones end.
lambd = plain.noise.scale(plain.dim)
gain = in_box.radius() / np.maximum(plain.radius(), 1e-12)
beyond = plain.radius() > 1
print(f"lambda, the largest plain radius: {lambd:.3f}")
print(f"images with a plain radius above 1: {beyond.mean():.1%}")
print(f"their radius grows by {gain[beyond].mean() - 1:.1%}, at most {gain.max() - 1:.1%}")
print(f"others grow by at most {gain[~beyond & (plain.radius() > 0)].max() - 1:.1%}")
print(f"never smaller: {(in_box.radius() >= plain.radius()).all()}")
records = {"any attack": plain, "attacks in [0, 1]": in_box}
for name, record in records.items():
    scores = certified_accuracy_score(y_test, record, radius=[1.0, 1.5, 1.8])
    print(f"{name:17} certified accuracy at l1 radius 1, 1.5, 1.8: {scores.round(3)}")

# %%
# By radius: the share of images that are rightly classified and certified so far.
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.9), layout="constrained")
axes[0].axline((0, 0), slope=1, color="black", linewidth=0.8, linestyle="--", label="equal")
axes[0].plot(
    plain.radius(), in_box.radius(), "o", markersize=4, fillstyle="none", label="an image"
)
axes[0].axhline(lambd, color="gray", linestyle=":", label="lambda")
axes[0].set(
    xlabel="l1 radius, in units of X (pixels in [0, 1])",
    ylabel="l1 radius in the box",
    title="The same votes",
)
axes[0].legend(loc="upper left")
CertifiedAccuracyDisplay.from_certifications(
    y_test,
    records,
    radii=np.linspace(0, 2.1, 211),
    ax=axes[1],
)
axes[1].set_title(f"{plain.noise}")
figure.savefig(args.figure, dpi=120)
