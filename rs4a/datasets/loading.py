"""What all loaders share: their options, and where files are looked for."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from rs4a.datasets.images import ImageDataset

__all__ = [
    "as_requested",
    "check_no_download",
    "check_options",
    "data_folder",
    "find_files",
]


def check_options(
    split: Any, splits: Sequence[str], *, as_arrays: bool, augment: bool
) -> None:
    """Refuse a split that there is not, and augmentation where it does not belong."""
    if split not in splits:
        *others, last = map(repr, splits)
        allowed = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"split must be {allowed}, got {split!r}.")
    if augment and (split != "train" or as_arrays):
        raise ValueError(
            "augment=True draws a new version of a training image each time it is used: "
            f"it needs split='train' and as_arrays=False, got split={split!r} and "
            f"as_arrays={as_arrays!r}."
        )


def check_no_download(download: bool, data_and_remedy: str) -> None:
    """Refuse to download what only a person may or can."""
    if download:
        raise ValueError(
            f"download must be False, since there is no free download of {data_and_remedy}"
        )


def data_folder(root: str | os.PathLike[str] | None, name: str) -> Path:
    """Folder of a data set: `root`, or its place in RS4A_DATA or ~/rs4a_data."""
    if root is not None:
        return Path(root).expanduser()
    return Path(os.environ.get("RS4A_DATA") or "~/rs4a_data").expanduser() / name


def find_files(
    layouts: Sequence[Sequence[str]],
    folders: Sequence[Path],
    *,
    remedy: str,
    download: Callable[[], None] | None = None,
) -> list[Path]:
    """Return the paths of all files of one layout, from one folder.

    `download` is called where there are none, before the search is given up.
    """
    found = _first_layout(layouts, folders)
    if found is None and download is not None:
        download()
        found = _first_layout(layouts, folders)
    if found is not None:
        return found
    wanted = ", or ".join(" and ".join(layout) for layout in layouts)
    places = ", ".join(map(str, folders))
    raise FileNotFoundError(f"Found no {wanted} in {places}. {remedy}")


def _first_layout(
    layouts: Sequence[Sequence[str]], folders: Sequence[Path]
) -> list[Path] | None:
    for folder in folders:
        for layout in layouts:
            paths = [folder / name for name in layout]
            if all(path.is_file() for path in paths):
                return paths
    return None


def as_requested(
    images: NDArray[np.uint8],
    targets: ArrayLike,
    *,
    as_arrays: bool,
    augmentation: Callable[[torch.Tensor], torch.Tensor] | None,
    max_value: int = 255,
) -> Any:
    """Return images and labels as arrays, or as a Dataset that may augment them."""
    dataset = ImageDataset(images, targets, augmentation, max_value)
    return dataset.arrays() if as_arrays else dataset
