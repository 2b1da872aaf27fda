"""Inputs and labels of estimators: anything array-like becomes numpy."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

__all__ = ["as_array", "check_inputs"]


def as_array(values: Any) -> Any:
    """Return torch tensors as numpy arrays, from any device; leave the rest as it is."""
    if not isinstance(values, torch.Tensor):
        return values
    values = values.detach().cpu()
    return (values.float() if values.is_floating_point() else values).numpy()


def check_inputs(estimator: Any, X: Any, *, reset: bool, **kwargs: Any) -> Any:
    """Validate X, and y where it is given, as scikit-learn does; images are welcome.

    At fit (`reset`) the shape of an input is stored as `input_shape_`, and whether the
    inputs were fractions in [0, 1] as `unit_range_`; later inputs must agree.

    Parameters
    ----------
    estimator : BaseEstimator
        Estimator that gets `n_features_in_` and the attributes above.

    X : array-like of shape (n, d) or (n, ..., h, w)
        Inputs: numpy, pandas or torch.

    reset : bool
        Whether this is a fit.

    **kwargs : dict
        Further arguments of :func:`sklearn.utils.validation.validate_data`, y above all.

    Returns
    -------
    X : ndarray of shape (n, ...), float32
        C-contiguous; with y, if that was given.

    Raises
    ------
    ValueError
        If X has the wrong shape or scale, or holds NaN or infinity.
    """
    X = as_array(X)
    plain = np.asarray(X)  # for looking at; validate_data gets what the user gave
    if not reset:
        _check_shape(estimator, plain.shape)
    if plain.dtype.kind in "iu" and plain.ndim > 2:
        raise ValueError(
            f"X must hold floating-point images, got dtype {plain.dtype}. sigma "
            "and radii are in units of X: scale the images as the net knows them, X / 255 "
            "for bytes, or keep this scale by X.astype('float32')."
        )
    checked = validate_data(
        estimator, X, reset=reset, dtype=np.float32, order="C", allow_nd=True, **kwargs
    )
    values = checked[0] if isinstance(checked, tuple) else checked
    if not values.flags.writeable:  # torch takes no read-only memory
        values = values.copy()
        checked = (values, *checked[1:]) if isinstance(checked, tuple) else values
    if reset:
        estimator.input_shape_ = values.shape[1:]
        estimator.unit_range_ = _holds_fractions(values)
    elif estimator.unit_range_:
        _refuse_bytes(values)
    return checked


def _check_shape(estimator: Any, shape: tuple[int, ...]) -> None:
    expected = estimator.input_shape_
    tabular = len(expected) == 1 and len(shape) == 2  # validate_data says it better
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
    """Refuse whole numbers up to 255 where fit saw fractions in [0, 1]."""
    # A table may well hold a row of small whole numbers; an image hardly does.
    largest = 1.0 if X.ndim > 2 else 16.0
    if largest < X.max() <= 255.0 and X.min() >= 0.0 and np.array_equal(X, np.rint(X)):
        raise ValueError(
            f"X must have the scale that fit saw, [0, 1], got whole numbers up to "
            f"{X.max():g}. Scale it likewise: X / 255 for bytes."
        )
