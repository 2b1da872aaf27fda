"""Standardisation as the first layer."""

import numpy as np
import pytest
import torch

from rs4a.networks import Normalize


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)), (0.5, 0.25), (np.full(3, 0.5), torch.ones(3))],
    ids=["channels", "numbers", "arrays"],
)
def test_channels_are_standardised(mean, std):
    X = torch.rand(4, 3, 5, 6)
    shape = (1, -1, 1, 1)
    expected = (X - torch.as_tensor(mean).float().reshape(shape)) / torch.as_tensor(
        std
    ).float().reshape(shape)
    torch.testing.assert_close(Normalize(mean, std)(X), expected)


def test_values_are_saved_and_not_trained():
    layer = Normalize((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert not list(layer.parameters())
    assert {name: tuple(v.shape) for name, v in layer.state_dict().items()} == {
        "mean": (3, 1, 1),
        "std": (3, 1, 1),
    }


def test_the_given_array_is_not_shared():
    mean = np.zeros(3, dtype=np.float32)
    layer = Normalize(mean, 1.0)
    mean += 5.0
    assert not layer.mean.any()


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (0.0, 0.0, "std must be above 0, got 0.0"),
        (0.0, (1.0, -1.0), "std must be above 0"),
        (float("nan"), 1.0, "mean must be a finite float or one for every channel"),
        (0.0, np.ones((3, 1, 1)), "std must be a finite float or one for every channel"),
    ],
)
def test_what_standardises_nothing_is_refused(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Normalize(mean, std)
