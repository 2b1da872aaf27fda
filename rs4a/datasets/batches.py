"""Images of 3x32x32 bytes in batch files: those of CIFAR-10, and others like them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs4a.datasets.plain_pickle import read_plain_pickle

__all__ = ["SHAPE", "check_labels", "read_batches", "read_pickled_batch"]

SHAPE = (3, 32, 32)
_IMAGE_BYTES = 3 * 32 * 32

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


def read_batches(paths: Iterable[Path], read: Callable[[Path], Batch]) -> Batch:
    """Join the batches of several files, with one of them in memory at a time.

    Parameters
    ----------
    paths : iterable of Path
        Files.

    read : callable
        Returns images (n, 3072) and labels of one file.

    Returns
    -------
    images : ndarray of shape (n, 3, 32, 32), uint8
        All images.

    labels : ndarray of shape (n,), int64
        Their labels.
    """
    paths = list(paths)
    # No file holds more images than fit in; memory that is never written to costs nothing.
    most = sum(path.stat().st_size for path in paths) // _IMAGE_BYTES
    images = np.empty((most, _IMAGE_BYTES), dtype=np.uint8)
    labels: list[NDArray[np.int64]] = []
    n_images = 0
    for path in paths:
        batch, batch_labels = read(path)
        images[n_images : n_images + len(batch)] = batch
        n_images += len(batch)
        labels.append(batch_labels)
    return images[:n_images].reshape(n_images, *SHAPE), np.concatenate(labels)


def read_pickled_batch(
    path: Path,
    *,
    labels_key: str = "labels",
    labels_range: tuple[int, int],
    shape: tuple[int, ...] = (_IMAGE_BYTES,),
) -> Batch:
    """Read the images and labels of a pickled batch, a dict with both.

    Parameters
    ----------
    path : Path
        File.

    labels_key : str, default="labels"
        Key of the labels; that of the images is "data".

    labels_range : tuple of two int
        Lowest and highest label.

    shape : tuple of int, default=(3072,)
        Shape of one image.

    Returns
    -------
    images : ndarray of shape (n, *shape), uint8
        Images; the array is read-only.

    labels : ndarray of shape (n,), int64
        Labels, as the file has them.

    Raises
    ------
    ValueError
        If the file has other content.
    """
    batch = read_plain_pickle(path)
    if not isinstance(batch, dict) or not {"data", labels_key} <= set(batch):
        raise ValueError(f"{path} must be a dict with 'data' and {labels_key!r}.")
    images = batch["data"]
    if not isinstance(images, np.ndarray):
        raise ValueError(
            f"{path} must have an array as 'data', got a {type(images).__name__}."
        )
    if images.dtype != np.uint8 or images.shape[1:] != shape or images.ndim == 0:
        raise ValueError(
            f"{path} must have bytes (uint8) of shape (n, {', '.join(map(str, shape))}) as "
            f"'data', got {images.dtype} of shape {images.shape}."
        )
    return images, check_labels(path, batch[labels_key], len(images), labels_range)


def check_labels(
    path: Path, labels: Any, n_images: int, labels_range: tuple[int, int]
) -> NDArray[np.int64]:
    """Return one label per image as int64; refuse others, and those out of range."""
    if not isinstance(labels, np.ndarray) and not _is_list_of_ints(labels):
        raise ValueError(
            f"{path} must have one integer as label for each of {n_images} images, got a "
            f"{type(labels).__name__} of other things."
        )
    values = np.asarray(labels)
    low, high = labels_range
    if values.shape != (n_images,) or (n_images and values.dtype.kind not in "iu"):
        raise ValueError(
            f"{path} must have one integer as label for each of {n_images} images, got "
            f"{values.dtype} of shape {values.shape}."
        )
    if n_images and not low <= values.min() <= values.max() <= high:
        raise ValueError(
            f"{path} must have labels from {low} to {high}, got {values.min()} to "
            f"{values.max()}."
        )
    return values.astype(np.int64)


def _is_list_of_ints(values: Any) -> bool:
    """Whether an array of them is small; one string, listed often, makes a large one."""
    return isinstance(values, list) and all(
        isinstance(value, int | np.integer) for value in values
    )
