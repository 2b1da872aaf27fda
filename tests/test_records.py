"""The interface that the three records of certified predictions share."""

import copy
import math
import pickle

import numpy as np
import pandas as pd
import pytest

from rs4a import Certification
from rs4a.noises import Uniform
from rs4a.records import BoundRecord, Box, CertificationLog, CertifiedPredictions

VOTES = np.array([[995, 5, 0], [520, 470, 10], [0, 0, 1000], [400, 600, 0]])
Y_TRUE = np.array([0, 1, 2, 0])
REACH = -np.sort(-np.random.default_rng(0).uniform(0.5, 1.0, size=(4, 3)), axis=1)


def certification(**kwargs):
    """A record of which each input has its own reach."""
    options = {"noise": Uniform(sigma=0.5), "dim": 64, "box": Box(0.0, 1.0, REACH)}
    return Certification.from_counts(VOTES, labels=[0, 0, 2, 1], **{**options, **kwargs})


def bounds(**kwargs):
    """The bounds of that record."""
    votes = certification()
    options = {"noise": votes.noise, "dim": votes.dim, "box": votes.box}
    return BoundRecord(
        votes.classes, votes.labels, votes.prob_lower, **{**options, **kwargs}
    )


def log(**kwargs):
    """The radii of that record."""
    votes = certification()
    options = {"norm": votes.norm, "dim": 64, "noise": votes.noise, "box": votes.box}
    arrays = votes.labels, votes.radius(), votes.abstained, np.arange(4.0)
    return CertificationLog(
        np.array([7, 3, 0, 5]), Y_TRUE, *arrays, **{**options, **kwargs}
    )


RECORDS = pytest.mark.parametrize("make", [certification, bounds, log])


@RECORDS
@pytest.mark.parametrize("rows", [slice(1, 3), [3, 0], [True, False, False, True], 2])
def test_subscripts_take_the_rows_of_all_answers(make, rows):
    record = make()
    assert isinstance(record, CertifiedPredictions)
    at = np.atleast_1d(np.arange(4)[rows])
    some, frame = record[rows], record.to_frame().iloc[at]
    assert type(some) is type(record)
    assert len(some) == len(at)
    np.testing.assert_array_equal(some.labels, record.labels[at])
    np.testing.assert_array_equal(some.abstained, record.abstained[at])
    np.testing.assert_array_equal(some.box.reach, record.box.reach[at])
    for norm in (None, 1, 2, math.inf):
        np.testing.assert_array_equal(some.radius(norm), record.radius(norm)[at])
    known = make is log  # the other records number the rows anew
    pd.testing.assert_frame_equal(
        some.to_frame(), frame if known else frame.reset_index(drop=True)
    )


@RECORDS
def test_frames_hold_labels_abstentions_and_radii(make):
    record = make()
    frame = record.to_frame()
    between = {
        certification: ["prob_lower", "n_votes"],
        bounds: ["prob_lower"],
        log: ["y_true"],
    }
    radii = ["radius_l1", "radius_l2", "radius_linf"]
    assert list(frame) == ["label", "abstained", *between[make], *radii]
    for norm, name in zip((1, 2, math.inf), radii, strict=True):
        np.testing.assert_array_equal(frame[name], record.radius(norm))
    for column in between[make]:
        np.testing.assert_array_equal(frame[column], getattr(record, column))


def test_frames_of_logs_hold_the_radii_that_can_be_converted():
    frame = log(norm=2.0, dim=None, noise=None).to_frame()
    assert [name for name in frame if "radius" in name] == ["radius_l1", "radius_l2"]
    assert frame.index.tolist() == [7, 3, 0, 5]


@RECORDS
@pytest.mark.parametrize(
    "twin", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_are_equal(make, twin):
    record = make()
    again = twin(record)
    assert repr(again) == repr(record)
    pd.testing.assert_frame_equal(again.to_frame(), record.to_frame())
    np.testing.assert_array_equal(again.box.reach, record.box.reach)


@RECORDS
def test_the_box_must_know_the_same_inputs(make):
    for reach in (REACH[:3], REACH[:, 0]):
        with pytest.raises(ValueError, match=r"reach of the box must have shape \(4, k\)"):
            make(box=Box(0.0, 1.0, reach))


@RECORDS
def test_texts_state_the_box(make):
    assert "norm=l1, box=(0.0, 1.0), abstained=" in repr(make())
    assert "box" not in repr(make(box=None))


def test_arguments_by_position_keep_their_order():
    """So that pickles of 0.1.0, which hold them by position, open."""
    votes = certification(tokens=np.full(4, 2**63, dtype=np.uint64))
    names = [
        "classes", "selection_counts", "counts", "noise", "dim", "bound", "alpha", "norm",
        "seconds", "adaptive", "tokens", "inference", "net_digest", "box", "runs", "index",
    ]  # fmt: skip
    given = {
        **{name: getattr(votes, name) for name in names},
        "seconds": 2.5, "norm": 2.0, "alpha": 0.01, "net_digest": "0123",
        "runs": ({"seed": 3},), "index": pd.RangeIndex(4),
    }  # fmt: skip
    by_position, by_name = Certification(*given.values()), Certification(**given)
    for name in names:
        np.testing.assert_equal(
            repr(getattr(by_position, name)), repr(getattr(by_name, name))
        )
        if name in ("seconds", "norm", "alpha", "net_digest", "runs"):
            assert getattr(by_position, name) == given[name]
