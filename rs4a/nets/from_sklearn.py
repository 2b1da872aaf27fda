"""Classifiers of scikit-learn's kind: trained on noisy copies, they vote by `predict`."""

import functools
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import torch
from joblib import parallel_config
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet, NeuralNetClassifier
from threadpoolctl import ThreadpoolController

from rs4a.nets.outputs import check_net, class_indices
from rs4a.noises import Noise
from rs4a.objectives import Batch, NoiseAugmentation, Objective
from rs4a.training.train import training_seed
from rs4a.utils.describe import describe_plain

__all__ = [
    "PredictingNet",
    "check_base",
    "check_fitted_plain",
    "check_plain_training",
    "default_plain_objective",
    "is_plain",
    "named_weights",
    "train_plain",
]

#: Copies of the training set where `objective` is None. A net sees new noise in every
#: epoch, but these classifiers are trained once.
_N_SAMPLES = 10


def is_plain(estimator: Any) -> bool:
    """Whether an estimator is a classifier, and neither a skorch net nor a torch module.

    Parameters
    ----------
    estimator : object
        Anything.

    Returns
    -------
    is_plain : bool
        True for scikit-learn's own classifiers and those that have their interface,
        pipelines and searches included.
    """
    others = NeuralNet | torch.nn.Module | FrozenEstimator | type
    if isinstance(estimator, others):
        return False
    return hasattr(estimator, "__sklearn_tags__") and bool(is_classifier(estimator))


class PredictingNet(NeuralNetClassifier):
    """A fitted classifier in the form of a net, for all that asks nets for votes.

    Parameters
    ----------
    module : Predictions
        The classifier.

    device : str, default="cpu"
        Where it predicts.
    """

    #: One prediction at a time; see `_alone`.
    takes_threads = False

    def __init__(self, module: Any, device: str = "cpu", **kwargs: Any):
        super().__init__(module, device=device, **kwargs)

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> "PredictingNet":
        """Make none: there are no weights.

        Parameters
        ----------
        *args, **kwargs : object
            Ignored.

        Returns
        -------
        self : PredictingNet
            The same net.
        """
        return self

    @classmethod
    def of(cls, classifier: Any, feature_names: NDArray | None = None) -> "PredictingNet":
        """Make a net of a classifier.

        Parameters
        ----------
        classifier : classifier
            Fitted classifier.

        feature_names : ndarray of shape (d,), default=None
            Names of the columns that it was fitted to.

        Returns
        -------
        net : PredictingNet
            Initialised net.
        """
        net: PredictingNet = cls(Predictions(classifier, feature_names)).initialize()
        return net


class Predictions(torch.nn.Module):
    """What a classifier predicts, as outputs of a net: 1 for that class, 0 for the others.

    Parameters
    ----------
    classifier : classifier
        Fitted classifier.

    feature_names : ndarray of shape (d,), default=None
        Names of the columns that it was fitted to.
    """

    def __init__(self, classifier: Any, feature_names: NDArray | None = None):
        super().__init__()
        self.classifier = classifier
        self._feature_names = feature_names
        self._classes = np.array(classifier.classes_)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Predict.

        Parameters
        ----------
        X : torch.Tensor of shape (n, ...), float32
            Noisy inputs.

        Returns
        -------
        outputs : torch.Tensor of shape (n, n_classes), float32
            A single 1 in every row.
        """
        if not np.array_equal(self.classifier.classes_, self._classes):
            raise ValueError(
                f"{type(self.classifier).__name__} was fitted again, to other classes than "
                f"{self._classes.tolist()}. Call fit of the SmoothedClassifier."
            )
        # In double precision, lest a batch of another size round a vote to another class.
        inputs = _table(X.double().numpy(), self._feature_names)
        with _alone(type(self.classifier)):
            labels = np.asarray(self.classifier.predict(inputs))
        indices = class_indices(labels, self._classes, "classes_")
        outputs = torch.zeros((len(labels), max(len(self._classes), 2)))
        outputs[torch.arange(len(labels)), torch.from_numpy(indices)] = 1.0
        return outputs

    def get_extra_state(self) -> torch.Tensor:
        """Digest of the classifier, which its fingerprint as a net includes."""
        try:
            digest = bytes.fromhex(describe_plain("classifier", self.classifier))
        except ValueError:  # something in it cannot be told from others
            content = cloudpickle.dumps(self.classifier)
            digest = hashlib.blake2b(content, digest_size=20).digest()
        return torch.frombuffer(bytearray(digest), dtype=torch.uint8)

    def set_extra_state(self, state: Any) -> None:
        """Change nothing: a digest is no classifier."""


def check_base(estimator: Any) -> None:
    """Refuse what cannot be smoothed.

    Parameters
    ----------
    estimator : object
        Parameter `estimator` of a SmoothedClassifier, not None.

    Raises
    ------
    TypeError
        If it is neither a skorch net with one output a class nor a classifier.
    """
    base = estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
    if not is_plain(base):
        check_net(base)


def check_fitted_plain(classifier: Any, feature_names: NDArray | None) -> None:
    """Refuse a classifier that is not fitted, or was to columns with other names.

    Parameters
    ----------
    classifier : classifier
        Classifier that is used as it is.

    feature_names : ndarray of shape (d,) or None
        Names of the columns of X.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    ValueError
        If it knows the columns by other names, or in another order.
    """
    check_is_fitted(classifier)
    known = getattr(classifier, "feature_names_in_", None)
    if known is None or feature_names is None or np.array_equal(known, feature_names):
        return
    raise ValueError(
        f"X must have the columns that the frozen {type(classifier).__name__} was fitted "
        f"to, {known.tolist()}, got {feature_names.tolist()}."
    )


_PREDICTION_LOCK = threading.RLock()


@contextmanager
def _alone(kind: type) -> Iterator[None]:
    """Predict in one thread, one prediction at a time.

    Nearly tied classes are decided by the order of a sum, or by which thread ends first:
    votes would change from run to run. And scikit-learn limits the threads of the whole
    process while some classifiers predict: two at a time would undo each other's limits.
    """
    with _PREDICTION_LOCK:  # first: the limits hold, and are noted, from their making on
        limits = _controller(kind).limit(limits=1)
        with limits, parallel_config(backend="sequential"):
            yield


@functools.cache
def _controller(kind: type) -> ThreadpoolController:
    """Of the libraries that are loaded once there is a classifier of a kind."""
    return ThreadpoolController()


def default_plain_objective() -> Objective:
    """Objective of a classifier that is no net, where none is given."""
    return NoiseAugmentation(n_samples=_N_SAMPLES)


def check_plain_training(classifier: Any, objective: Objective, inference: Any) -> None:
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


def train_plain(
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
        inputs = _table(copies.reshape(-1, *X.shape[1:]), feature_names)
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


def _table(X: NDArray[np.float64], names: NDArray | None) -> Any:
    """Inputs with the names of their columns, if these have some."""
    return X if names is None else pd.DataFrame(X, columns=names)


def _no_log_proba(_: torch.Tensor) -> torch.Tensor:
    raise TypeError("A classifier that is no net has no probabilities with gradients.")
