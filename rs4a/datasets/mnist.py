"""MNIST and Fashion-MNIST, from their idx files."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rs4a.datasets.images import RandomCropAndFlip
from rs4a.datasets.loading import Request, Root, check_labels

__all__ = ["load_fashion_mnist", "load_mnist"]

#: Where Debian's package dataset-fashion-mnist puts the files.
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_PIECE_BYTES = 2**20


def load_mnist(
    root: Root = None,
    *,
    split: str = "train",
    download: bool = False,
    as_arrays: bool = True,
    augment: bool = False,
) -> Any:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits [1]_.

    Parameters
    ----------
    root : path-like, default=None
        Folder of the four idx files, gzipped or not, or the one that torchvision was given
        as root. None: `mnist` in the folder that the environment variable RS4A_DATA names,
        or in ~/rs4a_data.

    split : {"train", "test"}, default="train"
        Which images.

    download : bool, default=False
        Whether torchvision may download missing files to root.

    as_arrays : bool, default=True
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shall shift training images at random, by up to 2 pixels.

    Returns
    -------
    X, y : ndarray of shape (n, 1, 28, 28), float32, and of shape (n,), int64
        Images in [0, 1] and their labels, the digits; or, if not `as_arrays`, one
        `ImageDataset` of them.

    Raises
    ------
    FileNotFoundError
        If files are missing.

    ValueError
        If an option is wrong, or a file is damaged.

    References
    ----------
    .. [1] LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document
       Recognition", Proceedings of the IEEE, 1998.

    Examples
    --------
    >>> from rs4a.datasets import load_mnist
    >>> X, y = load_mnist("~/mnist", split="test")  # doctest: +SKIP
    """
    request = Request("mnist", root, split, download, as_arrays, augment)
    return _load(request, "MNIST", [""], RandomCropAndFlip(padding=2, flip=False))


def load_fashion_mnist(
    root: Root = None,
    *,
    split: str = "train",
    download: bool = False,
    as_arrays: bool = True,
    augment: bool = False,
) -> Any:
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes [1]_.

    Parameters
    ----------
    root : path-like, default=None
        Folder of the four idx files, gzipped or not, or the one that torchvision was given
        as root. None: that of Debian's package dataset-fashion-mnist, if it is installed;
        else `fashion_mnist` in the folder that the environment variable RS4A_DATA names,
        or in ~/rs4a_data.

    split : {"train", "test"}, default="train"
        Which images.

    download : bool, default=False
        Whether torchvision may download missing files to root.

    as_arrays : bool, default=True
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shall shift training images at random, by up to 2 pixels, and
        mirror half of them.

    Returns
    -------
    X, y : ndarray of shape (n, 1, 28, 28), float32, and of shape (n,), int64
        Images in [0, 1] and their labels, 0 to 9; or, if not `as_arrays`, one
        `ImageDataset` of them.

    Raises
    ------
    FileNotFoundError
        If files are missing.

    ValueError
        If an option is wrong, or a file is damaged.

    References
    ----------
    .. [1] Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
       Machine Learning Algorithms", 2017, arXiv:1708.07747.

    Examples
    --------
    >>> from rs4a.datasets import load_fashion_mnist
    >>> X, y = load_fashion_mnist(split="test")  # doctest: +SKIP
    """
    request = Request("fashion_mnist", root, split, download, as_arrays, augment)
    places = [""] if root is not None else [str(_DEBIAN), ""]
    return _load(request, "FashionMNIST", places, RandomCropAndFlip(padding=2))


def _load(
    request: Request, name: str, places: list[str], augmentation: RandomCropAndFlip
) -> Any:
    """Load the data set that torchvision has under this name."""
    prefix = "t10k" if request.split == "test" else "train"
    names = [f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"]

    def fetch(folder: Path) -> None:
        from torchvision import datasets  # takes a second, and is seldom needed

        getattr(datasets, name)(folder, download=True)

    images_path, labels_path = request.find(
        names,
        [f"{each}.gz" for each in names],
        places=[Path(each, sub) for each in places for sub in ("", "raw", f"{name}/raw")],
        fetch=fetch,
    )
    images = _read_idx(images_path, ndim=3)
    labels = check_labels(labels_path, _read_idx(labels_path, ndim=1), len(images), 0, 9)
    return request.result(images[:, None], labels, augmentation)


def _read_idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    """Read an array of bytes from an idx file, which may be gzipped.

    The header is two zero bytes, the code of the type, the number of axes, and the length
    of each axis as a big-endian 32-bit integer; all values follow, the last axis fastest.
    """
    magic = bytes([0, 0, 8, ndim])  # 8: unsigned bytes
    content = bytearray()
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 * (1 + ndim))
            if header[:4] != magic or len(header) < 4 * (1 + ndim):
                raise ValueError(
                    f"{path} must be an idx file of bytes with {ndim} axes: it begins with "
                    f"{magic.hex()} and {ndim} lengths, got {header.hex() or 'nothing'}."
                )
            shape = struct.unpack(f">{ndim}I", header[4:])
            size = math.prod(shape)
            # Memory is taken for the bytes that there are, not for those that may be.
            while piece := file.read(min(size + 1 - len(content), _PIECE_BYTES)):
                content += piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is no complete gzip file: {error}") from error
    if len(content) != size:
        got = "more" if len(content) > size else len(content)
        raise ValueError(
            f"{path} must hold {size} bytes of data behind its header, for the shape "
            f"{shape}, but has {got}."
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)
