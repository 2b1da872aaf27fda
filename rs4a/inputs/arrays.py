"""Inputs and labels of estimators: anything array-like becomes numpy."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import (
    check_array,
    column_or_1d,
    validate_data,
)
from skorch.dataset import Dataset as SkorchDataset
from torch.utils.data import DataLoader

from rs4a.inputs.datasets import (
    Check,
    KnownLabels,
    LabelledInputs,
    LazyInputs,
    MappedRows,
    by_rows,
    dataset_labels,
    is_dataset,
    sample_inputs,
)
from rs4a.utils.checks import check_floating_point

#: From this number of columns on, a row of whole numbers has another scale.
_WIDE = 16
#: Numbers that are rounded at a time.
_PART = 2**20


def as_array(values: Any) -> Any:
    """Return torch tensors as numpy arrays, from any device; leave the rest as it is."""
    if not isinstance(values, torch.Tensor):
        return values
    values = values.detach().cpu()
    return (values.float() if values.is_floating_point() else values).numpy()


def check_inputs(
    estimator: Any, X: Any, *, reset: bool, also: Check | None = None, **kwargs: Any
) -> Any:
    """Validate X, and y if given, as scikit-learn does; X may hold images.

    A fit (`reset`) stores the shape of an input as `input_shape_`, and whether the inputs
    were fractions in [0, 1] as `unit_range_`. Later inputs must agree.

    Parameters
    ----------
    estimator : BaseEstimator
        Estimator that gets `n_features_in_` and the attributes above.

    X : array-like of shape (n, d) or (n, ..., h, w), or Dataset
        Inputs: numpy, pandas or torch. Inputs of a Dataset or a memory-mapped array are
        read and checked when they are needed.

    reset : bool
        Whether this is a fit.

    also : callable, default=None
        Called with the inputs, or with each input of a Dataset that is read; raises an
        error if an input is wrong.

    **kwargs : dict
        Further arguments of :func:`sklearn.utils.validation.validate_data`, y above all.

    Returns
    -------
    X : ndarray of shape (n, ...), float32, or LazyInputs
        C-contiguous; with y, if that was given.

    Raises
    ------
    ValueError
        If X has the wrong shape or scale, or holds NaN or infinity.
    """
    _check_kind(X)
    X = by_rows(X)
    if isinstance(X, MappedRows):  # the shape is known before an input is read
        shape = X.array.shape
        _check_shape(estimator, shape)
        like_one = np.zeros((1, *shape[1:]), dtype=np.float32)
        validate_data(estimator, like_one, reset=False, allow_nd=True)
    if is_dataset(X):
        return LazyInputs(X, _like_fit(estimator, also))
    X = as_array(X)
    if issparse(X):
        check_array(X)  # refuses X
    seen = np.asarray(X)  # validate_data gets the X of the user
    if not reset:
        _check_shape(estimator, seen.shape)
    check_floating_point(seen.dtype, seen.ndim)
    options = {"dtype": np.float32, "order": "C", "allow_nd": True, **kwargs}
    # torch takes no read-only memory.
    checked = validate_data(estimator, X, reset=reset, force_writeable=True, **options)
    values = checked[0] if isinstance(checked, tuple) else checked
    if reset:
        estimator.input_shape_ = values.shape[1:]
        estimator.unit_range_ = _holds_fractions(values)
    elif estimator.unit_range_:
        _refuse_bytes(values)
    if also is not None:
        also(values)
    return checked


def _check_kind(X: Any) -> None:
    """Refuse loaders and dicts, and name the form that is accepted."""
    if isinstance(X, DataLoader):
        raise TypeError(
            f"X must be an array or a torch Dataset, got a {type(X).__name__}. Give its "
            "Dataset, loader.dataset; the net's batch_size and iterator_train__ parameters "
            "set how the Dataset is read."
        )
    if isinstance(X, Mapping):
        raise TypeError(
            f"X must be one array or a torch Dataset, got a {type(X).__name__} with "
            f"{list(X)[:5]!r}. Give the inputs alone, and weights as sample_weight of fit."
        )


def check_training_data(
    estimator: Any, X: Any, y: Any, *, reset: bool
) -> tuple[NDArray[np.float32], Any, NDArray]:
    """Validate inputs and labels to train on: arrays in full, Datasets by a sample.

    Parameters
    ----------
    estimator : BaseEstimator
        Estimator that gets the attributes of :func:`check_inputs`.

    X : array-like of shape (n, d) or (n, ..., h, w), or Dataset
        Inputs.

    y : array-like of shape (n,) or None
        Labels. None: those of a Dataset.

    reset : bool
        Whether this is the first training.

    Returns
    -------
    sample : ndarray of shape (n_sample, ...), float32
        Inputs to try a net on: all inputs of an array, or some of a Dataset or
        memory-mapped array.

    X : ndarray of shape (n, ...), float32, or Dataset
        The inputs.

    y : ndarray of shape (n,)
        Labels.

    Raises
    ------
    ValueError
        If inputs or labels are not as described.
    """
    _check_kind(X)
    X = by_rows(X)
    if not is_dataset(X):
        inputs, labels = check_inputs(estimator, X, y=as_array(y), reset=reset)
        return inputs, inputs, labels
    labels = column_or_1d(as_array(dataset_labels(X, y)), warn=True)
    inputs = KnownLabels(X, labels) if y is None else X
    return check_inputs(estimator, sample_inputs(inputs), reset=reset), inputs, labels


def labelled(
    estimator: Any,
    X: Any,
    targets: NDArray[np.int64],
    weights: NDArray[np.float64] | None = None,
) -> Any:
    """Return inputs in the form that a net trains on.

    A Dataset is joined with its targets, and inputs of any kind with their weights, unless
    all weights are the same.
    """
    if weights is not None:
        weights = None if (weights == weights[0]).all() else weights / weights.mean()
    if weights is None and not is_dataset(X):
        return X
    return LabelledInputs(X, targets, _like_fit(estimator), weights)


def check_weights(sample_weight: Any, n: int) -> NDArray[np.float64] | None:
    """Validate the weights of inputs.

    Parameters
    ----------
    sample_weight : array-like of shape (n,) or None
        Weights.

    n : int
        Number of inputs.

    Returns
    -------
    weights : ndarray of shape (n,), float64, or None
        The same.

    Raises
    ------
    ValueError
        If they are not one number per input, finite and not negative, or all of them are 0.
    """
    if sample_weight is None:
        return None
    weights = np.asarray(as_array(sample_weight))
    if weights.shape != (n,) or weights.dtype.kind not in "biufO":
        raise ValueError(
            f"sample_weight must have one number for each of the {n} inputs, shape ({n},), "
            f"got shape {weights.shape} and dtype {weights.dtype}."
        )
    weights = weights.astype(np.float64)
    bad = weights[~(np.isfinite(weights) & (weights >= 0.0))]
    if len(bad):
        raise ValueError(f"sample_weight must be finite and at least 0, got {bad[0]:g}.")
    if n and not weights.any():
        raise ValueError("sample_weight must not be zero for all inputs.")
    return weights


def validation_set(
    estimator: Any, dataset: Any, to_targets: Callable[[NDArray], NDArray[np.int64]]
) -> Any:
    """Return a data set of a net's `train_split` with the targets of the training.

    Parameters
    ----------
    estimator : BaseEstimator
        Estimator with the attributes that `check_inputs` sets.

    dataset : torch.utils.data.Dataset
        Inputs with their labels, of the kind that `fit` takes.

    to_targets : callable
        Returns the indices of the classes of labels.

    Returns
    -------
    dataset : torch.utils.data.Dataset
        Its items are pairs of an input in float32 and the index of its class.

    Raises
    ------
    ValueError
        If an input is not as in `fit`, or there is no label or an unknown one.
    """
    if not is_dataset(dataset):
        raise TypeError(
            "train_split must give torch Datasets for training and validation, got "
            f"{type(dataset).__name__}."
        )
    try:
        labels = column_or_1d(as_array(dataset_labels(dataset, None)))
        targets = to_targets(labels)
        if type(dataset) is SkorchDataset and isinstance(dataset.X, np.ndarray):
            return SkorchDataset(check_inputs(estimator, dataset.X, reset=False), targets)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "train_split must give data sets like X and y, got a "
            f"{type(dataset).__name__}: {error}"
        ) from error
    return labelled(estimator, KnownLabels(dataset, labels), targets)


def lost_by_rounding(X: Any, order: float) -> tuple[float, float]:
    """Largest distances by which rounding to float32 moves an input, and a coordinate.

    Parameters
    ----------
    X : array-like of shape (n, d) or (n, ..., h, w), or Dataset
        Inputs that `check_inputs` accepted. Inputs that are read when they are needed
        count as float32.

    order : float
        Order of the norm.

    Returns
    -------
    largest_norm : float
        Largest norm of what an input loses.

    largest : float
        Largest loss of a coordinate.
    """
    X = by_rows(X)
    if is_dataset(X):
        return 0.0, 0.0
    values = X.detach().cpu() if isinstance(X, torch.Tensor) else np.asarray(X)
    if values.dtype.itemsize <= (4 if "float" in str(values.dtype) else 2):
        return 0.0, 0.0
    largest_norm = largest = 0.0
    values = np.asarray(values)
    for part in np.array_split(values, min(-(-values.size // _PART), len(values))):
        exact = np.asarray(part, dtype=np.float64)
        lost = np.abs(exact - exact.astype(np.float32)).reshape(len(exact), -1)
        norms = np.linalg.norm(lost, order, axis=1)
        largest_norm = max(largest_norm, float(norms.max()))
        largest = max(largest, float(lost.max()))
    return largest_norm, largest


def _like_fit(estimator: Any, also: Check | None = None) -> Check:
    return partial(_check_one, estimator.input_shape_, estimator.unit_range_, also)


def _check_one(
    shape: tuple[int, ...],
    unit_range: bool,
    also: Check | None,
    values: NDArray[np.float32],
) -> None:
    """Refuse an input of a Dataset that differs in kind from the inputs of the fit."""
    if values.shape != shape:
        raise ValueError(
            f"X must hold inputs of shape {shape}, as in fit, got {values.shape}."
        )
    if unit_range:
        _refuse_bytes(values[np.newaxis])
    if also is not None:
        also(values)


def _check_shape(estimator: Any, shape: tuple[int, ...]) -> None:
    expected = estimator.input_shape_
    tabular = len(expected) == 1 and len(shape) == 2  # validate_data has a better error
    if shape[1:] == expected or tabular or len(shape) < 2:
        return
    hint = " Add the batch axis: X[None]." if shape == expected else ""
    wanted = ", ".join(map(str, expected))
    raise ValueError(f"X must have shape (n, {wanted}), as in fit, got {shape}.{hint}")


def _holds_fractions(X: NDArray[np.float32]) -> bool:
    """Whether values lie in [0, 1] and are not all whole numbers."""
    in_range = X.min() >= 0.0 and X.max() <= 1.0
    return bool(in_range and not np.array_equal(X, np.rint(X)))


def _refuse_bytes(X: NDArray[np.float32]) -> None:
    """Refuse inputs of whole numbers up to 255 where fit saw fractions in [0, 1]."""
    # A narrow table may hold rows of small whole numbers; images hardly do.
    largest = 1.0 if X.ndim > 2 or X.shape[1] >= _WIDE else 16.0
    rows = X.reshape(len(X), -1)
    top = rows.max(axis=1)
    rows = rows[(largest < top) & (top <= 255.0)]
    bytes_only = (rows >= 0.0).all(axis=1) & (rows == np.rint(rows)).all(axis=1)
    if bytes_only.any():
        highest = rows[bytes_only].max()
        divisor = 16 if highest <= 16.0 else 255
        raise ValueError(
            f"X must have the scale that fit saw, [0, 1], got whole numbers up to "
            f"{highest:g}. Scale it as then, by X / {divisor} perhaps."
        )
