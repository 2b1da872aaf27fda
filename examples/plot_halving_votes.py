"""
The best sigma at each radius, for fewer votes
==============================================

A table of the best sigma at each radius has a cell for every pair. Most cells are out of
the race long before their votes are complete. Under a confidence sequence votes may stop
at any time and go on later, so they can be spent as in successive halving [1]_: all cells
get few votes, those that can no longer be the best are dropped, and the others go on from
the votes that they have.

After a rung an image is certified at a radius, given up or open. It is given up where the
votes so far leave it a chance of less than 1 % to be certified at the last rung: that is
the stopping rule's own forecast. So the certified accuracy of a cell at the last rung lies
between the share of the certified images and that of the certified and open ones, as far
as the forecast is right. A cell is dropped where its upper end exceeds the leader's lower
end by no more than a tolerance. The lower end of a leader only grows from rung to rung,
also where another cell takes over, so the winner comes within the tolerance of all cells
that were dropped. Certificates hold in any case: no guarantee depends on a forecast.

To choose sigma so is selection on these images. How good the winners are is measured on
others.

References
----------
.. [1] Jamieson, Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter
   Optimization", AISTATS 2016, arXiv:1502.07943.
"""

# %%
# Digits enlarged to 16x16, as in the sweep over noise and sigma, but a smaller net. There
# is one training a sigma; afterwards only `bound` changes, which counts at once.
import argparse

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn
from tqdm.auto import tqdm

from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence, top_votes
from rs4a.noises import Uniform
from rs4a.voting.stopping import StoppingRule

parser = argparse.ArgumentParser(description="Spend votes where the best cell is open.")
parser.add_argument(
    "--figure", default="halving_votes.png", help="where to save the figure"
)
args, _ = parser.parse_known_args()

sigmas = np.array([0.25, 0.5, 0.75, 1.0, 1.25, 1.5])
radii = np.round(np.arange(0.1, 1.65, 0.1), 1)
fixed_n = 10_000
rungs = [500, 1000, 2000, 4000, 8000, 16_000]
tolerance = 0.02  # two of the hundred images; their sampling error is larger

digits = load_digits()
X = (digits.images / 16).astype(np.float32).repeat(2, axis=1).repeat(2, axis=2)
X_train, X_held_out, y_train, y_held_out = train_test_split(
    X[:, np.newaxis], digits.target, test_size=200, random_state=0, stratify=digits.target
)
X_race, X_confirm = X_held_out[:100], X_held_out[100:]
y_race, y_confirm = y_held_out[:100], y_held_out[100:]


class Net(nn.Sequential):
    """Means of 2x2 pixels, and a layer of 128 hidden units."""

    def __init__(self):
        super().__init__(
            nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)
        )


net = NeuralNetClassifier(
    Net,
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=0.005,
    max_epochs=40,
    batch_size=256,
    iterator_train__shuffle=True,
    train_split=None,
    callbacks__print_log=None,
    verbose=0,
)
n_threads = torch.get_num_threads()
torch.set_num_threads(1)  # the steps of so small a net are not worth sharing
classifiers = [
    SmoothedClassifier(
        net, noise=Uniform(sigma=sigma), bound=ClopperPearson(n=fixed_n), random_state=0
    ).fit(X_train, y_train)
    for sigma in tqdm(sigmas, desc="train")
]
torch.set_num_threads(n_threads)


# %%
# What a record says of every image (row) and radius (column).
def certified(record, y):
    """Which images are rightly labelled and certified."""
    correct = ~record.abstained & (record.labels == y)
    return correct[:, np.newaxis] & (record.radius(norm=1)[:, np.newaxis] >= radii)


def still_open(record, y):
    """Which images are rightly labelled and may be certified at the last rung."""
    votes = top_votes(record.counts, np.searchsorted(record.classes, record.labels))
    going_on = []
    for radius in radii:
        bound = ConfidenceSequence(max_n=rungs[-1], radii=radius)
        rule = StoppingRule(
            bound, record.noise, 1, record.dim, record.alpha, len(record.classes)
        )
        going_on.append(rule.undecided(votes) & (record.labels == y))
    return np.transpose(going_on)


# %%
# Without halving: equal votes for all, and sequences that stop when all radii are decided.
# Equal votes give a sequence a lower bound, the price of stopping, so it may take more.
fixed, sequential = [], []
for clf in tqdm(classifiers, desc="all cells"):
    fixed.append(clf.certify(X_race))
    clf.set_params(bound=ConfidenceSequence(max_n=rungs[-1], radii=radii.tolist()))
    sequential.append(clf.certify(X_race))

# %%
# The race. `is_open` has a row a sigma and a column a radius, as the tables have. An image
# that was once certified stays so: what a sequence says at all its times holds together.
is_certified = np.zeros((len(sigmas), len(y_race), len(radii)), dtype=bool)
is_open = np.ones((len(sigmas), len(radii)), dtype=bool)
at_most = np.ones((len(sigmas), len(radii)))
columns = np.arange(len(radii))
records = [None] * len(sigmas)
rows = []
for max_n in tqdm(rungs, desc="rungs"):
    raced = is_open & (is_open.sum(axis=0) > 1)
    for i in np.flatnonzero(raced.any(axis=1)):
        clf = classifiers[i].set_params(
            bound__max_n=max_n, bound__radii=radii[raced[i]].tolist()
        )
        records[i] = clf.certify(X_race, previous=records[i])
        is_certified[i] |= certified(records[i], y_race)
        at_most[i] = (is_certified[i] | still_open(records[i], y_race)).mean(axis=0)
    at_least = is_certified.mean(axis=1)
    leader = np.where(is_open, at_least, -1.0).argmax(axis=0)
    is_open &= at_most > at_least[leader, columns] + tolerance + 1e-9
    is_open[leader, columns] = True
    decided = int((is_open.sum(axis=0) == 1).sum())
    votes = sum(int(record.n_votes.sum()) for record in records)
    rows.append([max_n, int(raced.sum()), decided, f"{votes:,}"])

print("\nRungs: votes an image at most, cells raced, races then decided, votes so far\n")
header = ["rung", "cells", "decided", "votes"]
print(pd.DataFrame(rows, columns=header).to_string(index=False))

# %%
# The winners on other images. One sequence a sigma, for the radii that it won.
confirmed = np.zeros(len(radii))
n_confirming = 0
for i in np.unique(leader):
    won = leader == i
    bound = ConfidenceSequence(max_n=rungs[-1], radii=radii[won].tolist())
    record = classifiers[i].set_params(bound=bound).certify(X_confirm)
    confirmed[won] = certified(record, y_confirm).mean(axis=0)[won]
    n_confirming += int(record.n_votes.sum())

# %%
# Against the table of the full scheme: who wins, and what the race's winner has there.
full = np.array([certified(record, y_race).mean(axis=0) for record in fixed])
every = np.array([certified(record, y_race).mean(axis=0) for record in sequential])
lost = full.max(axis=0) - full[leader, columns]


def cells(table, rows):
    """Accuracy and sigma of one cell a radius."""
    values = zip(table[rows, columns], sigmas[rows], strict=True)
    return [f"{value:.0%} ({sigma:g})" for value, sigma in values]


table = {
    f"{fixed_n:,} votes": cells(full, full.argmax(axis=0)),
    "sequences": cells(every, every.argmax(axis=0)),
    "halving, at least": cells(at_least, leader),
    "other images": [f"{value:.0%}" for value in confirmed],
}
print(f"\nBest certified accuracy on {len(y_race)} digits (its sigma), and the halving's")
print(f"winners on {len(y_confirm)} others, by l1 radius\n")
print(pd.DataFrame(table, index=radii).rename_axis("l1 radius").to_string())
print(
    f"\nThe halving's winner is a best one of the {fixed_n:,}-vote table at "
    f"{(lost < 1e-9).sum()} of {len(radii)} radii, and at most {lost.max():.0%} below it."
)

schemes = {f"{fixed_n:,} for all": fixed, "sequences": sequential, "halving": records}
spent = pd.Series(
    {name: sum(int(r.n_votes.sum()) for r in scheme) for name, scheme in schemes.items()}
)
fewer = spent.iloc[0] / spent
print("\nEstimation votes for the table, and how many times fewer they are\n")
print(pd.DataFrame({"votes": spent.map("{:,}".format), "factor": fewer.round(1)}))
print(f"\nThe other images took {n_confirming:,} votes.")

# %%
# Thick where a cell was still in the race when it ended, thin where it had been dropped.
figure, (ax, bars) = plt.subplots(
    1, 2, figsize=(10, 4.2), width_ratios=[2, 1], layout="constrained"
)
styles = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3))]
for i, style in enumerate(styles):
    kept = np.where(is_open[i], at_least[i], np.nan)
    look = {"linestyle": style, "color": f"C{i}"}
    ax.plot(radii, at_least[i], linewidth=1, label=f"{sigmas[i]:g}", **look)
    ax.plot(radii, kept, linewidth=3, **look)
ax.plot(radii, at_least[leader, columns], "k*", markersize=9, label="winner")
ax.plot(radii, confirmed, "ko", markersize=4, fillstyle="none", label="on other images")
ax.set(
    xlabel="l1 radius, in units of X (pixels in [0, 1])",
    ylabel="certified accuracy, at least",
    title="Digits: the best sigma at each radius",
    ylim=(0, 1),
)
ax.grid(alpha=0.3)
ax.legend(title="sigma", ncols=2)
shown = bars.bar(spent.index, spent / 1e6, color="0.75", edgecolor="k")
for bar, hatch in zip(shown, ["", "//", "xx"], strict=True):
    bar.set_hatch(hatch)
bars.bar_label(shown, [f"{votes / 1e6:.2f}" for votes in spent])
bars.set(ylabel="estimation votes, millions", title="Votes for the table")
figure.savefig(args.figure, dpi=120)
