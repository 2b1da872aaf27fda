"""Data recipes: fine-tuning a pre-trained net, and labelling extra images."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import _safe_indexing, check_consistent_length, check_random_state
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rs4a.inputs.arrays import as_array

__all__ = ["replace_last_layer", "with_pseudo_labels"]


def replace_last_layer(
    module: nn.Module,
    n_classes: int,
    *,
    name: str | None = None,
    freeze: bool = False,
    random_state: Any = None,
) -> nn.Module:
    """Copy a trained module, with a new last layer for other classes.

    A skorch net that is given the copy, in place of a class, starts from its weights, in
    `SmoothedClassifier.fit` and in every fold of a search too.

    Parameters
    ----------
    module : torch.nn.Module
        Trained module; it stays as it is.

    n_classes : int
        Number of outputs of the new layer.

    name : str, default=None
        Name of the layer that is replaced, a :class:`torch.nn.Linear`, as in
        `named_modules`. None: the one that was registered last.

    freeze : bool, default=False
        Whether all other layers shall keep their weights, and batch normalisations their
        running statistics, in training.

    random_state : int, RandomState instance or None, default=None
        Seed of the new weights, which are drawn as torch does by default.

    Returns
    -------
    module : torch.nn.Module
        The copy.

    Raises
    ------
    ValueError
        If there is no such linear layer, or `n_classes` is below 2.

    References
    ----------
    .. [1] Hendrycks, Lee, Mazeika, "Using Pre-Training Can Improve Model Robustness and
       Uncertainty", ICML 2019, arXiv:1901.09960, as in the experiments of Yang et al.,
       ICML 2020, arXiv:2002.08118.

    Examples
    --------
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from rs4a.networks import LeNet
    >>> from rs4a.training import replace_last_layer
    >>> pretrained = LeNet((1, 28, 28), n_classes=1000)  # trained elsewhere
    >>> module = replace_last_layer(pretrained, n_classes=10, random_state=0)
    >>> module.fc3.out_features
    10
    >>> net = NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss)
    """
    if n_classes < 2:
        raise ValueError(f"n_classes must be at least 2, got {n_classes!r}.")
    layers = {
        key: each for key, each in module.named_modules() if isinstance(each, nn.Linear)
    }
    if not layers or (name is not None and name not in layers):
        wanted = "" if name is None else f" {name!r}"
        raise ValueError(
            f"module must have a linear layer{wanted} to replace, got "
            f"{type(module).__name__} with linear layers {list(layers)}."
        )
    name = list(layers)[-1] if name is None else name
    tuned = copy.deepcopy(module)
    if freeze:
        _freeze(tuned)
    layer = _new_layer(layers[name], n_classes, random_state)
    if not name:  # the module is the layer
        return layer
    tuned.set_submodule(name, layer)
    return tuned


def _freeze(module: nn.Module) -> None:
    module.requires_grad_(False)
    for each in module.modules():
        if isinstance(each, _BatchNorm):
            each.momentum = 0.0  # the share of a new batch in the running statistics


def _new_layer(old: nn.Linear, n_classes: int, random_state: Any) -> nn.Linear:
    seed = int(check_random_state(random_state).randint(2**31))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Linear(old.in_features, n_classes, bias=old.bias is not None)
    return layer.to(device=old.weight.device, dtype=old.weight.dtype)


def with_pseudo_labels(
    teacher: Any,
    X: ArrayLike,
    y: ArrayLike,
    X_extra: ArrayLike,
    *,
    min_share: float = 0.0,
) -> tuple[NDArray, NDArray]:
    """Labelled inputs, and extra ones with the labels that a fitted classifier gives.

    Self-training: the next classifier is fitted on both, ``clf.fit(*with_pseudo_labels(
    teacher, X, y, X_extra))``. Robustness needs more data than accuracy, and labels
    that are right only for the most part will do for it [1]_.

    Parameters
    ----------
    teacher : classifier
        Fitted on the labelled inputs: a `SmoothedClassifier`, whose shares of votes are
        probabilities, or any other of scikit-learn or skorch. One without noise labels
        clean inputs best.

    X : array-like of shape (n, ...)
        Labelled inputs.

    y : array-like of shape (n,)
        Their labels.

    X_extra : array-like of shape (n_extra, ...)
        Inputs without labels.

    min_share : float, default=0.0
        Probability in [0, 1] that the teacher must give to a label; extra inputs with
        less are left out.

    Returns
    -------
    X_all : ndarray of shape (n + n_kept, ...)
        The labelled inputs, then the extra ones that were kept.

    y_all : ndarray of shape (n + n_kept,)
        Labels and pseudo-labels.

    Raises
    ------
    ValueError
        If `min_share` is no probability, the inputs differ in shape, X and y in length, or
        the teacher's labels in kind from y.

    References
    ----------
    .. [1] Carmon, Raghunathan, Schmidt, Liang, Duchi, "Unlabeled Data Improves Adversarial
       Robustness", NeurIPS 2019, arXiv:1905.13736.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from rs4a.training import with_pseudo_labels
    >>> X, y = load_digits(return_X_y=True)
    >>> X = (X / 16).astype("float32")
    >>> teacher = LogisticRegression(max_iter=1000).fit(X[:200], y[:200])
    >>> X_all, y_all = with_pseudo_labels(teacher, X[:200], y[:200], X[200:1500])
    >>> X_all.shape, bool((y_all[200:] == y[200:1500]).mean() > 0.8)
    ((1500, 64), True)
    """
    if not 0.0 <= min_share <= 1.0:
        raise ValueError(f"min_share must be in [0, 1], got {min_share!r}.")
    check_consistent_length(X, y)
    inputs, labels, extra = (np.asarray(as_array(each)) for each in (X, y, X_extra))
    if extra.shape[1:] != inputs.shape[1:]:
        raise ValueError(
            f"X_extra must hold inputs of the shape of X's, {inputs.shape[1:]}, got "
            f"{extra.shape[1:]}."
        )
    unseen = as_array(X_extra)  # a teacher may want the names of columns
    if min_share > 0.0:
        share = np.asarray(teacher.predict_proba(unseen)).max(axis=1)
        rows = np.flatnonzero(share >= min_share)
        unseen, extra = _safe_indexing(unseen, rows), extra[rows]
    if not len(extra):
        return inputs, labels
    guessed = np.asarray(teacher.predict(unseen))
    if (guessed.dtype.kind in "OUS") != (labels.dtype.kind in "OUS"):
        raise ValueError(
            f"teacher must give labels as y has them, such as {labels[0]!r}, got "
            f"{guessed[0]!r}."
        )
    return np.concatenate([inputs, extra]), np.concatenate([labels, guessed])
