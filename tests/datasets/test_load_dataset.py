"""Data sets by name, and a package that loads nothing it does not need."""

import doctest
import inspect

import numpy as np
import pytest

import rs4a.datasets
from rs4a.datasets import DATASETS, load_dataset, load_digits_images


@pytest.mark.parametrize(
    "name", [n for n in rs4a.datasets.__all__ if n.startswith("load_")]
)
def test_examples(name):
    """pytest finds none behind a decorator."""
    load = getattr(rs4a.datasets, name)
    (examples,) = doctest.DocTestFinder().find(load, name, module=False, globs={})
    assert examples.examples
    assert doctest.DocTestRunner().run(examples).failed == 0


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
    with pytest.raises(ValueError, match="root must be None for the digits, .* 'folder'"):
        load_dataset("digits", "folder")


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "digits"])
def test_every_loader_looks_into_root_or_the_data_folder(name, tmp_path, monkeypatch):
    monkeypatch.setattr(rs4a.datasets.mnist, "_DEBIAN", tmp_path / "debian")
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "here")):
        load_dataset(name, tmp_path / "here")
    monkeypatch.setenv("RS4A_DATA", str(tmp_path / "home"))
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "home" / name)):
        load_dataset(name)


OPTIONS = {"split": "train", "download": False, "as_arrays": False, "augment": False}


@pytest.mark.parametrize("name", DATASETS)
def test_every_loader_has_the_same_parameters(name, tmp_path, monkeypatch):
    loader = getattr(rs4a.datasets, f"load_{name}{'_images' * (name == 'digits')}")
    parameters = inspect.signature(loader).parameters
    assert list(parameters) == ["root", *OPTIONS]
    assert [parameters["root"].kind, *{parameters[each].kind for each in OPTIONS}] == [
        inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY,
    ]  # fmt: skip
    for option in ("download", "augment"):
        assert parameters[option].default is False
    monkeypatch.setattr(rs4a.datasets.mnist, "_DEBIAN", tmp_path / "debian")
    if name == "digits":
        dataset = load_dataset(name, None, **OPTIONS)
        assert (len(dataset), dataset.transform) == (1347, None)
    else:
        with pytest.raises(FileNotFoundError, match=str(tmp_path)):
            load_dataset(name, tmp_path, **OPTIONS)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("imagenet", "image-net.org, download ILSVRC 2012"),
        ("imagenet32", "image-net.org, download the data at 32x32"),
        ("tiny_images_500k", "Download ti_500K_pseudo_labeled.pickle from"),
    ],
)
def test_what_cannot_be_downloaded(name, remedy, tmp_path):
    with pytest.raises(
        ValueError, match=f"download must be False, since there is no .*{remedy}.* as root"
    ):
        load_dataset(name, tmp_path, download=True)


def test_digits_need_no_download():
    assert load_dataset("digits", download=True)[0].shape == (1797, 1, 8, 8)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="name must be one of digits, .*500k, got 'cifar'"):
        load_dataset("cifar")
