"""Tiny images with pseudo-labels, from their pickle file."""

import os
from typing import Any

from rs4a.datasets.batches import read_pickled_batch
from rs4a.datasets.images import RandomCropAndFlip
from rs4a.datasets.loading import (
    as_requested,
    check_no_download,
    check_options,
    data_folder,
    find_files,
)

__all__ = ["load_tiny_images_500k"]

_REMEDY = (
    "Download ti_500K_pseudo_labeled.pickle from "
    "https://github.com/yaircarmon/semisup-adv and give its folder as root."
)


def load_tiny_images_500k(
    root: str | os.PathLike[str] | None = None,
    *,
    split: str = "train",
    download: bool = False,
    as_arrays: bool = False,
    augment: bool = False,
) -> Any:
    """500,000 tiny images with pseudo-labels, as more training data for CIFAR-10 [1]_.

    The labels are those that a classifier of CIFAR-10 gave. The file is read without
    unpickling. The images need 1.5 GB as a Dataset, and 6 GB as arrays.

    Parameters
    ----------
    root : path-like, default=None
        Folder of `ti_500K_pseudo_labeled.pickle`. None: `tiny_images_500k` in the folder
        that the environment variable RS4A_DATA names, or in ~/rs4a_data.

    split : {"train"}, default="train"
        Which images; there are none for testing.

    download : bool, default=False
        Must be False: the file is to be downloaded by hand.

    as_arrays : bool, default=False
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shall mirror half of the images, at random.

    Returns
    -------
    dataset : ImageDataset
        Images and their labels, 0 to 9; or, if `as_arrays`, X of shape (n, 3, 32, 32),
        float32 in [0, 1], and y of shape (n,), int64.

    Raises
    ------
    FileNotFoundError
        If the file is missing.

    ValueError
        If an option is wrong, or the file is damaged.

    References
    ----------
    .. [1] Carmon, Raghunathan, Schmidt, Liang, Duchi, "Unlabeled Data Improves Adversarial
       Robustness", NeurIPS 2019, arXiv:1905.13736.

    Examples
    --------
    >>> from rs4a.datasets import load_tiny_images_500k
    >>> dataset = load_tiny_images_500k("/data", augment=True)  # doctest: +SKIP
    """
    check_options(split, ("train",), as_arrays=as_arrays, augment=augment)
    check_no_download(download, f"the tiny images: {_REMEDY}")
    (path,) = find_files(
        [["ti_500K_pseudo_labeled.pickle"]],
        [data_folder(root, "tiny_images_500k")],
        remedy=_REMEDY,
    )
    images, targets = read_pickled_batch(
        path, labels_key="extrapolated_targets", labels_range=(0, 9), shape=(32, 32, 3)
    )
    return as_requested(
        images.transpose(0, 3, 1, 2),
        targets,
        as_arrays=as_arrays,
        augmentation=RandomCropAndFlip(padding=0) if augment else None,
    )
