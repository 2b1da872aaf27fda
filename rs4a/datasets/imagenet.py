"""ImageNet, from folders or zip archives of its JPEG files."""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from rs4a.datasets.loading import Request, Root, check_labels

__all__ = ["load_imagenet"]

_BY_HAND = (
    "Register at https://image-net.org, download ILSVRC 2012 and give its folder as root."
)
_SUFFIXES = (".jpeg", ".jpg", ".png")
#: A synset of WordNet, as n01440764 for the tench.
_WNID = re.compile(r"n\d{8}")
#: Number of classes of ILSVRC 2012.
_N_CLASSES = 1000
#: Many times the size of any image of ImageNet.
_MOST_BYTES = 2**28


def load_imagenet(
    root: Root = None,
    *,
    split: str = "train",
    download: bool = False,
    as_arrays: bool = False,
    augment: bool = False,
) -> Any:
    """ImageNet (ILSVRC 2012): 1,281,167 training and 50,000 test images [1]_.

    The Dataset decodes an image at each use, scales its shorter side to 256 pixels, and
    cuts out the 224 x 224 pixels in the middle.

    Parameters
    ----------
    root : path-like, default=None
        Folder that holds, for each split, a folder `train` or `val` with one folder of
        images per class, named alike in both; or an archive `train.zip` or `val.zip` of
        such folders. Beside an archive, `train_map.txt` or `val_map.txt` may list the
        images to use, one image per line: the path in the archive, a tab, and the label.
        Names that begin with a dot, and `__MACOSX`, are ignored. None: `imagenet` in the
        folder that the environment variable RS4A_DATA names, or in ~/rs4a_data.

    split : {"train", "test"}, default="train"
        Which images; "test" is the validation set.

    download : bool, default=False
        Must be False: the files need a registration.

    as_arrays : bool, default=False
        Whether to return arrays, of 600 kB per image; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset cuts and scales a random part of a training image, and mirrors
        half of the images.

    Returns
    -------
    dataset : torch.utils.data.Dataset
        Images (3, 224, 224), float32 in [0, 1], and their labels. A label is the place of
        the class in the sorted names; `targets` has all labels. Or, if `as_arrays`, X of
        shape (n, 3, 224, 224) and y of shape (n,), int64.

    Raises
    ------
    FileNotFoundError
        If there are no images of that split.

    ValueError
        If an option is wrong, images lie in folders that are no classes, folders that are
        no classes lie beside the classes, or a map names an image that is not in the
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
    request = Request(
        "imagenet", root, split, download, as_arrays, augment, by_hand=_BY_HAND
    )
    files, targets = _find_images(request.folder, "val" if split == "test" else "train")
    dataset = _EncodedImages(files, targets, _transform(augment))
    return dataset.arrays() if as_arrays else dataset


class _EncodedImages(Dataset[tuple[torch.Tensor, int]]):
    """Labelled images that are decoded at each use, from paths or from bytes."""

    def __init__(
        self,
        files: "Sequence[Path] | _ZipMembers",
        targets: NDArray[np.int64],
        transform: Callable[[Any], torch.Tensor],
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
            return self.transform(image.convert("RGB")), int(self.targets[index])

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """All images and labels at once."""
        X = np.empty((len(self), *self[0][0].shape), dtype=np.float32)
        for index in range(len(self)):
            X[index] = self[index][0].numpy()
        return X, self.targets


def _transform(augment: bool) -> Any:
    from torchvision import transforms  # its import takes a second

    if augment:
        steps = [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip()]
    else:
        steps = [transforms.Resize(256), transforms.CenterCrop(224)]
    return transforms.Compose([*steps, transforms.ToTensor()])


# Images and labels


class _Content(NamedTuple):
    """Images CLASS/NAME and class names in a folder or an archive, with its members."""

    place: Path
    images: list[PurePosixPath]
    classes: set[str]
    members: dict[PurePosixPath, zipfile.ZipInfo]


def _find_images(
    root: Path, stem: str
) -> tuple["Sequence[Path] | _ZipMembers", NDArray[np.int64]]:
    """Files and labels in the folder if it has images, else in the archive."""
    content, map_path = _content(root, stem), root / f"{stem}_map.txt"
    if not content.members and not content.images:
        raise FileNotFoundError(
            f"Found no images {root / stem}/CLASS/NAME.JPEG, and no {root / stem}.zip of "
            f"such folders. {_BY_HAND}"
        )
    if content.members and map_path.is_file():
        paths, labels = _read_map(map_path, content)
    else:
        paths, labels = _labelled(content, root, stem)
    if not content.members:
        return [content.place / path for path in paths], labels
    return _ZipMembers(content.place, [content.members[path] for path in paths]), labels


def _content(root: Path, stem: str) -> _Content:
    """Content of a folder if it has images, else of the archive beside it."""
    folder, archive = root / stem, root / f"{stem}.zip"
    classes = _class_folders(folder)
    images = [
        PurePosixPath(name, path.name)
        for name in classes
        for path in (folder / name).iterdir()
        if _is_image(PurePath(path.name))
    ]
    if not images and archive.is_file():
        return _archive_content(archive)
    return _Content(folder, images, classes, {})


def _labelled(
    content: _Content, root: Path, stem: str
) -> tuple[list[PurePosixPath], NDArray[np.int64]]:
    """Sort images by class and name; label them by the place of the training class.

    Raises
    ------
    ValueError
        If a folder is no class: it would move the labels of all further classes.
    """
    place, images, classes, _ = content
    found = {path.parent.name for path in images}
    # The content of a large training archive needs a gigabyte of memory.
    if stem != "train" and len(found) < _N_CLASSES:
        training = _content(root, "train")
        if training.classes:
            place, classes = training.place, training.classes
    if len(classes) < 2 or not found <= classes:  # published validation images
        raise ValueError(
            f"{content.place} must have images CLASS/NAME.JPEG of several classes, each "
            f"with the name of its training folder, got {', '.join(sorted(found)):.100}. "
            "Sort the validation images into such folders, or list the images of an "
            f"archive in {stem}_map.txt."
        )
    strangers = sorted(name for name in classes if not _WNID.fullmatch(name))
    if 0 < len(strangers) < len(classes):
        raise ValueError(
            f"{place} must have no folders but classes, named like n01440764, got "
            f"{', '.join(strangers):.100} beside them. A label is a place in the order of "
            "the names: move these folders elsewhere."
        )
    if not strangers and len(classes) > _N_CLASSES:
        raise ValueError(
            f"{place} must have the {_N_CLASSES} classes of ILSVRC 2012 or some of them, "
            f"got {len(classes)} folders."
        )
    labels = {name: label for label, name in enumerate(sorted(classes))}
    ordered = sorted(images, key=lambda path: (path.parent.name, path.name))
    return ordered, np.array([labels[path.parent.name] for path in ordered], np.int64)


def _class_folders(folder: Path) -> set[str]:
    """Names of the folders in a folder; none if the folder does not exist."""
    names = set()
    for path in folder.iterdir() if folder.is_dir() else ():
        if _is_hidden(PurePath(path.name)):
            continue
        if path.is_dir():
            names.add(path.name)
        elif path.is_symlink() and not path.exists():  # all further classes would move up
            raise ValueError(f"{path} is a link to {path.readlink()}, which is not there.")
    return names


def _is_hidden(path: PurePath) -> bool:
    """Whether a part of a path is no data: .x, ._x or __MACOSX.

    Notebooks, version control, editors and macOS leave such files and folders behind.
    """
    return any(
        part == "__MACOSX" or (part.startswith(".") and part != "..") for part in path.parts
    )


def _is_image(path: PurePath) -> bool:
    return path.suffix.lower() in _SUFFIXES and not _is_hidden(path)


# Archives


def _archive_content(archive: Path) -> _Content:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = {_member(info.filename): info for info in opened.infolist()}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is no complete zip archive: {error}") from error
    folders = {p for p, info in members.items() if info.filename.endswith(("/", "\\"))}
    images = [path for path in members if path not in folders and _is_image(path)]
    # By depth as well: the parent of a path at the top is the top.
    parents = {(len(path.parts), path.parent.parent): path for path in images}
    if len(parents) > 1:
        some = " and ".join(map(str, list(parents.values())[:2]))
        raise ValueError(
            f"{archive} must have its images CLASS/NAME.JPEG in folders side by side, got "
            f"{some}."
        )
    beside = {p for p in folders if (len(p.parts) + 1, p.parent) in parents}
    classes = {path.parent.name for path in images}
    classes |= {path.name for path in beside if not _is_hidden(path)}
    return _Content(archive, images, classes, members)


def _member(name: str) -> PurePosixPath:
    """Path in an archive, in one form for maps and archives."""
    return PurePosixPath(name.replace("\\", "/").lstrip("/"))


def _read_map(
    path: Path, content: _Content
) -> tuple[list[PurePosixPath], NDArray[np.int64]]:
    """Paths and labels of a map; "train.zip@/n01440764/x.JPEG" names a path as well."""
    names, labels = [], []
    label_of: dict[PurePosixPath, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text, tab, label = line.partition("\t")
        if not tab or not label.strip().isdecimal():
            raise ValueError(f"{path} must have PATH<tab>LABEL in line {number}: {line!r}.")
        name = _member(text.rpartition("@")[2])
        if name not in content.members or _is_hidden(name):
            raise ValueError(f"{path} names {name}, which is no image in {content.place}.")
        names.append(name)
        labels.append(int(label))
        if label_of.setdefault(name, labels[-1]) != labels[-1]:
            raise ValueError(
                f"{path} must have one label for {name}, got {label_of[name]} and, in line "
                f"{number}, {labels[-1]}."
            )
    return names, check_labels(path, labels, len(labels), 0, _N_CLASSES - 1)


class _ZipMembers:
    """Some members of a zip archive by their place in it, read one by one.

    Processes may not share a :class:`zipfile.ZipFile`, and the directory of an archive of
    a million images needs a gigabyte of memory. This class keeps four numbers per member,
    and opens the archive for each read.
    """

    def __init__(self, path: Path, infos: Sequence[zipfile.ZipInfo]):
        for info in infos:
            known = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            size = max(info.file_size, info.compress_size)
            if not known or info.flag_bits & 0x1 or size > _MOST_BYTES:
                raise ValueError(
                    f"{path} must have members that are stored or deflated, without "
                    f"encryption, of at most {_MOST_BYTES} bytes, got {info.filename} of "
                    f"{size} bytes."
                )
        self.path = path
        self._places = np.array(
            [
                (i.header_offset, i.compress_type, i.compress_size, i.file_size)
                for i in infos
            ],
            dtype=np.int64,
        )

    def __getitem__(self, index: int) -> bytes:
        offset, kind, stored_size, size = self._places[index].tolist()
        try:
            with self.path.open("rb") as file:
                file.seek(offset + 26)
                file.seek(sum(struct.unpack("<2H", file.read(4))), 1)  # name, extra field
                content = file.read(stored_size)
            if kind == zipfile.ZIP_DEFLATED:
                content = zlib.decompressobj(wbits=-15).decompress(content, size + 1)
        except (struct.error, zlib.error) as error:
            raise ValueError(f"{self.path} is damaged: {error}") from error
        if len(content) != size:
            raise ValueError(
                f"{self.path} is damaged: a file in it does not have the {size} bytes."
            )
        return content
