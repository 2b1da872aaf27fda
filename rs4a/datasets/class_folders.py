"""Folders of classes as ImageNet has them, on torchvision's reader."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import is_image_file

#: A synset of WordNet, as n01440764 for the tench.
_WNID = re.compile(r"n\d{8}")


class ClassFolders(ImageFolder):
    """Images in one folder per class, decoded at each use.

    Files and folders that begin with a dot, and `__MACOSX`, are ignored: notebooks, version
    control, editors and macOS leave them behind.

    Parameters
    ----------
    folder : Path
        Folder `val` or `train`. The folders in the `train` beside it are the classes.

    augment : bool
        Whether to cut and mirror images at random.

    Raises
    ------
    ValueError
        If the folders are no classes: each would move the labels of all further classes.
    """

    def __init__(self, folder: Path, augment: bool):
        steps: list[Any] = [transforms.Resize(256), transforms.CenterCrop(224)]
        if augment:
            steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
        super().__init__(
            folder,
            transforms.Compose([*steps, transforms.ToTensor()]),
            is_valid_file=lambda path: (
                is_image_file(path) and not _is_hidden(Path(path).relative_to(folder).parts)
            ),
            allow_empty=True,
        )
        self.targets: Any = np.array(self.targets, dtype=np.int64)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """Return the names of the classes, sorted, and their labels."""
        place, training = Path(directory), Path(directory).with_name("train")
        found = _folders_in(place)
        classes = _folders_in(training) or found
        if len(classes) < 2 or not found <= classes:
            raise ValueError(
                f"{place} must have images CLASS/NAME.JPEG of several classes, each with "
                f"the name of its training folder, got {', '.join(sorted(found)):.100}. "
                "Sort the validation images into such folders."
            )
        strangers = sorted(name for name in classes if not _WNID.fullmatch(name))
        if 0 < len(strangers) < len(classes):
            raise ValueError(
                f"{place} and {training} must have no folders but classes, named like "
                f"n01440764, got {', '.join(strangers):.100} beside them. A label is a "
                "place in the order of the names: move these folders elsewhere."
            )
        names = sorted(classes)
        return names, {name: label for label, name in enumerate(names)}

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """All images and labels at once."""
        X = np.empty((len(self), *self[0][0].shape), dtype=np.float32)
        for index in range(len(self)):
            X[index] = self[index][0].numpy()
        return X, self.targets


def _folders_in(place: Path) -> set[str]:
    """Names of the folders in a folder; none if the folder does not exist."""
    paths = [path for path in place.glob("*") if not _is_hidden([path.name])]
    for path in paths:
        if path.is_symlink() and not path.exists():
            raise ValueError(f"{path} is a link to {path.readlink()}, which is not there.")
    return {path.name for path in paths if path.is_dir()}


def _is_hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)
