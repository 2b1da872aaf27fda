"""The images and classes in folders and zip archives of classes, as ImageNet has them."""

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs4a.datasets.loading import check_labels

__all__ = ["folder_content", "label_by_class", "read_archive"]

_SUFFIXES = (".jpeg", ".jpg", ".png")
#: A synset of WordNet, as n01440764 for the tench.
_WNID = re.compile(r"n\d{8}")
#: Classes of ILSVRC 2012.
_N_CLASSES = 1000

Members = dict[PurePosixPath, zipfile.ZipInfo]


def folder_content(folder: Path) -> tuple[list[Path], set[str]]:
    """Paths CLASS/NAME of the images in a folder, and the names of its classes."""
    classes = _classes_in_folder(folder)
    images = [
        path
        for name in classes
        for path in (folder / name).iterdir()
        if _is_image(PurePath(path.name))
    ]
    return images, classes


def read_archive(
    archive: Path, map_path: Path
) -> tuple[list[zipfile.ZipInfo], NDArray[np.int64]]:
    """Images of an archive and their labels, from a map or from the names of folders."""
    members = _members(archive)
    if map_path.is_file():
        paths, labels = _read_map(map_path, archive, members)
    else:
        images, classes = _archive_content(archive, members)
        if len(classes) < 2:  # validation images are published in one folder, unsorted
            raise FileNotFoundError(
                f"{archive} must have images CLASS/NAME.JPEG of several classes, or "
                f"{map_path} with their labels beside it."
            )
        paths, labels = label_by_class(images, classes, archive)
    return [members[path] for path in paths], labels


def label_by_class(
    paths: Iterable[Any], classes: set[str], place: Path
) -> tuple[list[Any], NDArray[np.int64]]:
    """Sort paths by class and name; label them by the place of their class.

    Raises
    ------
    ValueError
        If the classes are not those of the training images, or are no classes: each
        folder too many would move the labels behind it.
    """
    ordered = sorted(paths, key=lambda path: (path.parent.name, path.name))
    found = {path.parent.name for path in ordered}
    source, classes = _training_classes(place, found) or (place, classes)
    if len(classes) < 2 or not found <= classes:  # validation images come unsorted
        raise ValueError(
            f"{place} must have images CLASS/NAME.JPEG of several classes, each with the "
            f"name of its training folder, got {', '.join(sorted(found)):.100}. Sort the "
            "validation images into such folders."
        )
    others = sorted(name for name in classes if not _WNID.fullmatch(name))
    if 0 < len(others) < len(classes):
        raise ValueError(
            f"{source} must have no other folders than those of classes, named like "
            f"n01440764, got {', '.join(others):.100} beside them. Labels are places in "
            "the order of names: move what is no class elsewhere."
        )
    if not others and len(classes) > _N_CLASSES:
        raise ValueError(
            f"{source} must have the {_N_CLASSES} classes of ILSVRC 2012 or some of them, "
            f"got {len(classes)} folders."
        )
    places = {name: number for number, name in enumerate(sorted(classes))}
    return ordered, np.array([places[path.parent.name] for path in ordered], np.int64)


def _training_classes(place: Path, found: set[str]) -> tuple[Path, set[str]] | None:
    """Where the training images are, and their classes; None where that adds nothing."""
    folder, archive = place.with_name("train"), place.with_name("train.zip")
    if place in (folder, archive):
        return None
    if classes := _classes_in_folder(folder):
        return folder, classes
    # To read what is in an archive of a million files takes a gigabyte.
    if archive.is_file() and len(found) < _N_CLASSES:
        return archive, _archive_content(archive, _members(archive))[1]
    return None


def _is_hidden(path: PurePath) -> bool:
    """Whether a part of a path is no part of the data: .x, ._x or __MACOSX.

    Notebooks, version control, editors and macOS leave such files and folders behind.
    """
    return any(
        part == "__MACOSX" or (part.startswith(".") and part != "..") for part in path.parts
    )


def _is_image(path: PurePath) -> bool:
    """Whether a path is that of an image, relative to the folder of the data."""
    return path.suffix.lower() in _SUFFIXES and not _is_hidden(path)


def _classes_in_folder(folder: Path) -> set[str]:
    """Names of the folders in a folder; none where it does not exist."""
    names = set()
    for path in folder.iterdir() if folder.is_dir() else ():
        if _is_hidden(PurePath(path.name)):
            continue
        if path.is_dir():
            names.add(path.name)
        elif path.is_symlink() and not path.exists():  # all further classes would move up
            raise ValueError(f"{path} is a link to {path.readlink()}, which is not there.")
    return names


def _members(archive: Path) -> Members:
    try:
        with zipfile.ZipFile(archive) as opened:
            return {_member(info.filename): info for info in opened.infolist()}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is no complete zip archive: {error}") from error


def _member(name: str) -> PurePosixPath:
    """Path in an archive, as maps and archives agree on it."""
    return PurePosixPath(name.replace("\\", "/").lstrip("/"))


def _archive_content(
    archive: Path, members: Members
) -> tuple[list[PurePosixPath], set[str]]:
    """Paths of the images of an archive, and the names of its classes."""
    folders = {p for p, info in members.items() if info.filename.endswith(("/", "\\"))}
    images = [path for path in members if path not in folders and _is_image(path)]
    # By depth as well: the parent of what lies at the top is the top.
    parents = {(len(path.parts), path.parent.parent): path for path in images}
    if len(parents) > 1:
        some = " and ".join(map(str, list(parents.values())[:2]))
        raise ValueError(
            f"{archive} must have its images CLASS/NAME.JPEG in folders side by side, got "
            f"{some}."
        )
    beside = {p for p in folders if (len(p.parts) + 1, p.parent) in parents}
    classes = {path.parent.name for path in images}
    return images, classes | {path.name for path in beside if not _is_hidden(path)}


def _read_map(
    path: Path, archive: Path, members: Members
) -> tuple[list[PurePosixPath], NDArray[np.int64]]:
    """Paths and labels of a map; "train.zip@/n01440764/x.JPEG" names a path as well."""
    names, labels = [], []
    label_of: dict[PurePosixPath, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text, tab, label = line.partition("\t")
        if not tab or not label.strip().isdecimal():
            raise ValueError(f"{path} must have PATH<tab>LABEL in line {number}: {line!r}.")
        name = _member(text.rpartition("@")[2])
        if name not in members:
            raise ValueError(f"{path} names {name}, which is not in {archive}.")
        if _is_hidden(name):
            raise ValueError(
                f"{path} names {name}, which is hidden: it must list images alone."
            )
        names.append(name)
        labels.append(int(label))
        if label_of.setdefault(name, labels[-1]) != labels[-1]:
            raise ValueError(
                f"{path} must have one label for {name}, got {label_of[name]} and, in line "
                f"{number}, {labels[-1]}."
            )
    return names, check_labels(path, labels, len(labels), 0, _N_CLASSES - 1)
