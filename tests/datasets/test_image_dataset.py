"""Images as a Dataset, and their augmentation."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from rs4a.datasets import ImageDataset, RandomCropAndFlip


@pytest.fixture
def images():
    """Every byte once, as one image of 16x16 pixels, and as its mirror image."""
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    return np.stack([image, image[..., ::-1]])


def test_items_are_fractions_and_ints(images):
    dataset = ImageDataset(images, [3, 1])
    image, target = dataset[1]
    assert (image.dtype, image.shape) == (torch.float32, (1, 16, 16))
    assert (type(target), target) == (int, 1)
    assert len(dataset) == 2
    wanted = torch.tensor([k / 255 for k in range(256)])  # rounded once, from float64
    assert torch.equal(dataset[0][0].flatten(), wanted)
    assert torch.equal(image.flip(-1).flatten(), wanted)


def test_arrays_are_the_items(images):
    for layout in (images, images.transpose(0, 1, 3, 2), images[:, :, ::2]):
        dataset = ImageDataset(layout, np.array([3, 1], dtype=np.uint8))
        X, y = dataset.arrays()
        assert (X.dtype, y.dtype) == (np.float32, np.int64)
        assert X.flags.c_contiguous
        np.testing.assert_array_equal(X, np.stack([image.numpy() for image, _ in dataset]))
        np.testing.assert_array_equal(y, [3, 1])
        assert (dataset.targets.dtype, dataset.targets.tolist()) == (np.int64, [3, 1])


def test_max_value_becomes_one():
    dataset = ImageDataset(
        np.array([0, 4, 16], np.uint8).reshape(1, 1, 1, 3), [0], None, 16
    )
    assert dataset[0][0].flatten().tolist() == [0.0, 0.25, 1.0]


def test_images_stay_as_they_are(images):
    before = images.copy()
    images.flags.writeable = False
    image, _ = ImageDataset(images, [0, 1])[0]
    image.zero_()
    np.testing.assert_array_equal(images, before)


def test_loader_and_pickle(images):
    dataset = ImageDataset(images, [3, 1], RandomCropAndFlip(padding=0, flip=False))
    copied = pickle.loads(pickle.dumps(dataset))
    X, y = next(iter(DataLoader(copied, batch_size=2)))
    assert torch.equal(X, torch.from_numpy(dataset.arrays()[0]))
    assert torch.equal(y, torch.tensor([3, 1]))


@pytest.mark.parametrize(
    ("images", "targets", "message"),
    [
        (np.zeros((2, 1, 4, 4)), [0, 1], r"images must be bytes .* got float64"),
        (
            np.zeros((2, 4, 4), np.uint8),
            [0, 1],
            r"images must be .* got uint8 of shape \(2, 4",
        ),
        (
            np.zeros((2, 1, 4, 4), np.uint8),
            [0],
            r"targets must have .* 2 images, got .*\(1,\)",
        ),
    ],
)
def test_other_data_is_refused(images, targets, message):
    with pytest.raises(ValueError, match=message):
        ImageDataset(images, targets)


def test_crops_are_shifts_by_all_distances_and_flips_are_half():
    """Of a single bright pixel, whose place tells shift and flip."""
    image = torch.zeros(3, 9, 9)
    image[:, 4, 3] = 1.0
    torch.manual_seed(0)
    augment = RandomCropAndFlip(padding=2)
    places = [torch.nonzero(augment(image)[0]).tolist()[0] for _ in range(2000)]
    rows, columns = (np.bincount(each, minlength=9) for each in np.transpose(places))
    np.testing.assert_allclose(
        rows / 2000, np.array([0, 0, 1, 1, 1, 1, 1, 0, 0]) / 5, atol=0.04
    )
    # Column 3 moves to 1..5, or mirrored to 7..3.
    wanted = np.array([0, 1, 1, 2, 2, 2, 1, 1, 0]) / 10
    np.testing.assert_allclose(columns / 2000, wanted, atol=0.04)
    assert image[:, 4, 3].tolist() == [1.0, 1.0, 1.0]


def test_crops_without_flips_are_never_mirrored():
    image = torch.arange(1.0, 17.0).reshape(1, 4, 4)
    torch.manual_seed(0)
    for _ in range(50):
        shifted = RandomCropAndFlip(padding=1, flip=False)(image)
        padded = torch.nn.functional.pad(image, [1, 1, 1, 1])
        windows = [padded[:, i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
        assert any(torch.equal(shifted, window) for window in windows)


def test_flips_without_crops_stay_in_place():
    image = torch.arange(1.0, 33.0).reshape(2, 4, 4)
    torch.manual_seed(0)
    versions = [RandomCropAndFlip(padding=0, flip=True)(image) for _ in range(200)]
    n_mirrored = sum(torch.equal(version, image.flip(-1)) for version in versions)
    n_same = sum(torch.equal(version, image) for version in versions)
    assert n_mirrored + n_same == 200
    assert 70 < n_mirrored < 130


def test_draws_are_those_of_torch():
    image = torch.rand(3, 32, 32)
    draws = []
    for _ in range(2):
        torch.manual_seed(1)
        draws.append(torch.stack([RandomCropAndFlip()(image) for _ in range(10)]))
    assert torch.equal(*draws)
    assert not torch.equal(draws[0][0], draws[0][1])
    assert (
        repr(RandomCropAndFlip(2, flip=False)) == "RandomCropAndFlip(padding=2, flip=False)"
    )


@pytest.mark.parametrize("padding", [-1, 1.5, None])
def test_a_bad_padding_is_refused(padding):
    with pytest.raises(ValueError, match="padding must be an int of at least 0, got"):
        RandomCropAndFlip(padding)
