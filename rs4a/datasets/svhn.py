"""The street view house numbers, from their Matlab files."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from rs4a.datasets.images import RandomCropAndFlip
from rs4a.datasets.loading import Request, Root, check_images, check_labels

__all__ = ["load_svhn"]


def load_svhn(
    root: Root = None,
    *,
    split: str = "train",
    download: bool = False,
    as_arrays: bool = True,
    augment: bool = False,
) -> Any:
    """SVHN: 73,257 training and 26,032 test images of digits on house fronts [1]_.

    Parameters
    ----------
    root : path-like, default=None
        Folder of `train_32x32.mat` and the other files. None: `svhn` in the folder that the
        environment variable RS4A_DATA names, or in ~/rs4a_data.

    split : {"train", "test", "extra"}, default="train"
        Which images; "extra" are 531,131 more for training, of easier digits.

    download : bool, default=False
        Whether a missing file may be downloaded to root.

    as_arrays : bool, default=True
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shall shift training images at random, by up to 4 pixels.

    Returns
    -------
    X, y : ndarray of shape (n, 3, 32, 32), float32, and of shape (n,), int64
        Images in [0, 1] and their labels, the digits; or, if not `as_arrays`, one
        `ImageDataset` of them.

    Raises
    ------
    FileNotFoundError
        If the file is missing.

    ValueError
        If an option is wrong, or the file is damaged.

    References
    ----------
    .. [1] Netzer, Wang, Coates, Bissacco, Wu, Ng, "Reading Digits in Natural Images with
       Unsupervised Feature Learning", NIPS Workshop on Deep Learning and Unsupervised
       Feature Learning, 2011.

    Examples
    --------
    >>> from rs4a.datasets import load_svhn
    >>> X, y = load_svhn(split="test", download=True)  # doctest: +SKIP
    """
    splits = ("train", "test", "extra")
    request = Request("svhn", root, split, download, as_arrays, augment, splits)

    def fetch(folder: Path) -> None:
        from torchvision import datasets  # takes a second, and is seldom needed

        url, filename, md5 = datasets.SVHN.split_list[split]
        datasets.utils.download_url(url, folder, filename, md5)

    (path,) = request.find([f"{split}_32x32.mat"], fetch=fetch)
    try:
        content = loadmat(path, variable_names=["X", "y"])
    except Exception as error:  # scipy raises whatever a damaged file leads it to
        raise ValueError(f"{path} is no complete Matlab file: {error}") from error
    images: Any = content.get("X")
    check_images(path, "X", images, (32, 32, 3, "n"))
    labels = check_labels(path, np.ravel(content.get("y", [])), images.shape[3], 1, 10)
    augmentation = RandomCropAndFlip(padding=4, flip=False)
    # Label 10 is the digit 0.
    return request.result(images.transpose(3, 2, 0, 1), labels % 10, augmentation)
