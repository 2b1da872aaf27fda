"""ImageNet at 32x32 pixels, from its batch files."""

import os
from pathlib import Path
from typing import Any

from rs4a.datasets.batches import Batch, read_batches, read_pickled_batch
from rs4a.datasets.images import RandomCropAndFlip
from rs4a.datasets.loading import (
    as_requested,
    check_no_download,
    check_options,
    data_folder,
    find_files,
)

__all__ = ["load_imagenet32"]

_NAMES = {"train": [f"train_data_batch_{i}" for i in range(1, 11)], "test": ["val_data"]}
_FOLDERS = {"train": "Imagenet32_train", "test": "Imagenet32_val"}
_REMEDY = (
    "Register at https://image-net.org, download the data at 32x32 pixels and give their "
    "folder as root."
)


def load_imagenet32(
    root: str | os.PathLike[str] | None = None,
    *,
    split: str = "train",
    download: bool = False,
    as_arrays: bool = True,
    augment: bool = False,
) -> Any:
    """Downsampled ImageNet: 1,281,167 training and 50,000 test images [1]_.

    The files are read without unpickling. The training images need 4 GB as a Dataset, and
    16 GB as arrays.

    Parameters
    ----------
    root : path-like, default=None
        Folder of `train_data_batch_1` to `train_data_batch_10` and of `val_data`, or the
        one in which `Imagenet32_train` and `Imagenet32_val` lie. None: `imagenet32` in the
        folder that the environment variable RS4A_DATA names, or in ~/rs4a_data.

    split : {"train", "test"}, default="train"
        Which images; "test" is the validation set.

    download : bool, default=False
        Must be False: who wants the files must register.

    as_arrays : bool, default=True
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shall mirror half of the training images, at random.

    Returns
    -------
    X, y : ndarray of shape (n, 3, 32, 32), float32, and of shape (n,), int64
        Images in [0, 1] and their labels, 0 to 999; or, if not `as_arrays`, one
        `ImageDataset` of them.

    Raises
    ------
    FileNotFoundError
        If files are missing.

    ValueError
        If an option is wrong, or a file is damaged.

    References
    ----------
    .. [1] Chrabaszcz, Loshchilov, Hutter, "A Downsampled Variant of ImageNet as an
       Alternative to the CIFAR datasets", 2017, arXiv:1707.08819.

    Examples
    --------
    >>> from rs4a.datasets import load_imagenet32
    >>> dataset = load_imagenet32("/data", as_arrays=False)  # doctest: +SKIP
    """
    check_options(split, ("train", "test"), as_arrays=as_arrays, augment=augment)
    check_no_download(download, f"ImageNet at 32x32 pixels: {_REMEDY}")
    folder = data_folder(root, "imagenet32")
    paths = find_files(
        [_NAMES[split]],
        [folder, folder / _FOLDERS[split]],
        remedy=_REMEDY,
    )
    images, targets = read_batches(paths, _read_batch)
    return as_requested(
        images,
        targets,
        as_arrays=as_arrays,
        augmentation=RandomCropAndFlip(padding=0) if augment else None,
    )


def _read_batch(path: Path) -> Batch:
    images, labels = read_pickled_batch(path, labels_range=(1, 1000))
    return images, labels - 1
