"""The handwritten digits that come with scikit-learn."""

from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rs4a.datasets.images import RandomCropAndFlip
from rs4a.datasets.loading import Request, Root

__all__ = ["load_digits_images"]


def load_digits_images(
    root: Root = None,
    *,
    split: str = "all",
    download: bool = False,
    as_arrays: bool = True,
    augment: bool = False,
) -> Any:
    """Scikit-learn's digits as images: 1797 of them, of 8x8 pixels [1]_.

    Parameters
    ----------
    root : None
        Must be None: the images come with scikit-learn. All loaders have this parameter.

    split : {"all", "train", "test"}, default="all"
        Which images: a fixed quarter, with every digit in its share, is for testing.

    download : bool, default=False
        Without effect: there is nothing to download.

    as_arrays : bool, default=True
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shall shift training images at random, by up to 2 pixels.

    Returns
    -------
    X, y : ndarray of shape (n, 1, 8, 8), float32, and of shape (n,), int64
        Images in [0, 1] and their labels, the digits; or, if not `as_arrays`, one
        `ImageDataset` of them.

    Raises
    ------
    ValueError
        If an option is wrong.

    References
    ----------
    .. [1] Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
       Learning Repository, 1998.

    Examples
    --------
    >>> from rs4a.datasets import load_digits_images
    >>> X, y = load_digits_images(split="test")
    >>> X.shape, y.shape
    ((450, 1, 8, 8), (450,))
    """
    if root is not None:
        raise ValueError(
            f"root must be None for the digits, which come with scikit-learn, got {root!r}."
        )
    splits = ("all", "train", "test")
    request = Request("digits", root, split, download, as_arrays, augment, splits)
    bunch = load_digits()
    rows = np.arange(len(bunch.target))
    if split != "all":
        parts = train_test_split(
            rows, test_size=0.25, stratify=bunch.target, random_state=0
        )
        rows = np.sort(parts[split == "test"])
    images = bunch.images[rows, np.newaxis].astype(np.uint8)
    augmentation = RandomCropAndFlip(padding=2, flip=False)
    return request.result(images, bunch.target[rows], augmentation, max_value=16)
