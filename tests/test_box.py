"""How far attacks in a box reach: against sorting, in chunks, and as much as counts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from rs4a.inputs.datasets import LazyInputs
from rs4a.noises import Uniform
from rs4a.records import box as box_module
from rs4a.records import coordinate_reach, input_free_reach

UNIT_BOX = (0.0, 1.0)


def images(n=23, shape=(3, 4, 5), seed=0):
    return np.random.default_rng(seed).random((n, *shape)).astype(np.float32)


def by_sorting(X, low, high):
    """All distances, the furthest first, in the arithmetic of the inputs."""
    values = np.asarray(X, dtype=np.float64).reshape(len(X), -1)
    return -np.sort(-np.maximum(values - low, high - values), axis=1)


@pytest.mark.parametrize("lambd", [1e-3, 0.1, 1.0, 7.0, 20.0, 1e9, 1e300])
@pytest.mark.parametrize("box", [UNIT_BOX, (-1.0, 2.0), (0, 3)])
def test_reach_is_the_furthest_distances(lambd, box):
    X = images()
    reach, expected = coordinate_reach(X, box, lambd), by_sorting(X, *box)
    n_columns = reach.shape[1]
    assert reach.dtype == np.float64
    wanted = 4 * np.log(2) * lambd / (box[1] - box[0]) + 2
    assert n_columns == min(60, np.ceil(wanted))
    np.testing.assert_array_equal(reach, np.nextafter(expected[:, :n_columns], np.inf))


@pytest.mark.parametrize("chunk_size", [1, 60, 130, 10**6])
def test_inputs_are_read_in_chunks(chunk_size, monkeypatch):
    X, expected = images(), coordinate_reach(images(), UNIT_BOX, 2.0)
    monkeypatch.setattr(box_module, "_CHUNK_SIZE", chunk_size)
    np.testing.assert_array_equal(coordinate_reach(X, UNIT_BOX, 2.0), expected)
    lazy = LazyInputs(TensorDataset(torch.from_numpy(X)), check=lambda x: None)
    np.testing.assert_array_equal(coordinate_reach(lazy, UNIT_BOX, 2.0), expected)
    np.testing.assert_array_equal(coordinate_reach(lazy[5:9], UNIT_BOX, 2.0), expected[5:9])


def test_lazy_inputs_are_not_held_together(monkeypatch):
    X = images(n=50)
    lazy = LazyInputs(TensorDataset(torch.from_numpy(X)), check=lambda x: None)
    sizes, to_array = [], LazyInputs.__array__

    def watched(self, dtype=None, copy=None):
        sizes.append(len(self))
        return to_array(self, dtype, copy)

    monkeypatch.setattr(LazyInputs, "__array__", watched)
    monkeypatch.setattr(box_module, "_CHUNK_SIZE", 7 * 60)
    coordinate_reach(lazy, UNIT_BOX, 2.0)
    assert max(sizes) == 7
    assert sum(sizes) == 50


def test_flat_inputs_one_coordinate_and_no_input():
    flat = images().reshape(23, 60)
    np.testing.assert_array_equal(
        coordinate_reach(flat, UNIT_BOX, 1.0), coordinate_reach(images(), UNIT_BOX, 1.0)
    )
    one = coordinate_reach(np.array([[0.25], [1.0]]), UNIT_BOX, 5.0)
    np.testing.assert_array_equal(one, np.nextafter([[0.75], [1.0]], 2.0))
    assert coordinate_reach(flat[:0], UNIT_BOX, 1.0).shape == (0, 5)


def test_distances_are_rounded_up():
    """The distance from -1e-20 to 1 is more than 1, which float64 does not tell."""
    reach = coordinate_reach(np.array([[-1e-20, 0.1]]), (-1.0, 1.0), 10.0)
    assert (reach > [[1.0, 0.9]]).all()
    assert input_free_reach((-1e-20, 1.0))[0, 0] > 1.0


@pytest.mark.parametrize("bad", [1.2, -1e-9, np.nan, np.inf, -np.inf])
def test_inputs_outside_are_refused(bad):
    X = images().astype(np.float64)
    X[-1, 0, 0, 0] = bad
    with pytest.raises(
        ValueError, match=rf"X must lie in box=\(0.0, 1.0\), got {bad:g}\. "
    ):
        coordinate_reach(X, UNIT_BOX, 1.0)


def test_the_border_belongs_to_the_box():
    reach = coordinate_reach(np.array([[0.0, 1.0]]), UNIT_BOX, 1.0)
    np.testing.assert_array_equal(reach, np.nextafter([[1.0, 1.0]], 2.0))


@pytest.mark.parametrize("lambd", [0.02, 0.4, 1.0, 6.0, 40.0])
@pytest.mark.parametrize("runner_up", [None, 0.0, 0.2])
def test_coordinates_that_are_left_out_do_not_count(lambd, runner_up):
    """The worst case is the centre of the box, from which every coordinate reaches half."""
    X = np.concatenate([np.full((1, 300), 0.5), images(4, shape=(300,))])
    noise, everything = Uniform(lambd=lambd), by_sorting(X, 0.0, 1.0)
    reach = coordinate_reach(X, UNIT_BOX, lambd)
    assert reach.shape[1] < 300
    for prob in (0.51, 0.7, 0.99, 1.0):
        kwargs = {"prob_runner_up": runner_up} if runner_up is not None else {}
        some, every = (
            noise.radius(np.full(5, prob), 1, 300, reach=each, **kwargs)
            for each in (reach, everything)
        )
        np.testing.assert_allclose(some, every, rtol=1e-13)


@given(
    x=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30),
    prob=st.floats(0.5, 1.0),
    lambd=st.floats(0.01, 100.0),
)
def test_no_input_has_less_than_all_inputs_have(x, prob, lambd):
    noise, dim = Uniform(lambd=lambd), len(x)
    by_input = coordinate_reach(np.array([x]), UNIT_BOX, lambd)
    radius = noise.radius([prob], 1, dim, reach=by_input)[0]
    free = noise.radius([prob], 1, dim, reach=input_free_reach(UNIT_BOX))[0]
    # Where no attack suffices, the radius is all that can be moved.
    whole_box = by_sorting(np.array([x]), 0.0, 1.0).sum()
    assert radius >= min(free, whole_box) * (1 - 1e-12)
    assert radius >= noise.radius([prob], 1, dim)[0]


def test_input_free_reach_is_the_width():
    reach = input_free_reach((-1, 3))
    np.testing.assert_array_equal(reach, [[np.nextafter(4.0, 5.0)]])
    assert reach.dtype == np.float64
