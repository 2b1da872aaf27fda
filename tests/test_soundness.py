"""Certificates hold: by simulation with a known truth, and against attacks."""

import math

import numpy as np
import pytest
from conftest import NOISES, Threshold, frozen, make_net
from every import one_of_each
from scipy import stats

from rs4a import SmoothedClassifier
from rs4a.attacks import PGD
from rs4a.bounds import ClopperPearson
from rs4a.noises import (
    Gaussian,
    Laplace,
    Uniform,
)  # fmt: skip

QUANTILES = {
    Gaussian: stats.norm.ppf,
    Laplace: stats.laplace.ppf,
    Uniform: lambda p: 2 * p - 1,
}


# Validity: P(top class) is known, so each single certificate can be judged


def known_probability(shape, p, n, n_inputs):
    """Certification of inputs whose probability of class 0 is exactly p."""
    net = frozen(Threshold, [0, 1], module__t=float(QUANTILES[shape](p)))
    clf = SmoothedClassifier(
        net,
        noise=shape(lambd=1.0),
        bound=ClopperPearson(n=n),
        n_selection=16,
        random_state=0,
    )
    X = np.zeros((n_inputs, 2), dtype=np.float32)
    X[:, 1] = np.arange(n_inputs)  # ignored by the net; gives each input its own noise
    return clf.fit(X, np.arange(n_inputs) % 2).certify(X)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [Gaussian, Laplace, Uniform])
@pytest.mark.parametrize("p", [0.5, 0.6, 0.9, 0.99, 0.9999])
@pytest.mark.parametrize("n", [20, 100, 1000])
def test_validity(shape, p, n):
    n_inputs = 4000
    certification = known_probability(shape, p, n, n_inputs)
    truth = np.where(certification.labels == 0, p, 1 - p)
    for alpha in (0.3, 0.1, 0.01, 0.001):
        record = certification.recompute(alpha=alpha)
        wrong = int((record.prob_lower > truth).sum())
        assert wrong <= stats.binom.ppf(1 - 1e-6, n_inputs, alpha)
        true_radius = shape(lambd=1.0).radius(np.maximum(truth, 0.5), norm=1, dim=2)
        assert (
            (record.radius(1) > true_radius * (1 + 1e-9)) <= (record.prob_lower > truth)
        ).all()


@pytest.mark.slow
def test_validity_is_not_for_free():
    """The bound spends its alpha: it would fail with a slightly larger probability."""
    certification = known_probability(Uniform, 0.9, 1000, 4000).recompute(alpha=0.1)
    assert (certification.prob_lower > 0.9).mean() > 0.07
    assert (certification.prob_lower > 0.89).mean() > 0.25


@pytest.mark.slow
def test_selection_votes_do_not_bound():
    """With p = 1/2 the selected class won by luck; that luck must not certify it."""
    certification = known_probability(Gaussian, 0.5, 100, 8000).recompute(alpha=0.05)
    assert (~certification.abstained).mean() <= stats.binom.ppf(1 - 1e-6, 8000, 0.05) / 8000


# Attacks: no counterexample inside the certified radius


def attack(clf, X, labels, radius, norm):
    """The library's PGD, and what it promises: nobody else keeps the radius."""
    pgd = PGD(norm, steps=30, n_samples=64, random_state=0)
    attacked = pgd.perturb(clf, X, labels, radius=radius)
    moved = (attacked.astype(np.float64) - X).reshape(len(X), -1)
    distance = np.linalg.norm(moved, norm, axis=1)
    assert (distance <= radius).all()
    assert (distance >= 0.99 * radius).mean() > 0.9  # it uses what it may
    return attacked


def assert_no_attack_succeeds(clf, X, norm, room=0.2):
    certification = clf.certify(X)
    certain = ~certification.abstained
    X, labels = X[certain], certification.labels[certain]
    radius = certification.radius(norm)[certain]
    inside = clf.certify(attack(clf, X, labels, radius, norm))
    flipped = (inside.labels != labels) & ~inside.abstained
    assert not flipped.any()
    # The attack has teeth: given more room, it flips a good part of the inputs.
    beyond = clf.certify(attack(clf, X, labels, 5 * radius + room, norm))
    if norm == clf.noise.norms[0]:
        assert ((beyond.labels != labels) & ~beyond.abstained).mean() > 0.2


OWN_NORM = [("Gaussian", 2), ("Laplace", 1), ("Uniform", 1), ("Uniform", math.inf)]
OTHER_NORM = [("Gaussian", 1), ("Gaussian", math.inf)]
OTHER_NORM += [("Laplace", 2), ("Laplace", math.inf), ("Uniform", 2)]


@pytest.mark.parametrize(
    ("name", "norm"),
    [*OWN_NORM, *(pytest.param(*each, marks=pytest.mark.slow) for each in OTHER_NORM)],
)
def test_no_attack_within_the_certified_radius(fitted, digits, name, norm):
    assert_no_attack_succeeds(fitted[name], digits[1][:60], norm)


OTHER_KINDS = [each for each in one_of_each(64, 0.3) if type(each) not in map(type, NOISES)]


@pytest.mark.slow
@pytest.mark.parametrize("noise", OTHER_KINDS, ids=str)
def test_no_attack_within_the_radius_of_other_kinds(noise, digits):
    X_train, X_test, y_train, _ = digits
    clf = SmoothedClassifier(
        make_net(), noise=noise, bound=ClopperPearson(n=1000), random_state=0
    ).fit(X_train, y_train)
    for norm in (1, 2, math.inf):
        assert_no_attack_succeeds(clf, X_test[:60], norm, room=3.0 if norm == 1 else 0.2)
