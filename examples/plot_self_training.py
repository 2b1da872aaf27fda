"""
Self-training: certificates from images without labels
======================================================

Robustness needs more data than accuracy, but the additional data need no labels [1]_: an
ordinary classifier, fitted on the few labelled images, labels the others, and the smoothed
classifier is trained on all of them. Here 100 digits have labels and 1397 have none. The
teacher, a support vector machine without any noise, is right for about 87 in 100 of them;
the student certifies more at large radii than without them, and nearly as much as with all
true labels.

References
----------
.. [1] Carmon, Raghunathan, Schmidt, Liang, Duchi, "Unlabeled Data Improves Adversarial
   Robustness", NeurIPS 2019, arXiv:1905.13736.
"""

# %%
# Images in [0, 1], enlarged to 16x16; radii are about the enlarged images.
import argparse

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from skorch import NeuralNetClassifier
from torch import nn

from rs4a import SmoothedClassifier
from rs4a.bounds import ConfidenceSequence
from rs4a.metrics import CertifiedAccuracyDisplay
from rs4a.networks import LeNet
from rs4a.noises import Uniform

parser = argparse.ArgumentParser(description="Train on images that a teacher labels.")
parser.add_argument(
    "--figure", default="self_training.png", help="where to save the figure"
)
args, _ = parser.parse_known_args()

digits = load_digits()
X = (digits.images / 16).astype(np.float32).repeat(2, axis=1).repeat(2, axis=2)
X_train, X_test, y_train, y_test = train_test_split(
    X[:, np.newaxis], digits.target, test_size=300, stratify=digits.target, random_state=0
)
X_few, y_few, X_extra = X_train[:100], y_train[:100], X_train[100:]
RADII = np.linspace(0.05, 1.25, 25)

# %%
# Any fitted classifier can be the teacher.
teacher = make_pipeline(FunctionTransformer(lambda X: X.reshape(len(X), -1)), SVC())
teacher.fit(X_few, y_few)
print(f"teacher: right for {100 * teacher.score(X_test, y_test):.1f} % of the test images")

# %%
# It labels the other images. All three classifiers see about as many images in training.
y_pseudo = np.concatenate([y_few, teacher.predict(X_extra)])
data = {
    "100 labels": (X_few, y_few, 400),
    "100 labels, 1397 pseudo-labels": (X_train, y_pseudo, 30),
    "1497 labels": (X_train, y_train, 30),
}

certifications = {}
for name, (X_seen, y_seen, max_epochs) in data.items():
    net = NeuralNetClassifier(
        LeNet, module__input_shape=(1, 16, 16), module__mean=0.3, module__std=0.85,
        criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=0.003,
        max_epochs=max_epochs, batch_size=64, iterator_train__shuffle=True,
        train_split=None, verbose=0, callbacks__print_log=None,
    )  # fmt: skip
    clf = SmoothedClassifier(
        net,
        noise=Uniform(sigma=0.75),
        bound=ConfidenceSequence(max_n=2000, radii=RADII.tolist()),
        random_state=0,
    )
    certifications[name] = clf.fit(X_seen, y_seen).certify(X_test)

display = CertifiedAccuracyDisplay.from_certifications(
    y_test, certifications, norm=1, radii=RADII
)
for name, accuracy in display.accuracies.items():
    shares = (f"{r:.2f}: {100 * accuracy[np.isclose(RADII, r)][0]:.1f}" for r in (0.5, 1.0))
    print(f"{name:31} certified accuracy at l1 radius {', '.join(shares)}")
display.figure_.set_size_inches(6, 4)
display.figure_.savefig(args.figure, dpi=150)
