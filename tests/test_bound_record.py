"""Records of bounds answer as certifications do, and say that they have no votes."""

import copy
import math
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest

from rs4a import Certification
from rs4a.metrics import average_certified_radius, certified_accuracy_score
from rs4a.noises import Gaussian, Uniform
from rs4a.records import BoundRecord

VOTES = np.array([[995, 5, 0], [520, 470, 10], [0, 0, 1000], [400, 600, 0]])
SELECTION = np.array([[64, 0, 0], [34, 30, 0], [0, 0, 64], [40, 24, 0]])
CLASSES = np.array(["cat", "dog", "emu"])


def certification():
    return Certification(CLASSES, SELECTION, VOTES, Uniform(sigma=0.5), dim=64)


def make(**kwargs):
    """The bounds of that certification."""
    votes = certification()
    options = {
        "classes": CLASSES,
        "labels": votes.labels,
        "prob_lower": votes.prob_lower,
        "noise": Uniform(sigma=0.5),
        "dim": 64,
        "proba": SELECTION / 64,
    }
    return BoundRecord(**{**options, **kwargs})


def test_answers_as_the_certification_does():
    record, votes = make(), certification()
    np.testing.assert_array_equal(record.labels, votes.labels)
    assert record.abstained.tolist() == [False, True, False, True]
    for norm in (None, 1, 2, math.inf):
        np.testing.assert_array_equal(record.radius(norm), votes.radius(norm))
    assert len(record) == 4
    y = ["cat", "cat", "dog", "cat"]
    assert certified_accuracy_score(y, record, radius=0.1) == 0.25
    assert average_certified_radius(y, record) == average_certified_radius(y, votes)
    expected = votes.to_frame().drop(columns="n_votes")
    pd.testing.assert_frame_equal(record.to_frame(), expected)


def test_repr_is_short():
    assert (
        repr(make(norm=math.inf, alpha=0.01))
        == "BoundRecord(n=4, noise=Uniform(sigma=0.5), alpha=0.01, norm=linf, abstained=2)"
    )


def test_default_norm_is_the_noise_s_own():
    assert make().norm == 1.0
    assert make(noise=Gaussian(sigma=0.5)).norm == 2.0
    record = make(norm=2)
    np.testing.assert_array_equal(record.radius(), record.radius(2))


@pytest.mark.parametrize("name", ["counts", "selection_counts", "n_votes", "recompute"])
def test_without_votes_it_says_so(name):
    record = make()
    assert not hasattr(record, name)
    with pytest.raises(AttributeError, match="has no votes"):
        getattr(record, name)


def test_it_cannot_change():
    record = make()
    with pytest.raises(FrozenInstanceError):
        record.alpha = 0.5
    for each in (record, copy.deepcopy(record), pickle.loads(pickle.dumps(record))):
        for name in ("classes", "labels", "prob_lower", "proba"):
            assert not getattr(each, name).flags.writeable
        np.testing.assert_array_equal(each.radius(), record.radius())
    noise = Uniform(sigma=0.5)
    record = make(noise=noise)
    noise.sigma = 5.0
    assert record.noise.sigma == 0.5


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"classes": CLASSES[:1].repeat(3)}, "classes must differ"),
        ({"classes": np.zeros((3, 1))}, "classes must be a list"),
        ({"labels": np.array(["cat", "cat", "fox", "cat"])}, "labels must be an array"),
        ({"labels": np.array([["cat"]])}, "labels must be an array"),
        ({"prob_lower": np.array([0.5, 0.5])}, r"prob_lower must have shape \(4,\)"),
        (
            {"prob_lower": np.array([0.5, 0.5, 0.5, 1.1])},
            r"prob_lower .* \[0, 1\], got 1.1",
        ),
        ({"prob_lower": np.array([0.5, 0.5, 0.5, np.nan])}, "got nan"),
        ({"prob_lower": np.ones(4, dtype=np.float32)}, "must be float64"),
        ({"prob_lower": None}, "prob_lower must be a probability"),
        ({"proba": np.ones((4, 2))}, r"proba must have shape \(4, 3\)"),
        ({"proba": -np.ones((4, 3))}, r"proba must be .* got -1"),
        ({"alpha": 1.0}, "alpha must be"),
        ({"dim": 0}, "dim must be"),
        ({"norm": 3}, "norm must be"),
        ({"noise": Uniform()}, "exactly one of sigma and lambd"),
    ],
)
def test_wrong_arguments(wrong, match):
    with pytest.raises(ValueError, match=match):
        make(**wrong)


def test_shares_may_be_unknown():
    assert make(proba=None).proba is None
