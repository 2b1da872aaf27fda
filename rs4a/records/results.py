"""Certifications with their true labels, in folders."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rs4a.inputs.arrays import as_array
from rs4a.networks import parse_checkpoint_name
from rs4a.networks.dataset_shapes import dataset_shape
from rs4a.noises import Noise
from rs4a.noises.by_name import make_noise
from rs4a.records.certification import Certification
from rs4a.records.predictions import BoundRecord, check_shape
from rs4a.utils.arrays import plain_labels
from rs4a.utils.files import whole_file

_RECORD, _LABELS = "certification.npz", "labels.npy"
_SHARES, _BOUNDS = "preds.npy", "prob_lb.npy"
_PUBLISHED = (_SHARES, _LABELS, _BOUNDS)


def write_results(
    folder: str | os.PathLike[str], certification: Certification, y: ArrayLike
) -> None:
    """Write a certification and the true labels of its inputs into a folder.

    The folder holds no results until all files are written: after an interruption,
    :func:`read_results` finds none, rather than a part or a mixture of two.

    Parameters
    ----------
    folder : str or path-like
        Folder for the files certification.npz and labels.npy, made if it is missing.

    certification : Certification
        The record of the votes.

    y : array-like of shape (n,)
        True labels.

    Raises
    ------
    TypeError
        If `certification` is no Certification.
    ValueError
        If `y` has another length or is no list of numbers or strings, or the folder
        holds results of the paper's code.

    See Also
    --------
    read_results : Reads them.

    Examples
    --------
    >>> import tempfile
    >>> from rs4a import Certification
    >>> from rs4a.noises import Uniform
    >>> from rs4a.records import read_results, write_results
    >>> certification = Certification.from_counts(
    ...     [[990, 10], [700, 300]], labels=[0, 0], noise=Uniform(sigma=0.5), dim=784
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_results(folder, certification, [0, 1])
    ...     restored, y = read_results(folder)
    >>> restored.counts.tolist(), y.tolist()
    ([[990, 10], [700, 300]], [0, 1])
    """
    if not isinstance(certification, Certification):
        raise TypeError(
            f"certification must be a Certification, got {type(certification).__name__}."
        )
    labels = plain_labels("y", as_array(y))
    check_shape("y", labels, len(certification))
    folder = Path(folder)
    if (folder / _SHARES).exists() or (folder / _BOUNDS).exists():
        raise ValueError(
            "folder must not hold results of the paper's code, got "
            f"{folder} with {_SHARES} or {_BOUNDS}."
        )
    folder.mkdir(parents=True, exist_ok=True)
    # The record is removed first and written last: labels beside it are its own.
    (folder / _RECORD).unlink(missing_ok=True)
    with whole_file(folder / _LABELS) as partial, partial.open("wb") as file:
        np.save(file, labels, allow_pickle=False)
    certification.save(folder / _RECORD)


def read_results(
    folder: str | os.PathLike[str],
    *,
    noise: Noise | None = None,
    dim: int | None = None,
    norm: float | None = None,
) -> tuple[Certification | BoundRecord, NDArray]:
    """Read a certification and the true labels of its inputs from a folder.

    It holds the files of :func:`write_results`, or files of the code of Yang et al. [1]_:
    preds.npy, labels.npy and prob_lb.npy. For the latter, the name of the folder states
    noise, sigma and data set, as in "cifar_uniform_0.5", and alpha is 0.001, the value of
    that code. Radii are computed anew from the bounds. Bounds that were rounded to float32
    are lowered by one step. Where two classes share most votes, the files do not say to
    which of them the bound belongs, and it is replaced by 0.

    Parameters
    ----------
    folder : str or path-like
        Folder of the files.

    noise : Noise, default=None
        Noise of the record, if neither the files nor the name of the folder state it. A
        record of this library states its noise, and then no other noise may be given.

    dim : int, default=None
        Number of coordinates of one input, under the same conditions.

    norm : {1, 2, inf}, default=None
        Norm of the adversary, unless a method of the record gets another norm. None: the
        record's own, or else the noise's.

    Returns
    -------
    record : Certification or BoundRecord
        The votes, or the bounds that the files of that code hold.

    y : ndarray of shape (n,)
        True labels.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, the files do not fit each other, a bound is outside [0, 1],
        the noise or its scale is not known, or the record states another noise.

    References
    ----------
    .. [1] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from rs4a.records import read_results
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     folder = Path(parent, "cifar_uniform_0.5")
    ...     folder.mkdir()
    ...     np.save(folder / "preds.npy", np.eye(10, dtype=np.float32)[[3, 8]])
    ...     np.save(folder / "labels.npy", np.array([3.0, 1.0], dtype=np.float32))
    ...     np.save(folder / "prob_lb.npy", np.array([0.99, 0.4], dtype=np.float32))
    ...     record, y = read_results(folder)
    >>> record
    BoundRecord(n=2, noise=Uniform(sigma=0.5), alpha=0.001, norm=l1, abstained=1)
    >>> record.labels, y
    (array([3, 8]), array([3, 1]))
    """
    folder = Path(folder)
    is_own = (folder / _RECORD).exists()
    needed = (_RECORD, _LABELS) if is_own else _PUBLISHED
    missing = [name for name in needed if not (folder / name).exists()]
    if missing:
        raise FileNotFoundError(
            f"{folder} must hold {_RECORD} and {_LABELS}, as write_results writes them, or "
            f"{', '.join(_PUBLISHED)}, as the paper's code does, got no "
            f"{', '.join(missing if is_own else [_RECORD, *missing])}."
        )
    if not is_own:
        return _read_published(folder, noise, dim, norm)
    record = Certification.load(folder / _RECORD, noise=noise)
    if dim not in (None, record.dim):
        raise ValueError(f"dim must be the record's own, {record.dim}, or None, got {dim}.")
    labels = _load_array(folder / _LABELS, len(record))
    return (record if norm is None else record.recompute(norm=norm)), labels


def _read_published(
    folder: Path, noise: Noise | None, dim: int | None, norm: float | None
) -> tuple[BoundRecord, NDArray[np.int64]]:
    shares = _load_array(folder / _SHARES)
    if shares.ndim != 2 or not shares.size:
        raise ValueError(
            f"{folder / _SHARES} must have shape (n, n_classes), got {shares.shape}."
        )
    labels, bounds = (_load_array(folder / name, len(shares)) for name in _PUBLISHED[1:])
    classes = np.arange(shares.shape[1])
    if not np.isin(labels, classes).all():
        raise ValueError(f"{folder / _LABELS} must hold whole numbers up to {classes[-1]}.")
    if bounds.dtype.kind != "f" or not ((bounds >= 0.0) & (bounds <= 1.0)).all():
        raise ValueError(f"{folder / _BOUNDS} must hold probabilities, floats in [0, 1].")
    if bounds.dtype.itemsize < 8:  # rounded, so that they may be above what was proven
        bounds = np.maximum(np.nextafter(bounds, bounds.dtype.type(-1.0)), 0.0)
    is_top = shares == shares.max(axis=1, keepdims=True)
    noise, dim = _noise_and_dim(folder, noise, dim)
    lower = np.where(is_top.sum(axis=1) == 1, bounds, 0.0).astype(np.float64)
    top, proba = shares.argmax(axis=1), shares.astype(np.float64)
    record = BoundRecord(classes, top, lower, noise, dim, norm, proba=proba)
    return record, labels.astype(np.int64)  # that code writes floats


def _noise_and_dim(folder: Path, noise: Noise | None, dim: int | None) -> tuple[Noise, int]:
    """Noise and number of coordinates, as given or from the name of the folder."""
    if noise is not None and dim is not None:
        return noise, dim
    try:
        dataset, name, sigma = parse_checkpoint_name(folder.absolute())
    except ValueError as error:
        raise ValueError(
            f"noise and dim must both be given where the folder's name does not say them, "
            f"got noise={noise} and dim={dim}: {error}"
        ) from error
    if dim is None:
        dim = math.prod(dataset_shape(dataset).input_shape)
    return (make_noise(name, sigma=sigma) if noise is None else noise), dim


def _load_array(path: Path, n: int | None = None) -> NDArray:
    """An array from a file, of n entries if n is given. No code from the file is run."""
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(
            f"{path} is not a whole array of numbers or strings, as numpy.save writes it: "
            f"{type(error).__name__} in reading it."
        ) from error
    if n is not None:
        check_shape(str(path), array, n)
    return array
