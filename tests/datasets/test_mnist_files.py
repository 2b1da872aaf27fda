"""MNIST and Fashion-MNIST from idx files, and scikit-learn's digits."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits

from rs4a.datasets import (
    RandomCropAndFlip,
    load_digits_images,
    load_fashion_mnist,
    load_mnist,
    mnist,
)

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
LOADERS = {"FashionMNIST": load_fashion_mnist, "MNIST": load_mnist}
SIZES = {"train": 7, "t10k": 4}


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def make_data(prefix):
    rng = np.random.default_rng(SIZES[prefix])
    images = rng.integers(0, 256, (SIZES[prefix], 5, 3), dtype=np.uint8)
    return images, rng.integers(0, 10, SIZES[prefix], dtype=np.uint8)


def write_files(folder, *, compressed=False):
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in SIZES:
        for kind, array in zip(
            ("images-idx3", "labels-idx1"), make_data(prefix), strict=True
        ):
            path = folder / f"{prefix}-{kind}-ubyte{'.gz' if compressed else ''}"
            path.write_bytes(gzip.compress(idx(array)) if compressed else idx(array))


@pytest.fixture(autouse=True)
def no_installed_data(monkeypatch, tmp_path):
    """Neither Debian's files nor those of whoever runs the tests."""
    monkeypatch.setattr(mnist, "_DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("RS4A_DATA", str(tmp_path / "home"))


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("sub", ["", "raw", "{}/raw"])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
def test_idx_files_are_found_and_read(tmp_path, name, sub, compressed, split, prefix):
    write_files(tmp_path / sub.format(name), compressed=compressed)
    images, labels = make_data(prefix)
    X, y = LOADERS[name](tmp_path, split=split)
    assert (X.dtype, y.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(X, (images[:, None] / 255.0).astype(np.float32))
    np.testing.assert_array_equal(y, labels)
    dataset = LOADERS[name](str(tmp_path), split=split, as_arrays=False)
    np.testing.assert_array_equal(dataset[2][0].numpy(), X[2])
    np.testing.assert_array_equal(dataset.targets, y)


def test_default_folders(tmp_path, monkeypatch):
    write_files(tmp_path / "home" / "mnist")
    assert load_mnist()[0].shape == (7, 1, 5, 3)
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "debian")):
        load_fashion_mnist()
    write_files(tmp_path / "debian", compressed=True)
    assert load_fashion_mnist(split="test")[0].shape == (4, 1, 5, 3)
    monkeypatch.delenv("RS4A_DATA")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    write_files(tmp_path / "user" / "rs4a_data" / "mnist")
    assert load_mnist(split="test")[0].shape == (4, 1, 5, 3)


def test_missing_files_are_named(tmp_path):
    write_files(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist(tmp_path)
    message = str(caught.value)
    assert "train-images-idx3-ubyte and train-labels-idx1-ubyte, or train-ima" in message
    assert f" in {tmp_path}, {tmp_path}/raw, {tmp_path}/MNIST/raw. Give" in message
    assert "download=True" in message


@pytest.mark.parametrize("name", LOADERS)
def test_download_is_torchvisions(tmp_path, monkeypatch, name):
    calls = []

    def download(root, download):
        calls.append((root, download))
        write_files(Path(root) / name / "raw")

    monkeypatch.setattr(torchvision.datasets, name, download)
    with pytest.raises(FileNotFoundError):
        LOADERS[name](tmp_path / "new")
    assert not calls
    X, _ = LOADERS[name](tmp_path / "new", download=True)
    assert (X.shape, calls) == ((7, 1, 5, 3), [(tmp_path / "new", True)])
    LOADERS[name](tmp_path / "new", download=True)
    assert len(calls) == 1  # what is there is not downloaded


IMAGES = idx(make_data("train")[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be an idx file .* with 3 axes: .* got nothing"),
        (IMAGES[:10], "must be an idx file"),
        (b"\x00\x00\x08\x01" + IMAGES[4:], "must .* begins with 00000803 .* got 00000801"),
        (b"\x00\x00\x0d\x03" + IMAGES[4:], "must be an idx file"),
        (b"\x1f\x8b\x08\x00" + IMAGES[4:], "must be an idx file"),
        (IMAGES[:-1], r"must hold 105 bytes .* shape \(7, 5, 3\), but has fewer"),
        (IMAGES + b"x", "must hold 105 bytes .* but has more"),
        (IMAGES[:4] + b"\xff" * 12 + IMAGES[16:], "must hold .* but has fewer"),
    ],
    ids=["empty", "short", "other axes", "other dtype", "gzip", "cut", "longer", "huge"],
)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_damaged_files_are_refused(tmp_path, content, message, ending):
    write_files(tmp_path, compressed=bool(ending))
    path = tmp_path / f"train-images-idx3-ubyte{ending}"
    path.write_bytes(gzip.compress(content) if ending else content)
    with pytest.raises(ValueError, match=f"{path} {message}"):
        load_mnist(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"plain text", gzip.compress(IMAGES)[:-20], b"\x1f\x8b"],
    ids=["plain text", "cut", "magic alone"],  # bytes from gzip hold the time
)
def test_damaged_gzip_files_are_refused(tmp_path, content):
    write_files(tmp_path, compressed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is no complete gzip file"):
        load_mnist(tmp_path)


def test_no_more_is_decompressed_than_the_header_says(tmp_path):
    write_files(tmp_path, compressed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    for content in (
        IMAGES + bytes(50_000_000),
        IMAGES[:4] + b"\xff" * 12 + IMAGES[16:],  # more than there can be
        IMAGES[:4] + b"\x00\x00\x40\x00" * 3 + IMAGES[16:],  # more than there is
    ):
        path.write_bytes(gzip.compress(content))
        tracemalloc.start()
        with pytest.raises(ValueError, match=f"{path} must hold"):
            load_mnist(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5_000_000


def test_as_many_labels_as_images(tmp_path):
    write_files(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(ValueError, match=r"each of 7 images, got uint8 of shape \(3,\)"):
        load_mnist(tmp_path)


def test_labels_beyond_the_ten_classes_are_refused(tmp_path):
    """Those of letters, say, which have the same files."""
    write_files(tmp_path)
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(idx(np.array([1, 2, 26, 4, 5, 6, 7], np.uint8)))
    with pytest.raises(ValueError, match=f"{path} must have labels from 0 to 9, got 1 to"):
        load_mnist(tmp_path)


@pytest.mark.parametrize("loader", [load_mnist, load_fashion_mnist, load_digits_images])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "val"}, r"split must be .*'train' or 'test', got 'val'\."),
        ({"split": None}, "split must be .* got None"),
        ({"split": "test", "augment": True, "as_arrays": False}, "got split='test' and"),
        ({"split": "train", "augment": True}, "augment=True .* as_arrays=True"),
    ],
)
def test_wrong_options_are_refused(loader, options, message):
    with pytest.raises(ValueError, match=message):
        loader(**options)


def test_digits_and_mnist_are_never_mirrored(tmp_path):
    write_files(tmp_path)
    options = {"as_arrays": False, "augment": True, "split": "train"}
    flips = {
        "digits": load_digits_images(**options).transform,
        "mnist": load_mnist(tmp_path, **options).transform,
        "fashion_mnist": load_fashion_mnist(tmp_path, **options).transform,
    }
    assert all(isinstance(each, RandomCropAndFlip) for each in flips.values())
    assert {name: each.flip for name, each in flips.items()} == {
        "digits": False, "mnist": False, "fashion_mnist": True,
    }  # fmt: skip
    assert [each.padding for each in flips.values()] == [2, 2, 2]
    assert load_mnist(tmp_path, as_arrays=False).transform is None


def test_digits_are_those_of_scikit_learn():
    X, y = load_digits_images()
    bunch = load_digits()
    assert (X.shape, X.dtype, y.dtype) == ((1797, 1, 8, 8), np.float32, np.int64)
    np.testing.assert_array_equal(X[:, 0], bunch.images / 16)
    np.testing.assert_array_equal(y, bunch.target)
    dataset = load_digits_images(as_arrays=False)
    assert torch.equal(dataset[5][0], torch.from_numpy(X[5]))


def test_splits_of_digits_are_disjoint_and_stratified():
    X, y = load_digits_images()
    parts = {split: load_digits_images(split=split) for split in ("train", "test")}
    assert {split: len(y) for split, (_, y) in parts.items()} == {
        "train": 1347,
        "test": 450,
    }
    joined = np.concatenate([X for X, _ in parts.values()]).reshape(1797, 64)
    everything = X.reshape(1797, 64)
    assert sorted(map(tuple, joined)) == sorted(map(tuple, everything))
    shares = np.bincount(parts["test"][1]) / np.bincount(y)
    np.testing.assert_allclose(shares, 0.25, atol=0.005)
    np.testing.assert_array_equal(parts["test"][0], load_digits_images(split="test")[0])


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_the_real_fashion_mnist(monkeypatch):
    monkeypatch.setattr(mnist, "_DEBIAN", DEBIAN)
    X, y = load_fashion_mnist(split="test")
    assert (X.shape, X.min(), X.max()) == ((10_000, 1, 28, 28), 0.0, 1.0)
    np.testing.assert_array_equal(np.bincount(y), 10 * [1000])
    bytes_ = np.rint(X * 255)
    np.testing.assert_array_equal(X, bytes_ / np.float32(255))
    assert bytes_.mean() == pytest.approx(73.147, abs=0.001)
