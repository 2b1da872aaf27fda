"""Labelled images as a torch Dataset, and their augmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset


def _as_fractions(values: NDArray[np.uint8], max_value: Any = 255) -> NDArray[np.float32]:
    """Return bytes as C-contiguous float32 in [0, 1]: the nearest to value / max_value."""
    fractions = np.empty(values.shape, dtype=np.float32)
    return np.divide(values, max_value, out=fractions, dtype=np.float32)


class RandomCropAndFlip:
    """Random shift and mirror image, the usual augmentation of small images.

    Zeros pad the image on all sides, and a window of the old size is cut out at random;
    then left and right change places in half of all cases. The draws are those of torch's
    global generator.

    Parameters
    ----------
    padding : int, default=4
        Largest shift in pixels, in every direction; 0: the image stays in place.

    flip : bool, default=True
        Whether to mirror. A mirrored digit is no digit.

    Examples
    --------
    >>> import torch
    >>> from rs4a.datasets import RandomCropAndFlip
    >>> RandomCropAndFlip(padding=2, flip=False)(torch.rand(1, 28, 28)).shape
    torch.Size([1, 28, 28])
    """

    def __init__(self, padding: int = 4, flip: bool = True):
        if not isinstance(padding, int) or padding < 0:
            raise ValueError(f"padding must be an int of at least 0, got {padding!r}.")
        self.padding = padding
        self.flip = flip

    def __repr__(self) -> str:
        return f"RandomCropAndFlip(padding={self.padding}, flip={self.flip})"

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return a random version of one image.

        Parameters
        ----------
        image : torch.Tensor of shape (c, h, w)
            Image; the method does not change it.

        Returns
        -------
        image : torch.Tensor of shape (c, h, w)
            Random version.
        """
        height, width = image.shape[-2:]
        padded = torch.nn.functional.pad(image, 4 * [self.padding])
        top, left = torch.randint(2 * self.padding + 1, (2,)).tolist()
        window = padded[..., top : top + height, left : left + width]
        return window.flip(-1) if self.flip and torch.rand(()) < 0.5 else window


class ImageDataset(Dataset[tuple[torch.Tensor, int]]):
    """Labelled images, stored as bytes and scaled to [0, 1] one by one.

    Bytes need a quarter of the memory of floats. The images may be a view of other memory,
    or read-only: the Dataset never writes to them.

    Parameters
    ----------
    images : ndarray of shape (n, c, h, w), uint8
        Images.

    targets : array-like of shape (n,), int
        Labels of the images.

    transform : callable, default=None
        Takes a tensor (c, h, w) in [0, 1] and returns a tensor, as `RandomCropAndFlip`
        does. None: the image stays as it is.

    max_value : int, default=255
        Byte that becomes 1.0.

    Attributes
    ----------
    targets : ndarray of shape (n,), int64
        Labels.

    Raises
    ------
    ValueError
        If `images` are no bytes of that shape, or `targets` have another length.

    Examples
    --------
    >>> import numpy as np
    >>> from rs4a.datasets import ImageDataset
    >>> dataset = ImageDataset(np.full((5, 1, 2, 2), 51, dtype=np.uint8), [0, 1, 0, 1, 1])
    >>> image, target = dataset[1]
    >>> image
    tensor([[[0.2000, 0.2000],
             [0.2000, 0.2000]]])
    >>> target
    1
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        targets: ArrayLike,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        max_value: int = 255,
    ):
        if images.ndim != 4 or images.dtype != np.uint8:
            raise ValueError(
                "images must be bytes (uint8) of shape (n, c, h, w), got "
                f"{images.dtype} of shape {images.shape}."
            )
        self.images = images
        self.targets = np.asarray(targets, dtype=np.int64)
        if self.targets.shape != (len(images),):
            raise ValueError(
                f"targets must have one entry for each of {len(images)} images, got shape "
                f"{self.targets.shape}."
            )
        self.transform = transform
        self.max_value = max_value

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = torch.from_numpy(_as_fractions(self.images[index], self.max_value))
        if self.transform is not None:
            image = self.transform(image)
        return image, int(self.targets[index])

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """All images and labels at once, without the transform.

        Returns
        -------
        X : ndarray of shape (n, c, h, w), float32
            Images in [0, 1], C-contiguous.

        y : ndarray of shape (n,), int64
            Labels.
        """
        return _as_fractions(self.images, self.max_value), self.targets
