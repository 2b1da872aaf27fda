"""ImageNet, from folders or zip archives of its JPEG files."""

import io
import os
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from rs4a.datasets.batches import check_labels
from rs4a.datasets.class_folders import (
    N_CLASSES,
    check_classes,
    classes_in_archive,
    folders_in,
    images_in,
    is_hidden,
    is_image,
)
from rs4a.datasets.images import as_fractions
from rs4a.datasets.loading import check_no_download, check_options, data_folder
from rs4a.datasets.zip_members import ZipMembers

__all__ = ["load_imagenet"]

_STEMS = {"train": "train", "test": "val"}
_REMEDY = (
    "Register at https://image-net.org, download ILSVRC 2012 and give its folder as root."
)


def load_imagenet(
    root: str | os.PathLike[str] | None = None,
    *,
    split: str = "train",
    download: bool = False,
    as_arrays: bool = False,
    augment: bool = False,
) -> Any:
    """ImageNet (ILSVRC 2012): 1,281,167 training and 50,000 test images [1]_.

    Images are decoded when they are used, scaled so that the shorter side has 256 pixels,
    and cut to the 224 x 224 in their middle.

    Parameters
    ----------
    root : path-like, default=None
        Folder that holds, for each split, a folder `train` or `val`, in it one folder a
        class, with the same names in both, and in these the images; or an archive
        `train.zip` or `val.zip` of such folders. Next to an archive, `train_map.txt` or
        `val_map.txt` may list the images to use, one a line: the path in the archive, a
        tab, and the label. What begins with a dot, and `__MACOSX`, is left out. None:
        `imagenet` in the folder that the environment variable RS4A_DATA names, or in
        ~/rs4a_data.

    split : {"train", "test"}, default="train"
        Which images; "test" is the validation set.

    download : bool, default=False
        Must be False: who wants the files must register.

    as_arrays : bool, default=False
        Whether to return arrays, of 600 kB an image; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shall cut and scale a random part of training images, and mirror
        half of them.

    Returns
    -------
    dataset : torch.utils.data.Dataset
        Images (3, 224, 224), float32 in [0, 1], and their labels, the places of classes in
        the order of their names; `targets` has all labels. Or, if `as_arrays`, X of shape
        (n, 3, 224, 224) and y of shape (n,), int64.

    Raises
    ------
    FileNotFoundError
        If there are no images of that split.

    ValueError
        If an option is wrong, images lie in folders that are no classes, there are
        folders that are none beside those that are, or a map names what is not in the
        archive or gives an image two labels.

    References
    ----------
    .. [1] Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV
       2015, arXiv:1409.0575.

    Examples
    --------
    >>> from rs4a.datasets import load_imagenet
    >>> dataset = load_imagenet("/data/imagenet", split="test")  # doctest: +SKIP
    """
    check_options(split, ("train", "test"), as_arrays=as_arrays, augment=augment)
    check_no_download(download, f"ImageNet: {_REMEDY}")
    files, targets = _find_images(data_folder(root, "imagenet"), _STEMS[split])
    dataset = EncodedImageDataset(files, targets, _transform(augment))
    return dataset.arrays() if as_arrays else dataset


class EncodedImageDataset(Dataset[tuple[torch.Tensor, int]]):
    """Labelled images that are decoded when they are used.

    Parameters
    ----------
    files : sequence of str or of bytes
        Paths of image files, or what is in them.

    targets : ndarray of shape (n,), int64
        Labels.

    transform : callable
        Takes a PIL image in RGB and returns another one.
    """

    def __init__(
        self,
        files: Sequence[str] | ZipMembers,
        targets: NDArray[np.int64],
        transform: Callable[[Any], Any],
    ):
        self.files = files
        self.targets = targets
        self.transform = transform

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        file = self.files[index]
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            pixels = np.asarray(self.transform(image.convert("RGB")))
        fractions = as_fractions(pixels.transpose(2, 0, 1))
        return torch.from_numpy(fractions), int(self.targets[index])

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """All images and labels at once.

        Returns
        -------
        X : ndarray of shape (n, 3, h, w), float32
            Images in [0, 1].

        y : ndarray of shape (n,), int64
            Labels.
        """
        X = np.empty((len(self), *self[0][0].shape), dtype=np.float32)
        for index in range(len(self)):
            X[index] = self[index][0].numpy()
        return X, self.targets


def _transform(augment: bool) -> Any:
    from torchvision import transforms  # takes a second, and is seldom needed

    if augment:
        steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
    else:
        steps = [transforms.Resize(256), transforms.CenterCrop(224)]
    return transforms.Compose(steps)


def _find_images(root: Path, stem: str) -> tuple[list[str] | ZipMembers, NDArray[np.int64]]:
    """Files and labels of the first layout that there is."""
    folder, archive = root / stem, root / f"{stem}.zip"
    paths = images_in(folder)
    if paths:
        # A class without images keeps its place.
        return _with_labels(paths, _classes(paths, root, folder, folders_in(folder)))
    if archive.is_file():
        return _read_archive(archive, root / f"{stem}_map.txt")
    raise FileNotFoundError(
        f"Found no images {folder}/CLASS/NAME.JPEG, and no {archive} of such folders. "
        + _REMEDY
    )


def _classes(paths: Iterable[PurePath], root: Path, place: Path, own: set[str]) -> set[str]:
    """Classes that images lie in: those of the training images, where they are there."""
    found = {path.parent.name for path in paths}
    source, classes = place, own
    if place.stem != _STEMS["train"]:
        source, classes = _training_classes(root, found) or (place, own)
    if len(classes) < 2 or not found <= classes:  # validation images come unsorted
        raise ValueError(
            f"{place} must have images CLASS/NAME.JPEG of several classes, each with the "
            f"name of its training folder, got {', '.join(sorted(found)):.100}. Sort the "
            "validation images into such folders."
        )
    check_classes(source, classes)
    return classes


def _training_classes(root: Path, found: set[str]) -> tuple[Path, set[str]] | None:
    """Where the training images are, and their classes; None where that adds nothing."""
    folder, archive = (root / f"{_STEMS['train']}{suffix}" for suffix in ("", ".zip"))
    classes = folders_in(folder)
    if classes:
        return folder, classes
    # To read what is in an archive of a million files takes a gigabyte.
    if archive.is_file() and len(found) < N_CLASSES:
        return archive, _directory(archive)[1]
    return None


def _with_labels(
    paths: Iterable[PurePath], classes: Iterable[str]
) -> tuple[list[str], NDArray[np.int64]]:
    """Sort paths by class and name; label them by the place of their class."""
    ordered = sorted(paths, key=lambda path: (path.parent.name, path.name))
    places = {name: place for place, name in enumerate(sorted(classes))}
    labels = [places[path.parent.name] for path in ordered]
    return [str(path) for path in ordered], np.array(labels, dtype=np.int64)


def _read_archive(archive: Path, map_path: Path) -> tuple[ZipMembers, NDArray[np.int64]]:
    if map_path.is_file():
        infos = _members(archive)
        names, labels = _read_map(map_path)
        _check_named(map_path, names, archive, infos)
    else:
        infos, classes = _directory(archive)
        if len(classes) < 2:  # validation images are published in one folder, unsorted
            raise FileNotFoundError(
                f"{archive} must have images CLASS/NAME.JPEG of several classes, or "
                f"{map_path} with their labels beside it."
            )
        paths = [PurePosixPath(name) for name in infos]
        classes = _classes(paths, archive.parent, archive, classes)
        names, labels = _with_labels(paths, classes)
    return ZipMembers(archive, [infos[name] for name in names]), labels


def _check_named(
    map_path: Path, names: Iterable[str], archive: Path, infos: dict[str, zipfile.ZipInfo]
) -> None:
    for name in names:
        if name not in infos:
            raise ValueError(f"{map_path} names {name}, which is not in {archive}.")
        if is_hidden(PurePosixPath(name)):
            raise ValueError(
                f"{map_path} names {name}, which is hidden: it must list images alone."
            )


def _directory(archive: Path) -> tuple[dict[str, zipfile.ZipInfo], set[str]]:
    """Images of an archive, and the classes that it has folders of."""
    infos = _members(archive)
    folders = {name for name, info in infos.items() if _is_folder(info)}
    names = [PurePosixPath(name) for name in infos if name not in folders]
    paths = [path for path in names if is_image(path)]
    classes = classes_in_archive(archive, paths, map(PurePosixPath, folders))
    return {str(path): infos[str(path)] for path in paths}, classes


def _members(archive: Path) -> dict[str, zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(archive) as opened:
            return {_member(info.filename): info for info in opened.infolist()}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is no complete zip archive: {error}") from error


def _is_folder(info: zipfile.ZipInfo) -> bool:
    return info.filename.endswith(("/", "\\"))


def _member(name: str) -> str:
    """Path in an archive, as maps and archives agree on it."""
    return str(PurePosixPath(name.replace("\\", "/").lstrip("/")))


def _read_map(path: Path) -> tuple[list[str], NDArray[np.int64]]:
    """Paths and labels of a map; "train.zip@/n01440764/x.JPEG" names a path as well."""
    names, labels = [], []
    label_of: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        name, tab, label = line.partition("\t")
        if not tab or not label.strip().isdecimal():
            raise ValueError(f"{path} must have PATH<tab>LABEL in line {number}: {line!r}.")
        names.append(_member(name.rpartition("@")[2]))
        labels.append(int(label))
        if label_of.setdefault(names[-1], labels[-1]) != labels[-1]:
            raise ValueError(
                f"{path} must have one label for {names[-1]}, got {label_of[names[-1]]} "
                f"and, in line {number}, {labels[-1]}."
            )
    return names, check_labels(path, labels, len(labels), (0, N_CLASSES - 1))
