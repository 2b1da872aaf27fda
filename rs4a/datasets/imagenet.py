"""ImageNet, from folders of its JPEG files."""

from typing import Any

from rs4a.datasets.loading import Request, loader

_BY_HAND = (
    "Register at https://image-net.org, download ILSVRC 2012 and give its folder as root."
)


@loader("imagenet", by_hand=_BY_HAND, arrays_by_default=False)
def load_imagenet(request: Request) -> Any:
    """ImageNet (ILSVRC 2012): 1,281,167 training and 50,000 test images [1]_.

    The Dataset decodes an image at each use, scales its shorter side to 256 pixels, and
    cuts out the 224 x 224 pixels in the middle.

    Parameters
    ----------
    root : path-like, default=None
        Folder that holds, for each split, a folder `train` or `val` with one folder of
        images per class, named alike in both. Names that begin with a dot, and `__MACOSX`,
        are ignored. None: `imagenet` in the folder that the environment variable RS4A_DATA
        names, or in ~/rs4a_data.

    split : {"train", "test"}, default="train"
        Which images; "test" is the validation set.

    download : bool, default=False
        Must be False: the files need a registration.

    as_arrays : bool, default=False
        Whether to return arrays, of 600 kB per image; otherwise a Dataset.

    augment : bool, default=False
        Whether the Dataset cuts and scales a random part of a training image, and mirrors
        half of the images.

    Returns
    -------
    dataset : torchvision.datasets.ImageFolder
        Images (3, 224, 224), float32 in [0, 1], and their labels. A label is the place of
        the class in the sorted names; `targets` has all labels. Or, if `as_arrays`, X of
        shape (n, 3, 224, 224) and y of shape (n,), int64.

    Raises
    ------
    FileNotFoundError
        If there are no images of that split.

    ValueError
        If an option is wrong, images lie in folders that are no classes, or folders that
        are no classes lie beside the classes.

    References
    ----------
    .. [1] Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV
       2015, arXiv:1409.0575.

    Examples
    --------
    >>> from rs4a.datasets import load_imagenet
    >>> dataset = load_imagenet("/data/imagenet", split="test")  # doctest: +SKIP
    """
    from rs4a.datasets.class_folders import ClassFolders  # torchvision takes a second

    folder = request.folder / ("val" if request.split == "test" else "train")
    dataset = ClassFolders(folder, request.augment) if folder.is_dir() else None
    if not dataset:  # or no images in it
        raise FileNotFoundError(f"Found no images {folder}/CLASS/NAME.JPEG. {_BY_HAND}")
    return dataset.arrays() if request.as_arrays else dataset
