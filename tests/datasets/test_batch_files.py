"""CIFAR-10, ImageNet at 32x32 pixels and tiny images, from their batch files."""

import pickle
import tracemalloc

import numpy as np
import pytest
import python2_pickle
import torchvision

from rs4a.datasets import load_cifar10, load_imagenet32, load_tiny_images_500k

CIFAR_NAMES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


def make_batch(seed, low=0, high=9, n=3):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n + seed, 3072), dtype=np.uint8)
    return images, rng.integers(low, high + 1, n + seed).tolist()


def write_cifar(folder, *, binary=False):
    folder.mkdir()
    for seed, name in enumerate(CIFAR_NAMES):
        images, labels = make_batch(seed)
        if binary:
            records = np.column_stack([np.array(labels, np.uint8), images])
            (folder / f"{name}.bin").write_bytes(records.tobytes())
        else:
            batch = {b"batch_label": b"one of 5", b"labels": labels, b"data": images}
            (folder / name).write_bytes(python2_pickle.dumps(batch))


def joined(batches):
    images, labels = zip(*batches, strict=True)
    fractions = np.concatenate(images).reshape(-1, 3, 32, 32) / 255.0
    return fractions.astype(np.float32), np.concatenate(labels)


@pytest.mark.parametrize("layout", ["py", "bin"])
@pytest.mark.parametrize("inside", [False, True], ids=["parent", "folder"])
@pytest.mark.parametrize(("split", "seeds"), [("train", range(5)), ("test", [5])])
def test_cifar10(tmp_path, layout, inside, split, seeds):
    folder = tmp_path / f"cifar-10-batches-{layout}"
    write_cifar(folder, binary=layout == "bin")
    X, y = load_cifar10(folder if inside else tmp_path, split=split)
    wanted_X, wanted_y = joined(map(make_batch, seeds))
    np.testing.assert_array_equal(X, wanted_X)
    np.testing.assert_array_equal(y, wanted_y)
    assert (X.dtype, y.dtype, X.flags.c_contiguous) == (np.float32, np.int64, True)
    dataset = load_cifar10(tmp_path, split=split, as_arrays=False)
    np.testing.assert_array_equal(dataset[3][0].numpy(), X[3])
    np.testing.assert_array_equal(dataset.targets, y)
    assert dataset.transform is None


def test_cifar10_is_cut_into_planes_of_rows(tmp_path):
    """1024 bytes of red, row by row, then green, then blue."""
    write_cifar(tmp_path / "cifar-10-batches-py")
    images, _ = make_batch(5)
    X, _ = load_cifar10(tmp_path, split="test")
    assert X[2, 1, 4, 7] == np.float32(images[2, 1024 + 4 * 32 + 7] / 255.0)


def test_cifar10_in_python_3s_pickles(tmp_path):
    images, labels = make_batch(0)
    batch = {"data": images, "labels": labels, "filenames": ["a.png", "b.png", "c.png"]}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch))
    X, y = load_cifar10(tmp_path, split="test")
    np.testing.assert_array_equal(X, joined([(images, labels)])[0])
    np.testing.assert_array_equal(y, labels)


def test_cifar10_download(tmp_path, monkeypatch):
    calls = []

    def download(url, root, *, filename, md5):
        calls.append((url, filename, md5))
        write_cifar(root / "cifar-10-batches-py")

    monkeypatch.setattr(
        torchvision.datasets.utils, "download_and_extract_archive", download
    )
    for _ in range(2):
        assert load_cifar10(tmp_path, download=True)[0].shape == (25, 3, 32, 32)
    source = torchvision.datasets.CIFAR10
    assert calls == [(source.url, source.filename, source.tgz_md5)]


def test_missing_files_are_named(tmp_path):
    for loader, name in [
        (load_cifar10, "data_batch_5"),
        (load_imagenet32, "train_data_batch_10"),
        (load_tiny_images_500k, "ti_500K_pseudo_labeled.pickle"),
    ]:
        with pytest.raises(FileNotFoundError, match=f"Found no .*{name}.* in {tmp_path}"):
            loader(tmp_path)


GOOD, LABELS = make_batch(0)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([GOOD, LABELS], "must be a dict with 'data' and 'labels'"),
        ({"data": GOOD}, "must be a dict with 'data' and 'labels'"),
        ({"data": GOOD[:, 1:], "labels": LABELS}, r"\(n, 3072\) .* got uint8 of .* 3071\)"),
        ({"data": GOOD / 255, "labels": LABELS}, "got float64 of shape"),
        ({"data": 3, "labels": LABELS}, "must have bytes .* as 'data', got a int"),
        (
            {"data": [bytes(3072)], "labels": [0]},
            "must have bytes .* as 'data', got a list",
        ),
        ({"data": GOOD, "labels": LABELS[:2]}, r"each of 3 images, got int64 of .*\(2,\)"),
        ({"data": GOOD, "labels": ["a", "b", "c"]}, "must have one integer as label"),
        ({"data": GOOD, "labels": [0.0, 1.0, 2.0]}, "must have one integer as label"),
        ({"data": GOOD, "labels": np.zeros(3)}, "must have one integer as label"),
        ({"data": GOOD, "labels": b"abc"}, "must have one integer .* got a bytes"),
        ({"data": GOOD, "labels": [0, 1, 10**30]}, "must have one integer as label"),
        ({"data": GOOD, "labels": [0, 1, 10]}, "labels from 0 to 9, got 0 to 10"),
        ({"data": GOOD, "labels": [0, -1, 9]}, "labels from 0 to 9, got -1 to 9"),
    ],
)
def test_other_batches_are_refused(tmp_path, batch, message):
    path = tmp_path / "test_batch"
    path.write_bytes(pickle.dumps(batch))
    with pytest.raises(ValueError, match=f"{path} .*{message}"):
        load_cifar10(tmp_path, split="test")


@pytest.mark.parametrize("key", ["data", "labels"])
@pytest.mark.parametrize("value", ["x" * 1_000_000, np.zeros(1_000_000, np.uint8)])
def test_one_large_value_that_is_listed_often_makes_no_large_array(tmp_path, key, value):
    """4 GB, from a file of 1 MB."""
    path = tmp_path / "test_batch"
    content = {"data": GOOD, "labels": LABELS, key: [value] * 4000}
    path.write_bytes(pickle.dumps(content))
    assert path.stat().st_size < 1_100_000
    tracemalloc.start()
    with pytest.raises(ValueError, match=f"{path} must have"):
        load_cifar10(tmp_path, split="test")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_damaged_binary_batches_are_refused(tmp_path):
    path = tmp_path / "test_batch.bin"
    path.write_bytes(bytes(2 * 3073 - 1))
    with pytest.raises(ValueError, match=f"{path} must hold records of 3073 bytes"):
        load_cifar10(tmp_path, split="test")
    path.write_bytes(b"\x0a" + bytes(3072))
    with pytest.raises(ValueError, match=f"{path} must have labels from 0 to 9"):
        load_cifar10(tmp_path, split="test")


def write_imagenet32(train_folder, val_folder):
    for folder in {train_folder, val_folder}:
        folder.mkdir(exist_ok=True)
    for seed in range(11):
        images, labels = make_batch(seed, 1, 1000)
        batch = {"data": images, "labels": labels, "mean": images.mean(axis=0)}
        path = val_folder / "val_data"
        if seed < 10:
            path = train_folder / f"train_data_batch_{seed + 1}"
        path.write_bytes(pickle.dumps(batch, 2 + seed % 4))


@pytest.mark.parametrize("subs", [("Imagenet32_train", "Imagenet32_val"), (".", ".")])
@pytest.mark.parametrize(("split", "seeds"), [("train", range(10)), ("test", [10])])
def test_imagenet32(tmp_path, subs, split, seeds):
    write_imagenet32(*(tmp_path / sub for sub in subs))
    X, y = load_imagenet32(tmp_path, split=split)
    wanted_X, wanted_y = joined(make_batch(seed, 1, 1000) for seed in seeds)
    np.testing.assert_array_equal(X, wanted_X)
    np.testing.assert_array_equal(y, wanted_y - 1)
    dataset = load_imagenet32(tmp_path, split=split, as_arrays=False)
    np.testing.assert_array_equal(dataset[4][0].numpy(), X[4])
    np.testing.assert_array_equal(dataset.targets, y)


def test_labels_of_imagenet32_begin_at_1(tmp_path):
    batch = {"data": GOOD, "labels": [0, 1, 2]}
    (tmp_path / "val_data").write_bytes(pickle.dumps(batch))
    with pytest.raises(ValueError, match="labels from 1 to 1000, got 0 to 2"):
        load_imagenet32(tmp_path, split="test")


@pytest.mark.parametrize("as_list", [False, True])
def test_tiny_images(tmp_path, as_list):
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    labels = np.array([3, 9, 0, 1, 1, 2])
    content = {
        "data": images,
        "extrapolated_targets": labels.tolist() if as_list else labels,
        "prediction_model": "selftrained",
    }
    path = tmp_path / "ti_500K_pseudo_labeled.pickle"
    path.write_bytes(pickle.dumps(content))
    dataset = load_tiny_images_500k(tmp_path)
    X, y = load_tiny_images_500k(tmp_path, as_arrays=True)
    assert (X.shape, X.flags.c_contiguous) == ((6, 3, 32, 32), True)
    assert X[4, 2, 30, 1] == np.float32(images[4, 30, 1, 2] / 255.0)
    np.testing.assert_array_equal(X.transpose(0, 2, 3, 1) * 255, images)
    np.testing.assert_array_equal(dataset[3][0].numpy(), X[3])
    np.testing.assert_array_equal(y, labels)
    assert dataset.targets.tolist() == labels.tolist()
    augmented = load_tiny_images_500k(tmp_path, augment=True).transform
    assert (augmented.padding, augmented.flip) == (0, True)
    with pytest.raises(ValueError, match=r"split must be 'train', got 'test'\."):
        load_tiny_images_500k(tmp_path, split="test")
    with pytest.raises(ValueError, match="augment=True .* as_arrays=False"):
        load_tiny_images_500k(tmp_path, as_arrays=True, augment=True)


def test_only_training_images_are_augmented(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-py")
    write_imagenet32(tmp_path, tmp_path)
    for loader, padding in ((load_cifar10, 4), (load_imagenet32, 0)):
        transform = loader(tmp_path, as_arrays=False, augment=True).transform
        assert (transform.padding, transform.flip) == (padding, True)
        assert loader(tmp_path, as_arrays=False).transform is None
        for options in ({"split": "test", "as_arrays": False}, {"as_arrays": True}):
            with pytest.raises(ValueError, match="augment=True"):
                loader(tmp_path, augment=True, **options)
        with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'val'"):
            loader(tmp_path, split="val")
