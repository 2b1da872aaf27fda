"""SVHN, from its Matlab files."""

import numpy as np
import pytest
import torchvision
from scipy.io import savemat

from rs4a.datasets import load_svhn

IMAGES = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 11), dtype=np.uint8)
LABELS = np.array([10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], dtype=np.uint8)[:, None]


@pytest.mark.parametrize("split", ["train", "test", "extra"])
def test_images_and_labels(tmp_path, split):
    savemat(
        tmp_path / f"{split}_32x32.mat", {"X": IMAGES, "y": LABELS}, do_compression=True
    )
    X, y = load_svhn(tmp_path, split=split)
    assert (X.shape, X.dtype, y.dtype) == ((11, 3, 32, 32), np.float32, np.int64)
    assert X.flags.c_contiguous
    np.testing.assert_array_equal(
        X, np.moveaxis(IMAGES / 255.0, [3, 2, 0, 1], [0, 1, 2, 3]).astype(np.float32)
    )
    assert X[7, 2, 5, 30] == np.float32(IMAGES[5, 30, 2, 7] / 255.0)
    assert y.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    dataset = load_svhn(tmp_path, split=split, as_arrays=False)
    np.testing.assert_array_equal(dataset[9][0].numpy(), X[9])
    assert dataset.targets.tolist() == y.tolist()


def test_augmentation_moves_and_never_mirrors(tmp_path):
    savemat(tmp_path / "train_32x32.mat", {"X": IMAGES, "y": LABELS})
    transform = load_svhn(tmp_path, as_arrays=False, augment=True).transform
    assert (transform.padding, transform.flip) == (4, False)
    with pytest.raises(ValueError, match="augment=True"):
        load_svhn(tmp_path, split="extra", as_arrays=False, augment=True)


def test_download(tmp_path, monkeypatch):
    calls = []

    def download(url, root, filename, md5):
        calls.append([url, filename, md5])
        savemat(root / filename, {"X": IMAGES, "y": LABELS})

    monkeypatch.setattr(torchvision.datasets.utils, "download_url", download)
    for _ in range(2):
        assert load_svhn(tmp_path, split="test", download=True)[0].shape == (11, 3, 32, 32)
    assert calls == [torchvision.datasets.SVHN.split_list["test"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"X": IMAGES}, "must have one integer as label for each of 11 images"),
        ({"y": LABELS}, "must have bytes"),
        ({"X": IMAGES / 255.0, "y": LABELS}, "must have bytes .* got float64"),
        ({"X": IMAGES.T, "y": LABELS}, r"must have bytes .* of shape \(11, 3, 32, 32\)"),
        ({"X": IMAGES, "y": LABELS[1:]}, "each of 11 images"),
        ({"X": IMAGES, "y": LABELS % 10}, "labels from 1 to 10, got 0 to 9"),
    ],
)
def test_other_content_is_refused(tmp_path, content, message):
    path = tmp_path / "train_32x32.mat"
    savemat(path, content)
    with pytest.raises(ValueError, match=f"{path} .*{message}"):
        load_svhn(tmp_path)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"Found no train_32x32.mat in {tmp_path}"):
        load_svhn(tmp_path)
    with pytest.raises(ValueError, match="split must be .* or 'extra', got 1"):
        load_svhn(tmp_path, split=1)
    path = tmp_path / "train_32x32.mat"
    savemat(path, {"X": IMAGES, "y": LABELS}, do_compression=True)
    whole = path.read_bytes()
    for content in (b"", b"no matlab" * 100, whole[:200], whole[:5000]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path} "):
            load_svhn(tmp_path)
