"""Shapes, numbers of classes and channel statistics of the usual data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class DatasetShape(NamedTuple):
    """Inputs in [0, 1] and classes of a data set.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one input: channels, height and width of an image.

    n_classes : int
        Number of classes.

    mean, std : float or array-like of shape (n_channels,), default=0.0 and 1.0
        Mean and standard deviation of every channel, over the training inputs.
    """

    input_shape: tuple[int, ...]
    n_classes: int
    mean: ArrayLike = 0.0
    std: ArrayLike = 1.0


_CIFAR10 = DatasetShape((3, 32, 32), 10, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_IMAGENET = DatasetShape((3, 224, 224), 1000, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

#: Means and standard deviations are those of the published nets, so that a new training can
#: repeat theirs; for "digits", those of the values divided by 16.
DATASET_SHAPES = {
    "mnist": DatasetShape((1, 28, 28), 10, (0.1307,), (0.3081,)),
    "fashion_mnist": DatasetShape((1, 28, 28), 10, (0.2849,), (0.3516,)),
    "cifar10": _CIFAR10,
    "svhn": DatasetShape((3, 32, 32), 10, (0.436, 0.442, 0.471), (0.197, 0.200, 0.196)),
    "imagenet": _IMAGENET,
    "imagenet32": _IMAGENET._replace(input_shape=(3, 32, 32)),
    "tiny_images_500k": _CIFAR10,
    "digits": DatasetShape((1, 8, 8), 10, (0.3053,), (0.3760,)),
}


def dataset_shape(dataset: str | None, **fields: Any) -> DatasetShape:
    """Shape of a data set by its name, or as given.

    Parameters
    ----------
    dataset : str or None
        Key of `DATASET_SHAPES`. None: `input_shape` and `n_classes` must be given.

    **fields
        Fields of a `DatasetShape` that the data set does not decide; None: it does.

    Returns
    -------
    shape : DatasetShape
        Checked.

    Raises
    ------
    ValueError
        If the data set is unknown, a field is missing, or the fields do not fit each other.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    if dataset is None:
        if not {"input_shape", "n_classes"} <= given.keys():
            raise ValueError(
                "input_shape and n_classes must be given where dataset is None, got "
                f"{fields.get('input_shape')!r} and {fields.get('n_classes')!r}."
            )
        return _checked(DatasetShape(**given))
    if dataset not in DATASET_SHAPES:
        raise ValueError(
            f"dataset must be one of {list(DATASET_SHAPES)}, got {dataset!r}. For another "
            "data set, give input_shape and n_classes."
        )
    return _checked(DATASET_SHAPES[dataset]._replace(**given))


def _checked(shape: DatasetShape) -> DatasetShape:
    input_shape: Any = shape.input_shape
    n_classes: Any = shape.n_classes
    sizes: tuple[Any, ...] = tuple(input_shape) if isinstance(input_shape, Sequence) else ()
    if not sizes or not all(isinstance(n, int | np.integer) and n >= 1 for n in sizes):
        raise ValueError(
            f"input_shape must be a sequence of ints >= 1, got {input_shape!r}."
        )
    if not isinstance(n_classes, int | np.integer) or n_classes < 2:
        raise ValueError(f"n_classes must be an int >= 2, got {n_classes!r}.")
    channels = (sizes[0],) if len(sizes) == 3 else ()
    for name, values in (("mean", shape.mean), ("std", shape.std)):
        if np.shape(values) not in ((), channels):
            raise ValueError(
                f"{name} must be a float, or one for every channel of images of shape "
                f"(channels, height, width), got {values!r} for input_shape "
                f"{sizes}."
            )
    return shape._replace(input_shape=tuple(map(int, sizes)), n_classes=int(n_classes))
