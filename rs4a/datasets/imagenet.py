"""ImageNet, from folders or zip archives of its JPEG files."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from rs4a.datasets.class_folders import folder_content, label_by_class, read_archive
from rs4a.datasets.images import as_fractions
from rs4a.datasets.loading import Request, Root

__all__ = ["load_imagenet"]

_BY_HAND = (
    "Register at https://image-net.org, download ILSVRC 2012 and give its folder as root."
)
#: Many times as much as any image of ImageNet has.
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
    request = Request(
        "imagenet", root, split, download, as_arrays, augment, by_hand=_BY_HAND
    )
    files, targets = _find_images(request.folder, "val" if split == "test" else "train")
    dataset = EncodedImageDataset(files, targets, _transform(augment))
    return dataset.arrays() if as_arrays else dataset


class EncodedImageDataset(Dataset[tuple[torch.Tensor, int]]):
    """Labelled images that are decoded when they are used.

    Parameters
    ----------
    files : sequence of Path or of bytes
        Paths of image files, or their content.

    targets : ndarray of shape (n,), int64
        Labels.

    transform : callable
        Takes a PIL image in RGB and returns another one.
    """

    def __init__(
        self,
        files: "Sequence[Path] | ZipMembers",
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


def _find_images(
    root: Path, stem: str
) -> tuple["Sequence[Path] | ZipMembers", NDArray[np.int64]]:
    """Files and labels of the first layout that there is."""
    folder, archive = root / stem, root / f"{stem}.zip"
    paths, classes = folder_content(folder)
    if paths:
        return label_by_class(paths, classes, folder)
    if not archive.is_file():
        raise FileNotFoundError(
            f"Found no images {folder}/CLASS/NAME.JPEG, and no {archive} of such folders. "
            + _BY_HAND
        )
    infos, labels = read_archive(archive, root / f"{stem}_map.txt")
    return ZipMembers(archive, infos), labels


class ZipMembers:
    """Some members of a zip archive by their place in it, read one by one.

    A :class:`zipfile.ZipFile` may not be shared by processes, and the directory of an
    archive of a million images is a gigabyte in memory. This keeps four numbers per
    member, and opens the archive for each read.

    Parameters
    ----------
    path : Path
        Archive.

    infos : sequence of ZipInfo
        Its members.

    Raises
    ------
    ValueError
        If a member is encrypted, compressed in another way than by deflation, or larger
        than 256 MiB; or, when it is read, if it does not have the size that it should.
    """

    def __init__(self, path: Path, infos: Sequence[zipfile.ZipInfo]):
        for info in infos:
            known = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if not known or info.flag_bits & 0x1:
                raise ValueError(
                    f"{path} must be stored or deflated without encryption, got "
                    f"{info.filename} otherwise."
                )
            if max(info.file_size, info.compress_size) > _MOST_BYTES:
                raise ValueError(
                    f"{path} must have files of at most {_MOST_BYTES} bytes, got "
                    f"{info.filename} of {info.file_size}."
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
                f"{self.path} is damaged: a file in it does not have the {size} bytes it "
                "should have."
            )
        return content
