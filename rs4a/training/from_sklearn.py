"""Training of scikit-learn's classifiers on noisy copies."""

from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from rs4a.nets.from_sklearn import table_of
from rs4a.noises import Noise
from rs4a.objectives import Batch, NoiseAugmentation, Objective
from rs4a.training.seeds import training_seed

__all__ = [
    "check_classifier_training",
    "default_classifier_objective",
    "named_weights",
    "train_classifier",
]

#: Copies of the training set where `objective` is None. A net sees new noise in every
#: epoch, but these classifiers are trained once.
_N_SAMPLES = 10


def default_classifier_objective() -> Objective:
    """Objective of a classifier that is no net, where none is given."""
    return NoiseAugmentation(n_samples=_N_SAMPLES)


def check_classifier_training(
    classifier: Any, objective: Objective, inference: Any
) -> None:
    """Refuse what only nets have.

    Parameters
    ----------
    classifier : classifier
        Classifier that is no net.

    objective : Objective
        Training objective.

    inference : Inference or None
        How it is to be run.

    Raises
    ------
    ValueError
        If the objective has a loss of its own, or `inference` is not None.
    """
    name = type(classifier).__name__
    if not objective.is_base_loss:
        raise ValueError(
            f"objective must be NoiseAugmentation or None for {name}, got {objective}. "
            "Others change the loss of a skorch net."
        )
    if inference is not None:
        raise ValueError(
            f"inference must be None for {name}, got {inference}. It says how skorch nets "
            "are run."
        )


def train_classifier(
    classifier: Any,
    X: NDArray[np.float32],
    y: NDArray,
    *,
    noise: Noise,
    objective: Objective,
    seed: int,
    feature_names: NDArray | None = None,
    classes: NDArray | None = None,
    fit_params: dict[str, Any] | None = None,
) -> Any:
    """Train a classifier on noisy copies of a training set.

    Parameters
    ----------
    classifier : classifier
        Classifier that is trained in place.

    X : ndarray of shape (n, ...), float32
        Inputs.

    y : ndarray of shape (n,)
        Labels.

    noise : Noise
        Smoothing noise.

    objective : Objective
        Says what copies there are.

    seed : int
        Seed of the noise, and of numpy's global generator, which a classifier without a
        `random_state` of its own reads.

    feature_names : ndarray of shape (d,), default=None
        Names of the columns of X. With them it is trained on a DataFrame.

    classes : ndarray of shape (n_classes,), default=None
        All labels, to go on training by `partial_fit`. None: `fit`.

    fit_params : dict, default=None
        Further arguments of the classifier's `fit` or `partial_fit`. Those with an entry
        for each input, as weights, are repeated for the noisy copies.

    Returns
    -------
    classifier : classifier
        The same classifier.
    """
    with training_seed(seed):
        targets = torch.from_numpy(np.unique(y, return_inverse=True)[1])
        batch = Batch(torch.from_numpy(X), targets, noise, 1, _no_log_proba)
        copies = objective.noisy_copies(batch).double().numpy()
        inputs = table_of(copies.reshape(-1, *X.shape[1:]), feature_names)
        labels = np.tile(y, len(copies))
        more = {
            name: _repeated(value, len(y), len(copies))
            for name, value in (fit_params or {}).items()
        }
        if classes is None:
            return classifier.fit(inputs, labels, **more)
        return classifier.partial_fit(inputs, labels, classes=classes, **more)


def _repeated(value: Any, n: int, n_copies: int) -> Any:
    """A fit parameter for `n_copies` copies of n inputs, if it has n entries."""
    if isinstance(value, str | bytes | dict) or not hasattr(value, "__len__"):
        return value
    if np.ndim(value) == 0 or len(value) != n:
        return value
    return np.concatenate([np.asarray(value)] * n_copies)


def named_weights(classifier: Any, weights: NDArray[np.float64]) -> dict[str, Any]:
    """Weights under the name by which a classifier's `fit` takes them.

    Parameters
    ----------
    classifier : classifier
        Classifier that is to be trained.

    weights : ndarray of shape (n,), float64
        Weights of the inputs.

    Returns
    -------
    fit_params : dict
        A single entry, for the last step of a pipeline.

    Raises
    ------
    TypeError
        If the classifier takes none.
    """
    name, last = "sample_weight", classifier
    while isinstance(last, Pipeline):
        step, last = last.steps[-1]
        name = f"{name.removesuffix('sample_weight')}{step}__sample_weight"
    parameters = signature(last.fit).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    if "sample_weight" not in parameters and not takes_any:
        raise TypeError(
            f"sample_weight must be None for {type(last).__name__}, whose fit takes none."
        )
    return {name: weights}


def _no_log_proba(_: torch.Tensor) -> torch.Tensor:
    raise TypeError("A classifier that is no net has no probabilities with gradients.")
