"""Images of one channel: MNIST and Fashion-MNIST from idx files, and digits."""

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rs4a.datasets.images import RandomCropAndFlip
from rs4a.datasets.loading import Request, check_labels, loader

#: Where Debian's package dataset-fashion-mnist puts the files.
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@loader("mnist")
def load_mnist(request: Request) -> Any:
    """MNIST: 60,000 training and 10,000 test images of handwritten digits [1]_.

    Parameters
    ----------
    root : path-like, default=None
        Folder of the four idx files, gzipped or not, or the root that torchvision was
        given. None: `mnist` in the folder that the environment variable RS4A_DATA names,
        or in ~/rs4a_data.

    split : {"train", "test"}, default="train"
        Which images.

    download : bool, default=False
        Whether torchvision may download missing files to root.

    as_arrays : bool, default=True
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shifts training images at random, by up to 2 pixels.

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
    return _load(request, "MNIST", [""], RandomCropAndFlip(padding=2, flip=False))


@loader("fashion_mnist")
def load_fashion_mnist(request: Request) -> Any:
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes [1]_.

    Parameters
    ----------
    root : path-like, default=None
        Folder of the four idx files, gzipped or not, or the root that torchvision was
        given. None: the folder of Debian's package dataset-fashion-mnist, if it is
        installed; else `fashion_mnist` in the folder that the environment variable
        RS4A_DATA names, or in ~/rs4a_data.

    split : {"train", "test"}, default="train"
        Which images.

    download : bool, default=False
        Whether torchvision may download missing files to root.

    as_arrays : bool, default=True
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shifts training images at random, by up to 2 pixels, and mirrors
        half of them.

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
    places = [""] if request.root is not None else [str(_DEBIAN), ""]
    return _load(request, "FashionMNIST", places, RandomCropAndFlip(padding=2))


@loader("digits", ("all", "train", "test"))
def load_digits_images(request: Request) -> Any:
    """Scikit-learn's digits as images: 1797 of them, of 8x8 pixels [1]_.

    Parameters
    ----------
    root : None
        Must be None: the images come with scikit-learn. All loaders have this parameter.

    split : {"all", "train", "test"}, default="all"
        Which images: a fixed, stratified quarter is for testing.

    download : bool, default=False
        Ignored: there is nothing to download.

    as_arrays : bool, default=True
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shifts training images at random, by up to 2 pixels.

    Returns
    -------
    X, y : ndarray of shape (n, 1, 8, 8), float32, and of shape (n,), int64
        Images in [0, 1] and their labels, the digits; or, if not `as_arrays`, one
        `ImageDataset` of them.

    Raises
    ------
    ValueError
        If an option is wrong.

    References
    ----------
    .. [1] Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
       Learning Repository, 1998.

    Examples
    --------
    >>> from rs4a.datasets import load_digits_images
    >>> X, y = load_digits_images(split="test")
    >>> X.shape, y.shape
    ((450, 1, 8, 8), (450,))
    """
    if request.root is not None:
        raise ValueError(
            "root must be None for the digits, which come with scikit-learn, got "
            f"{request.root!r}."
        )
    bunch = load_digits()
    rows = np.arange(len(bunch.target))
    if request.split != "all":
        parts = train_test_split(
            rows, test_size=0.25, stratify=bunch.target, random_state=0
        )
        rows = np.sort(parts[request.split == "test"])
    images = bunch.images[rows, np.newaxis].astype(np.uint8)
    augmentation = RandomCropAndFlip(padding=2, flip=False)
    return request.result(images, bunch.target[rows], augmentation, max_value=16)


def _load(
    request: Request, name: str, places: list[str], augmentation: RandomCropAndFlip
) -> Any:
    """Load the data set that torchvision has under this name."""
    prefix = "t10k" if request.split == "test" else "train"
    names = [f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"]

    def fetch(folder: Path) -> None:
        from torchvision import datasets  # its import takes a second

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
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 * (1 + ndim))
            if header[:4] != magic or len(header) < 4 * (1 + ndim):
                raise ValueError(
                    f"{path} must be an idx file of bytes with {ndim} axes: it begins with "
                    f"{magic.hex()} and {ndim} lengths, got {header.hex() or 'nothing'}."
                )
            shape = tuple(np.frombuffer(header, ">u4")[1:].tolist())
            size = math.prod(shape)
            content = file.read(size + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is no complete gzip file: {error}") from error
    except (MemoryError, OverflowError):
        content = b""
    if len(content) != size:
        raise ValueError(
            f"{path} must hold {size} bytes of data behind its header, for the shape "
            f"{shape}, but has {'more' if len(content) > size else 'fewer'}."
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)
