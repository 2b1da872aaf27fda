"""How many votes a certified-accuracy table takes, in units of what no test can do without.

Run: ``python tests/benchmarks/bench_votes.py [folder]``. Votes are simulated: an input is
the probability of its top class. Without a folder the probabilities follow a law shaped
like real ones (most near 1, a tail through the thresholds). A folder holds logs of
CIFAR-10 under Uniform noise: subfolders ``cifar_uniform_<sigma>`` with ``prob_lb.npy``
(two-sided Clopper-Pearson bounds at 0.001 from 100 000 votes, from which the vote counts
are recovered), ``preds.npy`` and ``labels.npy``.

The yardstick is the SPRT bound log(1 / alpha) / KL(p, threshold) of an image at its hardest
radius, at most max_n: about what a sequential test needs on average that knows p and must
either certify or refute. Refuting asks for no guarantee here, which is why a rule may need
less than it.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import betaincinv, xlogy

from rs4a.bounds import ClopperPearson, ConfidenceSequence, TopVotes
from rs4a.noises import Uniform
from rs4a.voting.stopping import StoppingRule, look_schedule

ALPHA = 0.001
PAPER_RADII = np.arange(1, 9) / 2
N_LOGGED = 100_000
DIM = 3072


def simulated_images(sigma, n=10_000, seed=0):
    """Probabilities of the top class, and whether it is the true one."""
    rng = np.random.default_rng(seed)
    # Distance of the outputs from a tie in units of the noise: wide for small sigma.
    logits = rng.gamma(1.6, 3.0 / (0.35 + sigma), size=n) - 0.3
    return 1.0 / (1.0 + np.exp(-logits)), rng.random(n) < 0.9


def logged_images(folder):
    """Shares of votes behind logged bounds, and whether the prediction was right."""
    bounds = np.load(folder / "prob_lb.npy").astype(np.float64)
    successes = np.arange(N_LOGGED + 1)
    table = betaincinv(np.maximum(successes, 1), N_LOGGED - successes + 1, ALPHA / 2)
    table[0], table[-1] = 0.0, (ALPHA / 2) ** (1 / N_LOGGED)
    right = np.clip(np.searchsorted(table, bounds), 1, N_LOGGED)
    nearer_left = bounds - table[right - 1] < table[right] - bounds
    share = (right - nearer_left) / N_LOGGED
    labels = np.load(folder / "labels.npy").astype(int)
    return share, np.load(folder / "preds.npy").argmax(axis=1) == labels


def sprt_bound(p, thresholds, max_n):
    """Mean over the images, each at its hardest threshold."""
    p = p[:, np.newaxis]
    divergence = xlogy(p, p / thresholds) + xlogy(1 - p, (1 - p) / (1 - thresholds))
    with np.errstate(divide="ignore"):
        return np.minimum(np.log(1 / ALPHA) / divergence, max_n).max(axis=1).mean()


def sequential_votes(p, noise, bound, rng):
    """Votes for the top class and in all, drawn until every image is decided."""
    rule = StoppingRule(bound, noise, norm=1.0, dim=DIM, alpha=ALPHA, n_classes=10)
    top, total = np.zeros((2, len(p)), dtype=np.int64)
    active, before = np.arange(len(p)), 0
    for look in look_schedule(bound.max_n):
        top[active] += rng.binomial(look - before, p[active])
        total[active] = before = look
        votes = TopVotes(top[active], (total - top)[active], total[active])
        active = active[rule.undecided(votes)]
    return top, total


def row(p, correct, sigma, radii, max_n, seed=0):
    """One line of the table."""
    rng = np.random.default_rng(seed)
    noise = Uniform(sigma=sigma)
    radii = radii[radii < noise.scale(DIM)]
    bound = ConfidenceSequence(max_n=max_n, radii=radii.tolist())
    top, total = sequential_votes(p, noise, bound, rng)
    fixed = ClopperPearson(n=N_LOGGED)
    reference = fixed.prob_lower(rng.binomial(N_LOGGED, p), N_LOGGED, ALPHA)
    accuracies = [
        (noise.radius(lower, 1, DIM)[:, np.newaxis] >= radii)[correct].sum(0) / len(p)
        for lower in (reference, bound.prob_lower(top, total, ALPHA))
    ]
    thresholds = 0.5 + radii / (2 * noise.scale(DIM))
    bound_on_votes = sprt_bound(p, thresholds, max_n)
    return {
        "sigma": sigma,
        "radii": len(radii),
        "max_n": max_n,
        "mean votes": total.mean(),
        "median": np.median(total),
        "SPRT bound": bound_on_votes,
        "ratio": total.mean() / bound_on_votes,
        "points lost, worst radius": 100 * (accuracies[0] - accuracies[1]).max(),
    }


def rows(images):
    """Lines for one radius and for all of the paper's, at two values of max_n."""
    for sigma, (p, correct) in images:
        reach = Uniform(sigma=sigma).scale(DIM)
        one = np.array([0.5 if reach > 0.5 else 0.25])
        for radii in (one, PAPER_RADII) if (reach > PAPER_RADII).sum() > 1 else (one,):
            for max_n in (100_000, 10_000):
                yield row(p, correct, sigma, radii, max_n)


def main():
    """Print the table."""
    if len(sys.argv) > 1:
        folders = sorted(Path(sys.argv[1]).glob("cifar_uniform_*"))
        images = ((float(f.name.split("_")[-1]), logged_images(f)) for f in folders)
    else:
        images = ((sigma, simulated_images(sigma)) for sigma in (0.25, 0.5, 1.0, 2.0, 3.5))
    table = pd.DataFrame(rows(images)).set_index(["sigma", "radii", "max_n"])
    formats = ["{:,.0f}".format] * 3 + ["{:.2f}".format] * 2
    print(table.to_string(formatters=formats))


if __name__ == "__main__":
    main()
