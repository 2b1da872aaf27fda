"""Smoothed classifiers from checkpoints of their nets."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator

from rs4a.classifier import SmoothedClassifier
from rs4a.networks import (
    load_checkpoint,
    parse_checkpoint_name,
    read_checkpoint_metadata,
)
from rs4a.networks.dataset_shapes import dataset_shape
from rs4a.noises import Noise
from rs4a.noises.by_name import KNOWN_NOISES, make_noise
from rs4a.training.train import remember_noise
from rs4a.utils.params import from_json

__all__ = ["classifier_from_checkpoint"]


def classifier_from_checkpoint(
    path: str | os.PathLike[str],
    *,
    noise: Noise | None = None,
    network: Mapping[str, Any] | None = None,
    device: str = "cpu",
    **params: Any,
) -> SmoothedClassifier:
    """Smoothed classifier around a trained net in a file, ready to predict and certify.

    It is what ``SmoothedClassifier(FrozenEstimator(net), noise=noise).fit(X, y)`` gives on
    images in [0, 1].

    Parameters
    ----------
    path : str or path-like
        File of weights, as :func:`~rs4a.networks.load_checkpoint` reads it.

    noise : Noise, default=None
        Smoothing noise. None: what the file's metadata say as "noise", or else what its
        name says: "cifar_uniform_050.pt".

    network : dict, default=None
        Further arguments of :func:`~rs4a.networks.load_checkpoint`, such as ``name`` or
        ``input_shape``, for files that do not tell them.

    device : str, default="cpu"
        Device of the net.

    **params : dict
        Further parameters of :class:`~rs4a.SmoothedClassifier`, such as ``bound``,
        ``batch_size`` and ``random_state``.

    Returns
    -------
    classifier : SmoothedClassifier
        Fitted classifier.

    Raises
    ------
    ValueError
        If the file is not a whole checkpoint, or does not say the noise, and neither does
        its name, or it says another template of deterministic splitting than `noise`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skorch import NeuralNetClassifier
    >>> from rs4a.networks import make_network, save_checkpoint
    >>> from rs4a.persistence import classifier_from_checkpoint
    >>> net = NeuralNetClassifier(
    ...     make_network, module__name="MLP", module__dataset="digits"
    ... ).initialize()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "digits_uniform_050.safetensors")
    ...     save_checkpoint(net, path)
    ...     classifier = classifier_from_checkpoint(path, random_state=0)
    >>> classifier.noise_, classifier.input_shape_
    (Uniform(sigma=0.5), (1, 8, 8))
    """
    net = load_checkpoint(path, device=device, **(network or {}))
    stated = read_checkpoint_metadata(Path(path)).get("noise")
    if isinstance(stated, dict) and stated.get("class") == "Splitting":
        remember_noise(net, from_json(stated, KNOWN_NOISES))
    noise = _noise_of_checkpoint(Path(path)) if noise is None else noise
    arguments = net.get_params_for("module")
    names = ("input_shape", "n_classes")
    shape = dataset_shape(
        arguments.get("dataset"), **{name: arguments.get(name) for name in names}
    ).input_shape
    # A frozen net is not trained: two images say shape and scale, fractions of 1 that lie
    # on the grid of noise that has one.
    steps = getattr(noise, "levels", 4)
    values = np.round(steps * np.array([0.25, 0.75])) / steps
    X = np.stack([np.full(shape, value, dtype=np.float32) for value in values])
    classifier = SmoothedClassifier(FrozenEstimator(net), noise=noise, **params)
    return classifier.fit(X, np.asarray(net.classes)[:2])


def _noise_of_checkpoint(path: Path) -> Noise:
    """Noise that a checkpoint's metadata or its name says."""
    metadata = read_checkpoint_metadata(path)
    stored = metadata.get("noise")
    if isinstance(stored, dict):
        return from_json(stored, KNOWN_NOISES)
    if stored is not None:
        return make_noise(str(stored), sigma=metadata.get("sigma"))
    _, name, sigma = parse_checkpoint_name(path.absolute())
    return make_noise(name, sigma=sigma)
