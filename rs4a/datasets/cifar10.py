"""CIFAR-10, from its batch files."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rs4a.datasets.batches import Batch, check_labels, read_batches, read_pickled_batch
from rs4a.datasets.images import RandomCropAndFlip
from rs4a.datasets.loading import (
    as_requested,
    check_options,
    data_folder,
    find_files,
)

__all__ = ["load_cifar10"]

_NAMES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
_LABELS_RANGE = (0, 9)
#: One byte of label, then the image.
_RECORD_BYTES = 1 + 3072


def load_cifar10(
    root: str | os.PathLike[str] | None = None,
    *,
    split: str = "train",
    download: bool = False,
    as_arrays: bool = True,
    augment: bool = False,
) -> Any:
    """CIFAR-10: 50,000 training and 10,000 test images of animals and vehicles [1]_.

    The "python" version of the files is read without unpickling, and the "binary" one as
    well.

    Parameters
    ----------
    root : path-like, default=None
        Folder `cifar-10-batches-py` or `cifar-10-batches-bin`, or the one it lies in. None:
        `cifar10` in the folder that the environment variable RS4A_DATA names, or in
        ~/rs4a_data.

    split : {"train", "test"}, default="train"
        Which images.

    download : bool, default=False
        Whether missing files may be downloaded to root, 170 MB.

    as_arrays : bool, default=True
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shall shift training images at random, by up to 4 pixels, and
        mirror half of them.

    Returns
    -------
    X, y : ndarray of shape (n, 3, 32, 32), float32, and of shape (n,), int64
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
    .. [1] Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical
       report, University of Toronto, 2009.

    Examples
    --------
    >>> from rs4a.datasets import load_cifar10
    >>> X, y = load_cifar10(split="test", download=True)  # doctest: +SKIP
    """
    check_options(split, ("train", "test"), as_arrays=as_arrays, augment=augment)
    folder = data_folder(root, "cifar10")
    paths = find_files(
        [_NAMES[split], [f"{name}.bin" for name in _NAMES[split]]],
        [folder, folder / "cifar-10-batches-py", folder / "cifar-10-batches-bin"],
        remedy="Give their folder as root, or download=True.",
        download=partial(_download, folder) if download else None,
    )
    images, targets = read_batches(paths, _read_batch)
    return as_requested(
        images,
        targets,
        as_arrays=as_arrays,
        augmentation=RandomCropAndFlip(padding=4) if augment else None,
    )


def _read_batch(path: Path) -> Batch:
    if path.suffix != ".bin":
        return read_pickled_batch(path, labels_range=_LABELS_RANGE)
    content = np.fromfile(path, dtype=np.uint8)
    if len(content) % _RECORD_BYTES:
        raise ValueError(
            f"{path} must hold records of {_RECORD_BYTES} bytes, but has {len(content)} "
            "bytes."
        )
    records = content.reshape(-1, _RECORD_BYTES)
    labels = check_labels(path, records[:, 0], len(records), _LABELS_RANGE)
    return records[:, 1:], labels


def _download(folder: Path) -> None:
    from torchvision import datasets  # takes a second, and is seldom needed

    source = datasets.CIFAR10
    datasets.utils.download_and_extract_archive(
        source.url, folder, filename=source.filename, md5=source.tgz_md5
    )
