"""
Certificates for a random forest and for gradient boosting
==========================================================

Nothing in a certificate is about nets: it counts the answers of a classifier to noisy
copies of an input. So any classifier of scikit-learn's kind can be smoothed. `fit` trains a
clone of it on noisy copies of the training set, and its `predict` votes.

Here thirty measurements of a cell sample tell whether a tumour is benign. Smoothed trees
certify more samples at large radii than the default, a small multilayer perceptron, and up
to a radius of 0.6 gradient boosting certifies the most. Near radius 0 the three differ by
no more than the choice of the samples may cause.
"""

# %%
# Each measurement is scaled to [0, 1], its range in the training set. The scaler stands in
# front of the classifiers, so sigma and radii are about scaled measurements: an l1 radius
# of 0.5 covers all changes that add up to half of a range.
import argparse

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import MinMaxScaler

from rs4a import SmoothedClassifier
from rs4a.bounds import ConfidenceSequence
from rs4a.metrics import CertifiedAccuracyDisplay, certified_accuracy_score
from rs4a.noises import Uniform
from rs4a.objectives import NoiseAugmentation

parser = argparse.ArgumentParser(description="Smooth trees and certify them.")
parser.add_argument(
    "--figure", default="scikit_learn_models.png", help="where to save the figure"
)
args, _ = parser.parse_known_args()

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=200, random_state=0, stratify=y
)
scaler = MinMaxScaler(clip=True).fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

# %%
# Ten noisy copies of the training set for the trees; the perceptron, which is what `None`
# stands for, sees new noise in every epoch. Votes of trees cost more than those of a small
# net, so a sample gets them until the radii are decided.
bases = {
    "gradient boosting": HistGradientBoostingClassifier(random_state=0),
    "random forest": RandomForestClassifier(min_samples_leaf=3, random_state=0),
    "multilayer perceptron": None,
}
RADII = np.round(np.linspace(0.05, 0.7, 14), 2)
certifications = {}
for name, base in bases.items():
    clf = SmoothedClassifier(
        base,
        noise=Uniform(sigma=0.4),
        objective=NoiseAugmentation(n_samples=1 if base is None else 10),
        bound=ConfidenceSequence(max_n=2000, radii=RADII.tolist()),
        random_state=0,
    )
    record = clf.fit(X_train, y_train).certify(X_test)
    certifications[name] = record
    scores = certified_accuracy_score(y_test, record, radius=[0.05, 0.2, 0.4, 0.6])
    print(f"{name}: {record.n_votes.mean():.0f} votes a sample on average")
    print(f"    certified accuracy at l1 radius 0.05, 0.2, 0.4, 0.6: {scores.round(3)}")

# %%
# How often the trees are right that were trained and asked without noise, and prove
# nothing.
for name, base in bases.items():
    if base is not None:
        accuracy = base.fit(X_train, y_train).score(X_test, y_test)
        print(f"{name} without noise: {accuracy:.3f}")

# %%
# The bands allow for the choice of the samples.
figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
CertifiedAccuracyDisplay.from_certifications(y_test, certifications, radii=RADII, ax=ax)
ax.set(
    xlabel="l1 radius, in ranges of a measurement",
    title="Breast cancer, Uniform(sigma=0.4)",
)
ax.grid(alpha=0.3)
figure.savefig(args.figure, dpi=120)
