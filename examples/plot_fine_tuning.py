"""
Fine-tuning: certificates from few labelled images
==================================================

Robustness needs more data than accuracy. Where a task has few labelled images, a net that
was trained for another task, under the same noise, and gets a new last layer certifies far
more of them than one that starts anew. Here the other task is to read digits; the new one,
with 100 labelled images, is to tell whether the digit is a prime number. Hendrycks et al.
[1]_ measured how pre-training helps robustness; Yang et al. [2]_ pre-trained on ImageNet in
this way for CIFAR-10.

References
----------
.. [1] Hendrycks, Lee, Mazeika, "Using Pre-Training Can Improve Model Robustness and
   Uncertainty", ICML 2019, arXiv:1901.09960.
.. [2] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
   arXiv:2002.08118.
"""

# %%
# Images in [0, 1], enlarged to 16x16; radii are about the enlarged images.
import argparse
import copy

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from rs4a import SmoothedClassifier
from rs4a.bounds import ConfidenceSequence
from rs4a.metrics import CertifiedAccuracyDisplay
from rs4a.networks import LeNet
from rs4a.noises import Uniform

parser = argparse.ArgumentParser(description="Fine-tune a net that reads digits.")
parser.add_argument("--figure", default="fine_tuning.png", help="where to save it")
args, _ = parser.parse_known_args()

digits = load_digits()
X = (digits.images / 16).astype(np.float32).repeat(2, axis=1).repeat(2, axis=2)
X_train, X_test, digit_train, digit_test = train_test_split(
    X[:, np.newaxis], digits.target, test_size=300, stratify=digits.target, random_state=0
)
is_prime_train = np.isin(digit_train, [2, 3, 5, 7])[:100]
is_prime_test = np.isin(digit_test, [2, 3, 5, 7])
RADII = np.linspace(0.05, 1.25, 25)


# %%
# A skorch net that is given a module, rather than a class, starts from its weights. `fit`
# trains a copy, so that all three start from what is given here.
def smoothed(module, *, max_epochs, lr):
    """A classifier under Uniform noise around a module."""
    net = NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=lr,
        max_epochs=max_epochs, batch_size=64, iterator_train__shuffle=True,
        train_split=None, verbose=0, callbacks__print_log=None,
    )  # fmt: skip
    return SmoothedClassifier(
        net,
        noise=Uniform(sigma=0.75),
        bound=ConfidenceSequence(max_n=2000, radii=RADII.tolist()),
        random_state=0,
    )


torch.manual_seed(0)
reader = smoothed(LeNet((1, 16, 16), 10, mean=0.3, std=0.85), max_epochs=30, lr=0.003)
pretrained = reader.fit(X_train, digit_train).estimator_.module_


# %%
# The last layer of this net is called fc3. A frozen layer keeps its weights in training; a
# batch normalisation, of which this net has none, would need ``momentum = 0.0`` too, or its
# running statistics would change.
def with_new_last_layer(trained, *, freeze=False):
    """Copy a trained module, with a new last layer for two classes."""
    module = copy.deepcopy(trained).requires_grad_(not freeze)
    module.fc3 = nn.Linear(module.fc3.in_features, 2)
    return module


starts = {
    "from scratch": LeNet((1, 16, 16), 2, mean=0.3, std=0.85),
    "last layer only": with_new_last_layer(pretrained, freeze=True),
    "fine-tuned": with_new_last_layer(pretrained),
}

# %%
# From scratch the net trains longer, which it needs.
certifications = {}
for name, module in starts.items():
    epochs = 200 if name == "from scratch" else 60
    clf = smoothed(module, max_epochs=epochs, lr=0.001)
    certifications[name] = clf.fit(X_train[:100], is_prime_train).certify(X_test)

display = CertifiedAccuracyDisplay.from_certifications(
    is_prime_test, certifications, norm=1, radii=RADII
)
for name, accuracy in display.accuracies.items():
    shares = (f"{r:.2f}: {100 * accuracy[np.isclose(RADII, r)][0]:.1f}" for r in (0.5, 1.0))
    print(f"{name:16} certified accuracy at l1 radius {', '.join(shares)}")
display.figure_.set_size_inches(6, 4)
display.figure_.savefig(args.figure, dpi=150)
