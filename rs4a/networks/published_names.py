"""Names of published checkpoints."""

import os
import re
from collections.abc import Iterable
from pathlib import PurePath

from rs4a.networks.dataset_shapes import DATASET_SHAPES

_DATASETS = {
    **{name: name for name in DATASET_SHAPES},
    "cifar": "cifar10",
    "fashion": "fashion_mnist",
    "ds-imagenet": "imagenet32",
}
#: Data sets by the names of folders above Cohen et al.'s files.
_FOLDERS = {
    **_DATASETS,
    **{f"{prefix}resnet{n}": "cifar10" for prefix in ("", "cifar_") for n in (20, 110)},
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


def _any_of(names: Iterable[str]) -> str:
    """Pattern of any of these names, of which some begin with others."""
    return "|".join(map(re.escape, sorted(names, key=len, reverse=True)))


#: Hundredths of three digits ("050"), a decimal ("0.5"), or one digit ("1").
_SIGMA = r"(?P<sigma>\d{3}|\d+\.\d+|\d)"
#: Other words of a name: "stability" or "v2", but no second noise, number or data set.
_WORDS = rf"(_(?!({_any_of([*_NOISES, *_DATASETS])})(_|$))[a-z][a-z0-9-]*)*"
#: Form of a name by Yang et al. or Cohen et al., and the names that can be read.
_FORM = re.compile(rf"(({_any_of(_DATASETS)})_([^_]+_)+|noise_){_SIGMA}(_.*)?")
_NAME = re.compile(
    rf"((?P<dataset>{_any_of(_DATASETS)}){_WORDS}_(?P<noise>{_any_of(_NOISES)})|noise)"
    f"_{_SIGMA}{_WORDS}"
)


def parse_checkpoint_name(path: str | os.PathLike[str]) -> tuple[str, str, float]:
    """Data set, noise and sigma in the name of a checkpoint.

    The names are those of Yang et al. [2]_, "cifar_uniform_050.pt" or, as a folder,
    "cifar_uniform_0.5", and of Cohen et al. [1]_, "cifar10/resnet110/noise_0.50" for
    Gaussian noise. The function reads the last part of the path that has such a form. It
    ignores words between the parts or behind them, as in "cifar_stability_uniform_050", and
    refuses a second noise or number.

    Parameters
    ----------
    path : str or path-like
        Path of a file or folder, which need not exist.

    Returns
    -------
    dataset : str
        A data set of `make_network`.

    noise : str
        Name of the class of the noise, such as "Uniform".

    sigma : float
        Standard deviation of the noise.

    Raises
    ------
    ValueError
        If the path does not name all three.

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
    part = next((each for each in reversed(parts) if _FORM.fullmatch(each)), "")
    if match := _NAME.fullmatch(part):
        above = [_FOLDERS[each] for each in parts if each in _FOLDERS]
        named = [_DATASETS[match["dataset"]]] if match["dataset"] else above
        digits = match["sigma"]
        sigma = float(digits) / (100.0 if re.fullmatch(r"\d{3}", digits) else 1.0)
        if named and sigma > 0.0:
            return named[-1], _NOISES[match["noise"] or "gaussian"], sigma
    raise ValueError(
        "path must say data set, noise and sigma, as 'cifar_uniform_050.pt', the folder "
        "'cifar_uniform_0.5' or 'cifar10/resnet110/noise_0.50' do, with a noise of "
        f"{list(_NOISES.values())} and sigma above 0, got {os.fspath(path)!r}. Give noise= "
        "instead."
    )


def _without_extension(part: str) -> str:
    """Name without endings of files; ".5" of "noise_0.5" is no ending."""
    stem, extension = os.path.splitext(part)
    return _without_extension(stem) if extension.lower() in _EXTENSIONS else part
