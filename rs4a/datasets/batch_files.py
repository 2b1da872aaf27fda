"""CIFAR-10, SVHN, ImageNet at 32x32 pixels and tiny images, from their published files."""

import pickle
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from rs4a.datasets.images import RandomCropAndFlip
from rs4a.datasets.loading import Request, check_images, check_labels, loader

_IMAGE_BYTES = 3 * 32 * 32
_BY_HAND_32 = (
    "Register at https://image-net.org, download the data at 32x32 pixels and give their "
    "folder as root."
)
_BY_HAND_TINY = (
    "Download ti_500K_pseudo_labeled.pickle from "
    "https://github.com/yaircarmon/semisup-adv and give its folder as root."
)

_Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


@loader("cifar10")
def load_cifar10(request: Request) -> Any:
    """CIFAR-10: 50,000 training and 10,000 test images of animals and vehicles [1]_.

    The function reads both published versions, "python" and "binary". The pickles of the
    "python" version are read as data only: no name in a file is imported or called.

    Parameters
    ----------
    root : path-like, default=None
        Folder `cifar-10-batches-py` or `cifar-10-batches-bin`, or the folder that holds it.
        None: `cifar10` in the folder that the environment variable RS4A_DATA names, or in
        ~/rs4a_data.

    split : {"train", "test"}, default="train"
        Which images.

    download : bool, default=False
        Whether the function may download missing files to root, 170 MB.

    as_arrays : bool, default=True
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shifts training images at random, by up to 4 pixels, and mirrors
        half of them.

    Returns
    -------
    X, y : ndarray of shape (n, 3, 32, 32), float32, and of shape (n,), int64
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
    .. [1] Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical
       report, University of Toronto, 2009.

    Examples
    --------
    >>> from rs4a.datasets import load_cifar10
    >>> X, y = load_cifar10(split="test", download=True)  # doctest: +SKIP
    """
    names = [f"data_batch_{i}" for i in range(1, 6)]
    if request.split == "test":
        names = ["test_batch"]
    paths = request.find(
        names,
        [f"{name}.bin" for name in names],
        places=["", "cifar-10-batches-py", "cifar-10-batches-bin"],
        fetch=_download_cifar10,
    )
    return request.result(
        *_read_batches(paths, _read_cifar10), RandomCropAndFlip(padding=4)
    )


@loader("imagenet32", by_hand=_BY_HAND_32)
def load_imagenet32(request: Request) -> Any:
    """Downsampled ImageNet: 1,281,167 training and 50,000 test images [1]_.

    The pickles are read as data only: no name in a file is imported or called. The
    training images need 4 GB as a Dataset, and 16 GB as arrays.

    Parameters
    ----------
    root : path-like, default=None
        Folder of `train_data_batch_1` to `train_data_batch_10` and of `val_data`, or the
        folder of `Imagenet32_train` and `Imagenet32_val`. None: `imagenet32` in the
        folder that the environment variable RS4A_DATA names, or in ~/rs4a_data.

    split : {"train", "test"}, default="train"
        Which images; "test" is the validation set.

    download : bool, default=False
        Must be False: the files need a registration.

    as_arrays : bool, default=True
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset mirrors half of the training images, at random.

    Returns
    -------
    X, y : ndarray of shape (n, 3, 32, 32), float32, and of shape (n,), int64
        Images in [0, 1] and their labels, 0 to 999; or, if not `as_arrays`, one
        `ImageDataset` of them.

    Raises
    ------
    FileNotFoundError
        If files are missing.

    ValueError
        If an option is wrong, or a file is damaged.

    References
    ----------
    .. [1] Chrabaszcz, Loshchilov, Hutter, "A Downsampled Variant of ImageNet as an
       Alternative to the CIFAR datasets", 2017, arXiv:1707.08819.

    Examples
    --------
    >>> from rs4a.datasets import load_imagenet32
    >>> dataset = load_imagenet32("/data", as_arrays=False)  # doctest: +SKIP
    """
    place, names = "Imagenet32_train", [f"train_data_batch_{i}" for i in range(1, 11)]
    if request.split == "test":
        place, names = "Imagenet32_val", ["val_data"]
    paths = request.find(names, places=["", place])
    images, labels = _read_batches(paths, partial(_read_pickle, low=1, high=1000))
    return request.result(images, labels - 1, RandomCropAndFlip(padding=0))


@loader("tiny_images_500k", ("train",), _BY_HAND_TINY, arrays_by_default=False)
def load_tiny_images_500k(request: Request) -> Any:
    """500,000 tiny images with pseudo-labels, as more training data for CIFAR-10 [1]_.

    A classifier of CIFAR-10 gave the labels. The pickle is read as data only: no name in
    the file is imported or called. The images need 1.5 GB as a Dataset, and 6 GB as arrays.

    Parameters
    ----------
    root : path-like, default=None
        Folder of `ti_500K_pseudo_labeled.pickle`. None: `tiny_images_500k` in the folder
        that the environment variable RS4A_DATA names, or in ~/rs4a_data.

    split : {"train"}, default="train"
        Which images; there are no test images.

    download : bool, default=False
        Must be False: download the file by hand.

    as_arrays : bool, default=False
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset mirrors half of the images, at random.

    Returns
    -------
    dataset : ImageDataset
        Images and their labels, 0 to 9; or, if `as_arrays`, X of shape (n, 3, 32, 32),
        float32 in [0, 1], and y of shape (n,), int64.

    Raises
    ------
    FileNotFoundError
        If the file is missing.

    ValueError
        If an option is wrong, or the file is damaged.

    References
    ----------
    .. [1] Carmon, Raghunathan, Schmidt, Liang, Duchi, "Unlabeled Data Improves Adversarial
       Robustness", NeurIPS 2019, arXiv:1905.13736.

    Examples
    --------
    >>> from rs4a.datasets import load_tiny_images_500k
    >>> dataset = load_tiny_images_500k("/data", augment=True)  # doctest: +SKIP
    """
    (path,) = request.find(["ti_500K_pseudo_labeled.pickle"])
    images, labels = _read_pickle(path, "extrapolated_targets", shape=(32, 32, 3))
    return request.result(
        images.transpose(0, 3, 1, 2), labels, RandomCropAndFlip(padding=0)
    )


@loader("svhn", ("train", "test", "extra"))
def load_svhn(request: Request) -> Any:
    """SVHN: 73,257 training and 26,032 test images of digits on house fronts [1]_.

    Parameters
    ----------
    root : path-like, default=None
        Folder of `train_32x32.mat` and the other files. None: `svhn` in the folder that the
        environment variable RS4A_DATA names, or in ~/rs4a_data.

    split : {"train", "test", "extra"}, default="train"
        Which images; "extra" are 531,131 more images for training, of easier digits.

    download : bool, default=False
        Whether the function may download a missing file to root.

    as_arrays : bool, default=True
        Whether to return arrays; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset shifts training images at random, by up to 4 pixels.

    Returns
    -------
    X, y : ndarray of shape (n, 3, 32, 32), float32, and of shape (n,), int64
        Images in [0, 1] and their labels, the digits; or, if not `as_arrays`, one
        `ImageDataset` of them.

    Raises
    ------
    FileNotFoundError
        If the file is missing.

    ValueError
        If an option is wrong, or the file is damaged.

    References
    ----------
    .. [1] Netzer, Wang, Coates, Bissacco, Wu, Ng, "Reading Digits in Natural Images with
       Unsupervised Feature Learning", NIPS Workshop on Deep Learning and Unsupervised
       Feature Learning, 2011.

    Examples
    --------
    >>> from rs4a.datasets import load_svhn
    >>> X, y = load_svhn(split="test", download=True)  # doctest: +SKIP
    """

    def fetch(folder: Path) -> None:
        from torchvision import datasets  # its import takes a second

        url, filename, md5 = datasets.SVHN.split_list[request.split]
        datasets.utils.download_url(url, folder, filename, md5)

    (path,) = request.find([f"{request.split}_32x32.mat"], fetch=fetch)
    try:
        content = loadmat(path, variable_names=["X", "y"])
    except Exception as error:  # a damaged file leads to any error
        raise ValueError(f"{path} is no complete Matlab file: {error}") from error
    images: Any = content.get("X")
    check_images(path, "X", images, (32, 32, 3, "n"))
    labels = check_labels(path, np.ravel(content.get("y", [])), images.shape[3], 1, 10)
    augmentation = RandomCropAndFlip(padding=4, flip=False)
    # Label 10 is the digit 0.
    return request.result(images.transpose(3, 2, 0, 1), labels % 10, augmentation)


def _read_batches(paths: Iterable[Path], read: Callable[[Path], _Batch]) -> _Batch:
    """Join the batches of several files, with one of them in memory at a time."""
    # A file holds at most this many images. Memory that nobody writes to costs nothing.
    most = sum(path.stat().st_size for path in paths) // _IMAGE_BYTES
    images = np.empty((most, _IMAGE_BYTES), dtype=np.uint8)
    labels = np.empty(most, dtype=np.int64)
    n_images = 0
    for path in paths:
        batch, batch_labels = read(path)
        rows = slice(n_images, n_images + len(batch))
        images[rows], labels[rows] = batch, batch_labels
        n_images += len(batch)
    return images[:n_images].reshape(n_images, 3, 32, 32), labels[:n_images]


def _read_cifar10(path: Path) -> _Batch:
    if path.suffix != ".bin":
        return _read_pickle(path)
    content = np.fromfile(path, dtype=np.uint8)
    n_bytes = 1 + _IMAGE_BYTES  # the label, then the image
    if len(content) % n_bytes:
        raise ValueError(
            f"{path} must hold records of {n_bytes} bytes, but has {len(content)} bytes."
        )
    records = content.reshape(-1, n_bytes)
    return records[:, 1:], check_labels(path, records[:, 0], len(records), 0, 9)


def _download_cifar10(folder: Path) -> None:
    from torchvision import datasets  # its import takes a second

    source = datasets.CIFAR10
    datasets.utils.download_and_extract_archive(
        source.url, folder, filename=source.filename, md5=source.tgz_md5
    )


# Pickles


def _read_pickle(
    path: Path,
    labels_key: str = "labels",
    low: int = 0,
    high: int = 9,
    shape: tuple[int, ...] = (_IMAGE_BYTES,),
) -> _Batch:
    """Read the images and labels of a pickled batch, a dict with both."""
    try:
        with path.open("rb") as file:
            batch = _Unpickler(file, encoding="latin1").load()
            if isinstance(batch, dict):
                batch = {key: _array(value) for key, value in batch.items()}
    except Exception as error:  # a damaged pickle leads to any error
        raise ValueError(
            f"{path} is no whole pickle of arrays, numbers and strings: {error!r:.200}"
        ) from error
    if not isinstance(batch, dict) or not {"data", labels_key} <= set(batch):
        raise ValueError(f"{path} must be a dict with 'data' and {labels_key!r}.")
    check_images(path, "'data'", batch["data"], ("n", *shape))
    labels = check_labels(path, batch[labels_key], len(batch["data"]), low, high)
    return batch["data"], labels


class _Named:
    """A name in a pickle, or the call of a name. Nothing imports or calls the name.

    numpy's own functions would be unsafe. A file states the flags of a dtype, and numpy
    believes a dtype of objects that claims to hold none: bytes of the file become pointers.
    """

    def __init__(self, name: str, *arguments: Any):
        self.name = name
        self.arguments = arguments
        self.state: Any = None

    def __call__(self, *arguments: Any) -> "_Named":
        return _Named(self.name, *arguments)

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle._Unpickler):
    """Pickle's reader in Python: the reader in C allocates any memory that a file names."""

    def find_class(self, module: str, name: str) -> _Named:
        """Return a stand-in for a name of numpy; refuse other names."""
        if module.partition(".")[0] not in ("numpy", "_codecs"):
            raise ValueError(f"it names {module}.{name}.")
        return _Named(name)

    def get_extension(self, code: int) -> None:
        """Refuse a class to which the running program gave a number."""
        raise ValueError(f"it names the class of number {code}.")


def _array(value: Any) -> Any:
    """Return the array of numbers that a stand-in describes; other values as they are."""
    match value:
        case _Named(name="_reconstruct", state=(_, shape, dtype, is_fortran, data)):
            order: Any = "F" if is_fortran else "C"
        case _Named(name="_frombuffer", arguments=(data, dtype, shape, order)):
            pass
        case _:
            return value
    if isinstance(data, _Named):  # a call that encodes text
        data = data.arguments[0]
    if isinstance(data, str):
        data = data.encode("latin-1")
    code = f"{dtype.state[1]}{dtype.arguments[0]}"
    if not re.fullmatch("[<>|=][biuf][1248]", code):
        raise ValueError(f"an array must hold numbers, got the dtype {code:.20}.")
    return np.frombuffer(data, code).reshape(shape, order=order)
