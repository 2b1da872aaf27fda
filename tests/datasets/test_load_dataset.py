"""Data sets by name, and a package that loads nothing it does not need."""

import subprocess
import sys

import numpy as np
import pytest

import rs4a.datasets
from rs4a.datasets import DATASETS, load_dataset, load_digits_images


def test_names():
    assert DATASETS == (
        "digits", "mnist", "fashion_mnist", "cifar10", "svhn", "imagenet", "imagenet32",
        "tiny_images_500k",
    )  # fmt: skip


def test_options_are_passed_on():
    X, y = load_dataset("digits", split="test")
    wanted_X, wanted_y = load_digits_images(split="test")
    np.testing.assert_array_equal(X, wanted_X)
    np.testing.assert_array_equal(y, wanted_y)
    with pytest.raises(TypeError, match="root"):
        load_dataset("digits", "folder")


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "digits"])
def test_every_loader_looks_into_root_or_the_data_folder(name, tmp_path, monkeypatch):
    monkeypatch.setattr(rs4a.datasets.mnist, "_DEBIAN", tmp_path / "debian")
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "here")):
        load_dataset(name, tmp_path / "here")
    monkeypatch.setenv("RS4A_DATA", str(tmp_path / "home"))
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "home" / name)):
        load_dataset(name)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="name must be one of digits, .*500k, got 'cifar'"):
        load_dataset("cifar")


def test_torchvision_is_imported_only_where_it_is_needed():
    code = "import sys, rs4a.datasets; print(*({'torchvision', 'PIL'} & set(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.split() == []
