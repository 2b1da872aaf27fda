"""Certificates against attacks that stay in a box, from the classifier to the record."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from torch.utils.data import TensorDataset

from rs4a import Certification, SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.metrics import certified_accuracy_table, make_certified_scorer
from rs4a.noises import Gaussian, Splitting, Uniform
from rs4a.records import BoundRecord, Box, coordinate_reach

BOX = (0, 1)
SIGMA = 1.5


@pytest.fixture(scope="module")
def data():
    X, y = load_digits(n_class=2, return_X_y=True)
    # Grey digits: an image that is black or white somewhere reaches as far as any.
    return (0.2 + 0.6 * X / 16).astype(np.float32), y


def make(noise, **params):
    params = {"bound": ClopperPearson(n=2000), "random_state": 0, **params}
    return SmoothedClassifier(noise=noise, **params)


@pytest.fixture(scope="module")
def fitted(data):
    X, y = data
    return make(Splitting(SIGMA, deterministic=False), box=BOX).fit(X, y)


def test_radius_is_that_of_the_votes_and_the_image(fitted, data):
    X, _ = data
    certification = fitted.certify(X[:60])
    noise = fitted.noise_
    lambd = noise.scale(64)
    reach = coordinate_reach(X[:60], BOX, lambd)
    wanted = noise.radius(certification.prob_lower, 1, 64, reach=reach)
    np.testing.assert_array_equal(certification.radius(norm=1), wanted)
    plain = noise.radius(certification.prob_lower, 1, 64)
    free = noise.radius(certification.prob_lower, 1, 64, reach=[1.0])
    assert (wanted >= free).all()
    assert (free >= plain).all()
    assert (wanted > free).any()
    assert (free > plain).any()


def test_other_norms_follow_from_l1(fitted, data):
    X, _ = data
    certification = fitted.certify(X[:60])
    radius = certification.radius(norm=1)
    np.testing.assert_allclose(certification.radius(norm=2), radius / 8, rtol=1e-12)
    np.testing.assert_allclose(certification.radius(norm=np.inf), radius / 64, rtol=1e-12)


def test_box_counts_at_once_and_by_recompute(fitted, data):
    X, _ = data
    in_box = fitted.certify(X[:30])
    plain = copy.deepcopy(fitted).set_params(box=None).certify(X[:30])
    np.testing.assert_array_equal(in_box.counts, plain.counts)
    assert plain.box is None
    with_images = plain.recompute(box=BOX, X=X[:30])
    np.testing.assert_array_equal(with_images.radius(), in_box.radius())
    free = plain.recompute(box=BOX)
    wanted = fitted.noise_.radius(plain.prob_lower, 1, 64, reach=[1.0])
    np.testing.assert_allclose(free.radius(), wanted, rtol=1e-12)
    np.testing.assert_allclose(replace(plain, box=BOX).radius(), wanted, rtol=1e-12)
    again = in_box.recompute(alpha=0.01)
    assert (again.radius() >= in_box.radius()).all()
    np.testing.assert_array_equal(again.box.reach, in_box.box.reach)
    # Another box knows nothing of the images.
    assert in_box.recompute(box=(0, 2)).box.reach is None
    assert replace(in_box, box=(0, 2)).box.reach is None


def test_from_counts():
    votes = {"labels": [0], "noise": Uniform(lambd=5.0), "dim": 64}
    plain = Certification.from_counts([[9900, 100]], **votes)
    in_box = Certification.from_counts([[9900, 100]], **votes, box=BOX)
    assert in_box.radius()[0] > 1.2 * plain.radius()[0]


def test_bounds_without_votes():
    record = BoundRecord(
        np.array([0, 1]), np.array([0]), np.array([0.99]), Uniform(lambd=5.0), dim=64
    )
    wanted = record.noise.radius([0.99], 1, 64, reach=[1.0])
    np.testing.assert_allclose(replace(record, box=BOX).radius(), wanted, rtol=1e-12)
    with pytest.raises(ValueError, match="box needs noise"):
        replace(record, box=BOX, noise=Gaussian(sigma=1.0))


def test_saved_and_joined(fitted, data, tmp_path):
    X, _ = data
    whole = fitted.certify(X[:20])
    parts = [fitted.certify(X[:8]), fitted.certify(X[8:20])]
    for number, part in enumerate(parts):
        part.save(tmp_path / f"{number}.npz")
    joined = Certification.concatenate(
        [Certification.load(tmp_path / f"{number}.npz") for number in range(2)]
    )
    assert joined.box.interval == (0.0, 1.0)
    np.testing.assert_array_equal(joined.radius(), whole.radius())
    assert "box=(0.0, 1.0)" in repr(joined)
    with pytest.raises(ValueError, match="differ in box"):
        Certification.concatenate([parts[0], replace(parts[1], box=None)])


def test_inputs_of_a_dataset(fitted, data):
    X, _ = data
    lazily = fitted.certify(TensorDataset(torch.from_numpy(X[:20])))
    np.testing.assert_array_equal(lazily.radius(), fitted.certify(X[:20]).radius())


@pytest.mark.parametrize("noise", [Uniform(SIGMA), Splitting(SIGMA, deterministic=False)])
def test_with_a_runner_up(data, noise):
    X, y = data
    bound = ClopperPearson(n=2000, runner_up=True)
    certification = make(noise, bound=bound, box=BOX).fit(X, y).certify(X[:60])
    wanted = noise.radius(
        certification.prob_lower, 1, 64,
        prob_runner_up=certification.prob_runner_up, reach=certification.box.reach,
    )  # fmt: skip
    np.testing.assert_array_equal(certification.radius(), wanted)
    plain = replace(certification, box=None).radius()
    assert (wanted >= plain).all()


@pytest.mark.parametrize("runner_up", [False, True])
def test_votes_stop_when_the_radius_in_the_box_is_decided(fitted, data, runner_up):
    X, _ = data
    radii = [1.0, 1.5, 2.0]
    bound = ConfidenceSequence(max_n=20_000, radii=radii, runner_up=runner_up)
    clf = copy.deepcopy(fitted).set_params(bound=bound)
    in_box = clf.certify(X[:60])
    plain = clf.set_params(box=None).certify(X[:60])

    def decided(certification):
        return (certification.radius()[:, np.newaxis] >= radii).sum()

    assert decided(in_box) > decided(plain)
    assert (in_box.n_votes < 20_000).any()
    backwards = clf.set_params(box=BOX).certify(X[59::-1])
    np.testing.assert_array_equal(backwards.counts, in_box.counts[::-1])


@pytest.mark.slow
def test_in_a_search(data):
    X, y = data
    search = GridSearchCV(
        make(Splitting(SIGMA, deterministic=False), bound=ClopperPearson(n=1000)),
        {"box": [None, BOX]},
        scoring=make_certified_scorer(radius=1.5, norm=1),
        cv=2,
        error_score="raise",
    ).fit(X, y)
    plain, in_box = search.cv_results_["mean_test_score"]
    assert in_box > plain


# What is refused


@pytest.mark.parametrize("noise", [Gaussian(0.5), Splitting(0.5, levels=16)], ids=str)
def test_noises_without_a_box_radius(data, noise):
    X, y = data
    with pytest.raises(ValueError, match="box needs noise .* independently"):
        make(noise, box=BOX).fit(np.rint(X * 16) / 16, y)
    with pytest.raises(ValueError, match="box needs noise"):
        Certification.from_counts(
            [[16, 0]], labels=[0], noise=Gaussian(0.5), dim=4, box=BOX
        )


def test_images_outside_the_box(fitted, data):
    X, _ = data
    with pytest.raises(ValueError, match=r"X must lie in box=\(0\.3, 1\.0\)"):
        copy.deepcopy(fitted).set_params(box=(0.3, 1)).certify(X[:5])


@pytest.mark.parametrize("box", [(1, 0), 1, (0, 1, 2), "01", (0, np.inf)])
def test_what_is_no_box(fitted, data, box):
    X, _ = data
    with pytest.raises(ValueError, match="box must be None or a tuple"):
        copy.deepcopy(fitted).set_params(box=box).certify(X[:5])


def test_reach_must_fit(fitted, data):
    X, _ = data
    certification = fitted.certify(X[:5])
    with pytest.raises(ValueError, match=r"reach of the box must have shape \(5, k\)"):
        replace(certification, box=Box(0, 1, np.ones((4, 3))))
    backwards = Box(0, 1, certification.box.reach[:, ::-1])
    with pytest.raises(ValueError, match="the largest first"):
        replace(certification, box=backwards).radius()
    with pytest.raises(ValueError, match="X must hold the 5 inputs of the record"):
        certification.recompute(box=BOX, X=X[:4])
    with pytest.raises(ValueError, match="X needs a box"):
        replace(certification, box=None).recompute(X=X[:5])


def test_ends_of_the_box_are_rounded_as_inputs_are():
    """0.3 in float32 is above 0.3, and yet in the box that ends there."""
    X = np.array([[0.3, 0.1]], dtype=np.float32)
    reach = coordinate_reach(X, (0.0, 0.3), lambd=1.0)
    assert reach[0, 0] >= 0.3
    mean, std = 0.2860, 0.3530
    ends = (0 - mean) / std, (1 - mean) / std
    coordinate_reach(np.array([ends], dtype=np.float32), ends, lambd=1.0)


def test_tables_tell_boxes_apart(fitted, data):
    X, y = data
    in_box = fitted.certify(X[:30])
    results = [(in_box, y[:30]), (replace(in_box, box=None), y[:30])]
    table = certified_accuracy_table(results, radii=[1.0])
    assert sorted(table.index) == [
        "Splitting(deterministic=False)", "Splitting(deterministic=False) in [0.0, 1.0]",
    ]  # fmt: skip


def test_a_box_that_the_inputs_were_not_in_is_refused_afterwards(fitted, data):
    X, _ = data
    certification = copy.deepcopy(fitted).set_params(box=None).certify(X[:10])
    parts = Certification.concatenate([certification, certification])
    for record in (certification, parts):
        with pytest.raises(ValueError, match=r"box must hold the inputs, which are from"):
            record.recompute(box=(0.4, 1))
        assert record.recompute(box=BOX).box.interval == BOX


def test_only_the_inputs_of_the_record_are_taken(fitted, data):
    X, _ = data
    certification = copy.deepcopy(fitted).set_params(box=None).certify(X[:10])
    for others in (X[10:20], X[:10][::-1], np.full_like(X[:10], 0.5)):
        with pytest.raises(ValueError, match="X must hold the inputs of the record in its"):
            certification.recompute(box=BOX, X=others)
    flat = certification.recompute(box=BOX, X=X[:10].reshape(10, 8, 8))
    np.testing.assert_array_equal(flat.radius(), fitted.certify(X[:10]).radius())


def test_only_the_inputs_of_joined_records_are_taken(fitted, data):
    X, _ = data
    clf = copy.deepcopy(fitted).set_params(box=None)
    joined = Certification.concatenate(
        [clf.set_params(random_state=seed).certify(X[5 * seed :][:5]) for seed in (0, 1)]
    )
    swapped = X[:10].copy()
    swapped[[3, 4]] = swapped[[4, 3]]
    for others in (X[:10][::-1], swapped):
        with pytest.raises(ValueError, match="X must hold the inputs of the record in its"):
            joined.recompute(box=BOX, X=others)
    assert joined.recompute(box=BOX, X=X[:10]).box.reach is not None


def test_a_box_is_compared_as_float32_has_it(data):
    X, y = (0.3 * (data[0] - 0.2) / 0.6).astype(np.float32), data[1]
    clf = make(Uniform(SIGMA), box=(0, 0.3)).fit(X, y)
    record = clf.certify(X[:5])
    assert record.recompute(alpha=0.01).box.interval == (0, 0.3)
    plain = copy.deepcopy(clf).set_params(box=None).certify(X[:5])
    assert plain.recompute(box=(0, 0.3)).box.interval == (0, 0.3)
