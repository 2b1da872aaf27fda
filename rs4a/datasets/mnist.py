"""MNIST and Fashion-MNIST, from their idx files."""

import os
from pathlib import Path
from typing import Any

from rs4a.datasets.batches import check_labels
from rs4a.datasets.idx import read_idx
from rs4a.datasets.images import RandomCropAndFlip
from rs4a.datasets.loading import (
    as_requested,
    check_options,
    data_folder,
    find_files,
)

__all__ = ["load_fashion_mnist", "load_mnist"]

#: Where Debian's package dataset-fashion-mnist puts the files.
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_PREFIXES = {"train": "train", "test": "t10k"}


def load_mnist(
    root: str | os.PathLike[str] | None = None,
    *,
    split: str = "train",
    download: bool = False,
    as_arrays: bool = True,
    augment: bool = False,
) -> Any:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits [1]_.

    Parameters
    ----------
    root : path-like, default=None
        Folder of the four idx files, gzipped or not, or the one that torchvision was given
        as root. None: `mnist` in the folder that the environment variable RS4A_DATA names,
        or in ~/rs4a_data.

    split : {"train", "test"}, default="train"
        Which images.

    download : bool, default=False
        Whether torchvision may download missing files to root.

    as_arrays : bool, default=True
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shall shift training images at random, by up to 2 pixels.

    Returns
    -------
    X, y : ndarray of shape (n, 1, 28, 28), float32, and of shape (n,), int64
        Images in [0, 1] and their labels, the digits; or, if not `as_arrays`, one
        `ImageDataset` of them.

    Raises
    ------
    FileNotFoundError
        If files are missing.

    ValueError
        If an option is wrong, or a file is damaged.

    References
    ----------
    .. [1] LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document
       Recognition", Proceedings of the IEEE, 1998.

    Examples
    --------
    >>> from rs4a.datasets import load_mnist
    >>> X, y = load_mnist("~/mnist", split="test")  # doctest: +SKIP
    """
    return _load(
        "MNIST",
        [data_folder(root, "mnist")],
        split=split,
        download=download,
        as_arrays=as_arrays,
        augment=augment,
        augmentation=RandomCropAndFlip(padding=2, flip=False),
    )


def load_fashion_mnist(
    root: str | os.PathLike[str] | None = None,
    *,
    split: str = "train",
    download: bool = False,
    as_arrays: bool = True,
    augment: bool = False,
) -> Any:
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes [1]_.

    Parameters
    ----------
    root : path-like, default=None
        Folder of the four idx files, gzipped or not, or the one that torchvision was given
        as root. None: that of Debian's package dataset-fashion-mnist, if it is installed;
        else `fashion_mnist` in the folder that the environment variable RS4A_DATA names,
        or in ~/rs4a_data.

    split : {"train", "test"}, default="train"
        Which images.

    download : bool, default=False
        Whether torchvision may download missing files to root.

    as_arrays : bool, default=True
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shall shift training images at random, by up to 2 pixels, and
        mirror half of them.

    Returns
    -------
    X, y : ndarray of shape (n, 1, 28, 28), float32, and of shape (n,), int64
        Images in [0, 1] and their labels, 0 to 9; or, if not `as_arrays`, one
        `ImageDataset` of them.

    Raises
    ------
    FileNotFoundError
        If files are missing.

    ValueError
        If an option is wrong, or a file is damaged.

    References
    ----------
    .. [1] Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
       Machine Learning Algorithms", 2017, arXiv:1708.07747.

    Examples
    --------
    >>> from rs4a.datasets import load_fashion_mnist
    >>> X, y = load_fashion_mnist(split="test")  # doctest: +SKIP
    """
    folders = [data_folder(root, "fashion_mnist")]
    if root is None:
        folders.insert(0, _DEBIAN)
    return _load(
        "FashionMNIST",
        folders,
        split=split,
        download=download,
        as_arrays=as_arrays,
        augment=augment,
        augmentation=RandomCropAndFlip(padding=2),
    )


def _load(
    name: str,
    folders: list[Path],
    *,
    split: str,
    download: bool,
    as_arrays: bool,
    augment: bool,
    augmentation: RandomCropAndFlip,
) -> Any:
    """Load the data set that torchvision has under this name."""
    check_options(split, ("train", "test"), as_arrays=as_arrays, augment=augment)
    names = [f"{_PREFIXES[split]}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]

    def fetch() -> None:
        from torchvision import datasets  # takes a second, and is seldom needed

        getattr(datasets, name)(folders[-1], download=True)

    images_path, labels_path = find_files(
        [names, [f"{each}.gz" for each in names]],
        [each / sub for each in folders for sub in ("", "raw", f"{name}/raw")],
        remedy="Give their folder as root, or download=True.",
        download=fetch if download else None,
    )
    images, labels = read_idx(images_path, ndim=3), read_idx(labels_path, ndim=1)
    return as_requested(
        images[:, None],
        check_labels(labels_path, labels, len(labels), (0, 9)),
        as_arrays=as_arrays,
        augmentation=augmentation if augment else None,
    )
