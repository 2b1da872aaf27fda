"""Image data sets, from the files that their authors publish."""

from collections.abc import Callable
from typing import Any

from rs4a.datasets.batch_files import (
    load_cifar10,
    load_imagenet32,
    load_svhn,
    load_tiny_images_500k,
)
from rs4a.datasets.imagenet import load_imagenet
from rs4a.datasets.images import ImageDataset, RandomCropAndFlip
from rs4a.datasets.loading import Root
from rs4a.datasets.mnist import load_digits_images, load_fashion_mnist, load_mnist

__all__ = [
    "DATASETS",
    "ImageDataset",
    "RandomCropAndFlip",
    "load_cifar10",
    "load_dataset",
    "load_digits_images",
    "load_fashion_mnist",
    "load_imagenet",
    "load_imagenet32",
    "load_mnist",
    "load_svhn",
    "load_tiny_images_500k",
]

_LOADERS: dict[str, Callable[..., Any]] = {
    "digits": load_digits_images,
    "mnist": load_mnist,
    "fashion_mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "svhn": load_svhn,
    "imagenet": load_imagenet,
    "imagenet32": load_imagenet32,
    "tiny_images_500k": load_tiny_images_500k,
}
#: Names that `load_dataset` knows.
DATASETS = tuple(_LOADERS)


def load_dataset(name: str, root: Root = None, **kwargs: Any) -> Any:
    """Load a data set by its name.

    Parameters
    ----------
    name : str
        One of `DATASETS`.

    root : path-like, default=None
        Folder of its files. None: the default of the loader; the digits take only None.

    **kwargs : dict
        Further arguments of the loader: `split`, `download`, `as_arrays` and `augment`.

    Returns
    -------
    X, y : ndarray of shape (n, c, h, w), float32, and of shape (n,), int64
        Images and labels; or one Dataset of them, as the loader returns it.

    Raises
    ------
    ValueError
        If there is no such data set, or it has no such split or download.

    Examples
    --------
    >>> from rs4a.datasets import load_dataset
    >>> X, y = load_dataset("digits", split="train")
    >>> X.shape
    (1347, 1, 8, 8)
    """
    if name not in _LOADERS:
        raise ValueError(f"name must be one of {', '.join(DATASETS)}, got {name!r}.")
    return _LOADERS[name](root, **kwargs)
