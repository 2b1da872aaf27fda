"""Folders of classes, as ImageNet has them: what belongs to them, and which there are."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePath, PurePosixPath

__all__ = [
    "N_CLASSES",
    "check_classes",
    "classes_in_archive",
    "folders_in",
    "images_in",
    "is_hidden",
    "is_image",
]

_SUFFIXES = (".jpeg", ".jpg", ".png")
#: A synset of WordNet, as n01440764 for the tench.
_WNID = re.compile(r"n\d{8}")
#: Classes of ILSVRC 2012.
N_CLASSES = 1000


def is_hidden(path: PurePath) -> bool:
    """Whether a part of a path is no part of the data: .x, ._x or __MACOSX.

    Notebooks, version control, editors and macOS leave such files and folders behind.
    """
    return any(
        part == "__MACOSX" or (part.startswith(".") and part != "..") for part in path.parts
    )


def is_image(path: PurePath) -> bool:
    """Whether a path is that of an image, relative to the folder of the data."""
    return path.suffix.lower() in _SUFFIXES and not is_hidden(path)


def folders_in(folder: Path) -> set[str]:
    """Names of the folders in a folder; none where it is not there.

    Raises
    ------
    ValueError
        If one is a link to nothing: without it all further classes would move up.
    """
    if not folder.is_dir():
        return set()
    names = set()
    for path in folder.iterdir():
        if is_hidden(PurePath(path.name)):
            continue
        if path.is_dir():
            names.add(path.name)
        elif path.is_symlink() and not path.exists():
            raise ValueError(f"{path} is a link to {path.readlink()}, which is not there.")
    return names


def images_in(folder: Path) -> list[Path]:
    """Paths CLASS/NAME of the images in a folder."""
    return [
        path
        for name in folders_in(folder)
        for path in (folder / name).iterdir()
        if is_image(PurePath(path.name))
    ]


def classes_in_archive(
    archive: Path, images: Iterable[PurePosixPath], folders: Iterable[PurePosixPath]
) -> set[str]:
    """Names of the folders that images of an archive lie in, and of those beside them.

    Raises
    ------
    ValueError
        If these folders are not all in the same one.
    """
    # By depth as well: the parent of what lies at the top is the top.
    parents = {(len(path.parts), path.parent.parent): path for path in images}
    if len(parents) > 1:
        some = " and ".join(map(str, list(parents.values())[:2]))
        raise ValueError(
            f"{archive} must have its images CLASS/NAME.JPEG in folders side by side, got "
            f"{some}."
        )
    classes = {path.parent.name for path in images}
    classes.update(
        path.name
        for path in folders
        if not is_hidden(path) and (len(path.parts) + 1, path.parent) in parents
    )
    return classes


def check_classes(place: Path, classes: set[str]) -> None:
    """Refuse folders that are no classes: each would move the labels behind it.

    Raises
    ------
    ValueError
        If some folders are named by a synset and others are not, or there are more of
        them than classes.
    """
    others = sorted(name for name in classes if not _WNID.fullmatch(name))
    if 0 < len(others) < len(classes):
        raise ValueError(
            f"{place} must have no other folders than those of classes, named like "
            f"n01440764, got {', '.join(others):.100} beside them. Labels are places in "
            "the order of names: move what is no class elsewhere."
        )
    if not others and len(classes) > N_CLASSES:
        raise ValueError(
            f"{place} must have the {N_CLASSES} classes of ILSVRC 2012 or some of them, "
            f"got {len(classes)} folders."
        )
