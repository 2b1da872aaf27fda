"""What the names of published checkpoints say."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from rs4a.networks.dataset_shapes import DATASET_SHAPES

__all__ = ["parse_checkpoint_name"]

_DATASETS = {
    **{name: name for name in DATASET_SHAPES},
    "cifar": "cifar10",
    "fashion": "fashion_mnist",
    "ds-imagenet": "imagenet32",
}
#: Cohen et al.'s nets, each for one data set.
_ARCHITECTURES = {
    "cifar_resnet110": "cifar10",
    "cifar_resnet20": "cifar10",
    "resnet110": "cifar10",
    "resnet20": "cifar10",
    "resnet50": "imagenet",
}
_NOISES = {
    name.lower(): name
    for name in (
        "Gaussian", "Laplace", "Uniform", "Pareto", "Expp", "UniformBall", "Exp2", "Pow2",
        "ExpInf", "PowInf", "Exp1", "Splitting",
    )
}  # fmt: skip
_EXTENSIONS = {".pt", ".pth", ".torch", ".tar", ".ckpt", ".safetensors"}
#: Hundredths of three digits ("050"), a decimal ("0.5"), or one digit ("1").
_SIGMA = r"(?P<sigma>\d{3}|\d+\.\d+|\d)"


def _any_of(names: Iterable[str]) -> str:
    """Pattern of any of these names, of which some begin with others."""
    return "|".join(map(re.escape, sorted(names, key=len, reverse=True)))


#: What else a name may say: "stability" or "v2", but no second noise, number or data set.
_WORDS = rf"(_(?!({_any_of([*_NOISES, *_DATASETS])})(_|$))[a-z][a-z0-9-]*)*"
#: What has a name of Yang et al.'s form, and what that must be to be understood.
_FORM = re.compile(rf"({_any_of(_DATASETS)})_([^_]+_)+{_SIGMA}(_.*)?")
_FULL = re.compile(
    rf"(?P<dataset>{_any_of(_DATASETS)}){_WORDS}_(?P<noise>{_any_of(_NOISES)})_{_SIGMA}"
    f"{_WORDS}"
)
_COHEN_FORM = re.compile(rf"noise_{_SIGMA}(_.*)?")
_COHEN = re.compile(rf"noise_{_SIGMA}{_WORDS}")


def parse_checkpoint_name(path: str | os.PathLike[str]) -> tuple[str, str, float]:
    """Data set, noise and sigma that the name of a checkpoint says.

    The names are those of Yang et al. [2]_, "cifar_uniform_050.pt" or, as a folder,
    "cifar_uniform_0.5", and of Cohen et al. [1]_, "cifar10/resnet110/noise_0.50" for
    Gaussian noise. The last part of the path that has such a form counts. Words between
    the parts or behind them are passed over, as in "cifar_stability_uniform_050"; a second
    noise or number is refused.

    Parameters
    ----------
    path : str or path-like
        Path of a file or folder, which need not exist.

    Returns
    -------
    dataset : str
        A data set of `make_network`.

    noise : str
        Name of a noise's class, such as "Uniform".

    sigma : float
        Its standard deviation.

    Raises
    ------
    ValueError
        If the path does not say all three.

    References
    ----------
    .. [1] Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized
       Smoothing", ICML 2019, arXiv:1902.02918.
    .. [2] Yang, Duan, Hu, Salman, Razenshteyn, Li, "Randomized Smoothing of All Shapes and
       Sizes", ICML 2020, arXiv:2002.08118.

    Examples
    --------
    >>> from rs4a.networks import parse_checkpoint_name
    >>> parse_checkpoint_name("imagenet_laplace_125.pt")
    ('imagenet', 'Laplace', 1.25)
    """
    parts = [_without_extension(part).lower() for part in PurePath(path).parts]
    part = next((each for each in reversed(parts) if _has_known_form(each)), "")
    dataset, noise, digits = _words(part, parts) or ("", "", "000")
    sigma = float(digits) / (100.0 if re.fullmatch(r"\d{3}", digits) else 1.0)
    if sigma > 0.0:
        return dataset, _NOISES[noise], sigma
    raise ValueError(
        "path must say data set, noise and sigma, as 'cifar_uniform_050.pt', the folder "
        "'cifar_uniform_0.5' or 'cifar10/resnet110/noise_0.50' do, with a noise of "
        f"{list(_NOISES.values())} and sigma above 0, got {os.fspath(path)!r}. Give noise= "
        "instead."
    )


def _has_known_form(part: str) -> bool:
    return bool(_FORM.fullmatch(part) or _COHEN_FORM.fullmatch(part))


def _words(part: str, parts: Sequence[str]) -> tuple[str, str, str] | None:
    """Data set, noise and digits of sigma that a part of the path says."""
    if match := _COHEN.fullmatch(part):
        known = {**_DATASETS, **_ARCHITECTURES}
        dataset = next((known[each] for each in reversed(parts) if each in known), None)
        return None if dataset is None else (dataset, "gaussian", match["sigma"])
    if match := _FULL.fullmatch(part):
        return _DATASETS[match["dataset"]], match["noise"], match["sigma"]
    return None


def _without_extension(part: str) -> str:
    """Name without endings of files; that of "noise_0.5" is none."""
    stem, extension = os.path.splitext(part)
    return _without_extension(stem) if extension.lower() in _EXTENSIONS else part
