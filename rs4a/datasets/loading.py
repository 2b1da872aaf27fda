"""The steps that all loaders share: options, the search for files, checks of content."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from rs4a.datasets.images import ImageDataset

Root = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Request:
    """The arguments of a loader, checked, and the first and last step of each loader.

    Parameters
    ----------
    name : str
        Name of the data set.

    splits : tuple of str
        Splits of the data set.

    by_hand : str
        How a person gets the files of a data set without download; else empty.

    root, split, download, as_arrays, augment
        Arguments of the loader.

    Raises
    ------
    ValueError
        If the split does not exist, if `augment` is set for arrays or for images that are
        not for training, or if `download` is set for data without download.
    """

    name: str
    splits: tuple[str, ...]
    by_hand: str
    root: Root
    split: str
    download: bool
    as_arrays: bool
    augment: bool

    def __post_init__(self) -> None:
        if self.split not in self.splits:
            allowed = " or ".join(map(repr, self.splits))
            raise ValueError(f"split must be {allowed}, got {self.split!r}.")
        if self.augment and (self.split != "train" or self.as_arrays):
            raise ValueError(
                "augment=True draws a new version of a training image at each use: it "
                "needs split='train' and as_arrays=False, got "
                f"split={self.split!r} and as_arrays={self.as_arrays!r}."
            )
        if self.download and self.by_hand:
            raise ValueError(
                "download must be False, since there is no free download of "
                f"{self.name}: {self.by_hand}"
            )

    @property
    def folder(self) -> Path:
        """Root, or the place of the data set in RS4A_DATA or ~/rs4a_data."""
        if self.root is not None:
            return Path(self.root).expanduser()
        return Path(os.environ.get("RS4A_DATA") or "~/rs4a_data").expanduser() / self.name

    def find(
        self,
        *layouts: Sequence[str],
        places: Sequence[str | Path] = ("",),
        fetch: Callable[[Path], Any] | None = None,
    ) -> list[Path]:
        """Return the paths of all files of one layout, in one of the places.

        Places are relative to the folder. If no layout is complete and the user allows
        downloads, `fetch` downloads the files to the folder.
        """
        folders = [self.folder / place for place in places]
        candidates = [[f / name for name in names] for f in folders for names in layouts]
        for may_fetch in (fetch is not None and self.download, False):
            for paths in candidates:
                if all(map(Path.is_file, paths)):
                    return paths
            if may_fetch and fetch is not None:
                fetch(self.folder)
        wanted = ", or ".join(" and ".join(layout) for layout in layouts)
        raise FileNotFoundError(
            f"Found no {wanted} in {', '.join(map(str, folders))}. "
            + (self.by_hand or "Give their folder as root, or download=True.")
        )

    def result(
        self,
        images: NDArray[np.uint8],
        targets: ArrayLike,
        augmentation: Callable[[torch.Tensor], torch.Tensor],
        max_value: int = 255,
    ) -> Any:
        """Return images and labels as arrays, or as a Dataset that may augment them."""
        transform = augmentation if self.augment else None
        dataset = ImageDataset(images, targets, transform, max_value)
        return dataset.arrays() if self.as_arrays else dataset


class _Loader(Protocol):
    """The call that all loaders share."""

    def __call__(
        self,
        root: Root = None,
        *,
        split: str = ...,
        download: bool = False,
        as_arrays: bool = ...,
        augment: bool = False,
    ) -> Any:
        """Return images and labels, as arrays or as a Dataset."""


def loader(
    name: str,
    splits: tuple[str, ...] = ("train", "test"),
    by_hand: str = "",
    arrays_by_default: bool = True,
) -> Callable[[Callable[[Request], Any]], _Loader]:
    """Make a loader of a function of its request: all loaders have the same parameters."""

    def decorate(read: Callable[[Request], Any]) -> _Loader:
        def load(
            root: Root = None,
            *,
            split: str = splits[0],
            download: bool = False,
            as_arrays: bool = arrays_by_default,
            augment: bool = False,
        ) -> Any:
            options = (root, split, download, as_arrays, augment)
            return read(Request(name, splits, by_hand, *options))

        for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
            setattr(load, attribute, getattr(read, attribute))
        return load

    return decorate


def check_images(path: Path, key: str, images: Any, shape: tuple[int | str, ...]) -> None:
    """Refuse everything but bytes of a shape, in which "n" is any length."""
    is_bytes = isinstance(images, np.ndarray) and images.dtype == np.uint8
    lengths = images.shape if is_bytes else ()
    if len(lengths) != len(shape) or any(
        wanted not in ("n", n) for wanted, n in zip(shape, lengths, strict=True)
    ):
        raise ValueError(
            f"{path} must have bytes (uint8) of shape ({', '.join(map(str, shape))}) as "
            f"{key}, got {_kind(images)}."
        )


def check_labels(
    path: Path, labels: Any, n_images: int, low: int, high: int
) -> NDArray[np.int64]:
    """Return one label per image as int64; refuse other numbers and labels out of range."""
    # A list may hold one long string many times: its array would be huge.
    if isinstance(labels, list) and all(isinstance(y, int) for y in labels):
        labels = np.array(labels)
    is_right = isinstance(labels, np.ndarray) and labels.shape == (n_images,)
    if not is_right or (n_images and labels.dtype.kind not in "iu"):
        raise ValueError(
            f"{path} must have one integer as label for each of {n_images} images, got "
            f"{_kind(labels)}."
        )
    if n_images and not low <= labels.min() <= labels.max() <= high:
        raise ValueError(
            f"{path} must have labels from {low} to {high}, got {labels.min()} to "
            f"{labels.max()}."
        )
    return labels.astype(np.int64)


def _kind(values: Any) -> str:
    if isinstance(values, np.ndarray):
        return f"{values.dtype} of shape {values.shape}"
    return f"a {type(values).__name__}"
