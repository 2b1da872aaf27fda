"""What the names of checkpoints say, and what they do not."""

from pathlib import Path

import pytest

from rs4a import noises
from rs4a.networks import parse_checkpoint_name
from rs4a.networks.published_names import _NOISES


@pytest.mark.parametrize(
    ("path", "dataset", "noise", "sigma"),
    [
        ("cifar_uniform_050.pt", "cifar10", "Uniform", 0.5),
        ("pretrain/imagenet_laplace_125.pt", "imagenet", "Laplace", 1.25),
        ("cifar_gaussian_015.pt", "cifar10", "Gaussian", 0.15),
        ("imagenet_uniform_350.pt", "imagenet", "Uniform", 3.5),
        ("cifar_uniform_050_stability.pt", "cifar10", "Uniform", 0.5),
        ("cifar_uniform_0.5_pre_trained", "cifar10", "Uniform", 0.5),
        ("cifar_uniform_050_v2_pre-trained", "cifar10", "Uniform", 0.5),
        ("cifar_stability_uniform_050.pt", "cifar10", "Uniform", 0.5),
        ("cifar_pretrained_uniform_050", "cifar10", "Uniform", 0.5),
        ("fashion_mnist_big_expp_0.5_stability", "fashion_mnist", "Expp", 0.5),
        ("resnet110/noise_0.50_stability", "cifar10", "Gaussian", 0.5),
        ("cifar_uniform_0.5", "cifar10", "Uniform", 0.5),
        ("ckpts/cifar_uniform_2.25/model_ckpt.torch", "cifar10", "Uniform", 2.25),
        ("cifar_uniform_0.5/49/model_ckpt.torch", "cifar10", "Uniform", 0.5),
        ("cifar_uniform_1", "cifar10", "Uniform", 1.0),
        ("fashion_expinf_0.5", "fashion_mnist", "ExpInf", 0.5),
        ("fashion_mnist_UniformBall_0.5.safetensors", "fashion_mnist", "UniformBall", 0.5),
        ("ds-imagenet_exp2_1.0", "imagenet32", "Exp2", 1.0),
        ("tiny_images_500k_gaussian_025.pth", "tiny_images_500k", "Gaussian", 0.25),
        ("SVHN_SPLITTING_100.PT", "svhn", "Splitting", 1.0),
        ("cifar10/resnet110/noise_0.50/checkpoint.pth.tar", "cifar10", "Gaussian", 0.5),
        ("m/imagenet/resnet50/noise_0.25/checkpoint.pth.tar", "imagenet", "Gaussian", 0.25),
        ("/m/resnet110/noise_0.50/checkpoint.pth.tar", "cifar10", "Gaussian", 0.5),
        ("resnet50/noise_1.00", "imagenet", "Gaussian", 1.0),
        ("resnet50/noise_1.00.pth.tar", "imagenet", "Gaussian", 1.0),
        ("imagenet/cifar_uniform_0.5/noise.pt", "cifar10", "Uniform", 0.5),
        ("cifar_uniform_0.5/svhn_laplace_025.pt", "svhn", "Laplace", 0.25),
    ],
)
def test_published_names(path, dataset, noise, sigma):
    assert parse_checkpoint_name(path) == (dataset, noise, sigma)
    assert parse_checkpoint_name(Path(path)) == (dataset, noise, sigma)


@pytest.mark.parametrize("noise", _NOISES.values())
def test_names_are_those_of_the_noises(noise):
    assert parse_checkpoint_name(f"cifar_{noise.lower()}_050.pt")[1] == noise
    assert noise in noises.__all__


@pytest.mark.parametrize(
    "path",
    [
        "model_ckpt.torch",
        "cifar_uniform.pt",
        "cifar_050.pt",
        "uniform_050.pt",
        "cifar_unknown_050.pt",
        "cifar_uniform_0.5/cifar_unknown_050.pt",
        "wikipedia_uniform_050.pt",
        "cifar_uniform_0.25_gaussian_1.0",
        "cifar_uniform_0.25_gaussian",
        "cifar_uniform_025_100",
        "cifar_uniform_025_pre_1.0",
        "cifar_uniform_025_sigma1.0",
        "cifar_gaussian_uniform_050",
        "cifar_050_uniform_025",
        "cifar_uniform_050_svhn",
        "cifar_imagenet_uniform_050",
        "cifar_uniform_0.5/cifar_uniform_0.25_gaussian_1.0.pt",
        "resnet110/noise_0.25_uniform_0.5",
        "cifar_uniform_0.5/resnet110/noise_0.25_0.5",
        "cifar_uniform_000.pt",
        "cifar_uniform_0.0",
        "cifar_uniform_05.pt",
        "cifar_uniform_0500.pt",
        "cifar_uniform_-0.5",
        "cifar_uniform_nan",
        "somewhere/noise_0.50/checkpoint.pth.tar",
        "cifar10/resnet110/noise_0.00/checkpoint.pth.tar",
        "",
    ],
)
def test_other_names_are_refused(path):
    with pytest.raises(ValueError, match=r"path must say .*, got '.*Give noise= instead"):
        parse_checkpoint_name(path)
