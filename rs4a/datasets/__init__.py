"""Image data sets, from the files that their authors publish."""

from rs4a.datasets.batch_files import load_cifar10, load_imagenet32, load_tiny_images_500k
from rs4a.datasets.digits import load_digits_images
from rs4a.datasets.imagenet import load_imagenet
from rs4a.datasets.images import ImageDataset, RandomCropAndFlip
from rs4a.datasets.mnist import load_fashion_mnist, load_mnist
from rs4a.datasets.registry import DATASETS, load_dataset
from rs4a.datasets.svhn import load_svhn

__all__ = [
    "DATASETS",
    "ImageDataset",
    "RandomCropAndFlip",
    "load_cifar10",
    "load_dataset",
    "load_digits_images",
    "load_fashion_mnist",
    "load_imagenet",
    "load_imagenet32",
    "load_mnist",
    "load_svhn",
    "load_tiny_images_500k",
]
