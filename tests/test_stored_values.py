"""Parameters come back from JSON and tensors as they were."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from rs4a.noises import Uniform
from rs4a.objectives import NoiseAugmentation, SmoothAdv, Stability
from rs4a.persistence.values import (
    JsonReader,
    JsonWriter,
    in_words,
    own_classes,
    unknown_names,
)


class OwnNoise(Uniform):
    """A user's noise."""


class OwnObjective(NoiseAugmentation):
    """A user's objective."""


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 2**70, -0.0, 1e-320, "text", [1, [2.5, "a"]], (1, (2, [3])), {},
        {"a": (1,), 2: None, "unknown": "x", "object": ["y", []]}, math.inf, -math.inf,
        np.float32(0.1), np.int8(-3), np.bool_(True), np.str_("s"), np.float64("inf"),
    ],
    ids=repr,
)  # fmt: skip
def test_values_come_back(value):
    writer = JsonWriter()
    stored = json.loads(json.dumps(writer.write(value), allow_nan=False))
    back = JsonReader(writer.tensors, {}).read(stored)
    assert back == value
    assert repr(back) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6.0).reshape(2, 3)[:, ::2], np.array(3.5),
        np.zeros((0, 2), dtype=np.int8), np.array(["a", "bcd"]),
        np.array(["a", 1, None], dtype=object),
        np.array([True, False]), np.arange(3, dtype=np.uint16), np.array([np.nan, 1.0]),
    ],
    ids=repr,
)  # fmt: skip
def test_arrays_come_back(value):
    writer = JsonWriter()
    back = JsonReader(writer.tensors, {}).read(writer.write(value))
    np.testing.assert_array_equal(back, value)
    assert (back.dtype, back.shape) == (value.dtype, value.shape)


def test_equal_arrays_are_kept_once():
    writer = JsonWriter()
    first, second, other = map(writer.write, (np.arange(3), np.arange(3), np.arange(4)))
    assert first == second != other
    assert len(writer.tensors) == 2


def test_own_classes():
    objective = SmoothAdv(objective=OwnObjective())
    found = own_classes(objective, OwnNoise(sigma=1.0), Uniform(sigma=1.0), None)
    assert found == {"OwnObjective": OwnObjective, "OwnNoise": OwnNoise}


def test_what_no_file_can_hold_is_named():
    inside = {"a": (1, [OwnNoise]), "b": lambda: 0}
    stored = JsonWriter().write(inside)
    assert [name.rpartition(".")[2] for name in unknown_names(stored)] == [
        "OwnNoise",
        "<lambda>",
    ]
    for value in (np.array([[None]]), np.datetime64("2020"), np.array([1j]), object()):
        assert unknown_names(JsonWriter().write(value))
    assert unknown_names(JsonWriter().write(torch.zeros(2).to_sparse()))


def test_strings_are_never_mistaken_for_names():
    stored = JsonWriter().write({"unknown": "x", "object": ["y", []], "thing": "z"})
    assert unknown_names(stored) == []


def test_objects_of_ones_own_are_read_by_the_class_that_is_given():
    noise = OwnNoise(sigma=np.float64(0.5))
    stored = JsonWriter().write(noise)
    assert unknown_names(stored) == ["OwnNoise"]
    assert unknown_names(stored, own_classes(noise)) == []
    with pytest.raises(KeyError, match="OwnNoise"):
        JsonReader({}, {}).read(stored)
    back = JsonReader({}, own_classes(noise)).read(stored)
    assert type(back) is OwnNoise
    assert repr(back) == repr(noise)


def test_things_are_looked_up():
    for thing in (nn.CrossEntropyLoss, torch.optim.AdamW, torch.float64, print):
        assert JsonReader({}, {}).read(JsonWriter().write(thing)) is thing


def test_words():
    objective = SmoothAdv(box=(0, 1), norm=math.inf, objective=Stability())
    words = in_words(JsonWriter().write([objective, nn.NLLLoss, "a"]))
    assert "SmoothAdv(box=(0, 1), n_samples=2, norm=inf, objective=Stab" in words
    assert words.endswith("torch.nn.NLLLoss, 'a']")
