"""Classifiers of scikit-learn's kind, which vote by `predict`."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import parallel_config
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet, NeuralNetClassifier
from threadpoolctl import ThreadpoolController

from rs4a.nets.outputs import class_indices

__all__ = [
    "PredictingNet",
    "check_fitted_plain",
    "is_sklearn_classifier",
    "table_of",
]


def is_sklearn_classifier(estimator: Any) -> bool:
    """Whether an estimator is a classifier, and neither a skorch net nor a torch module.

    Parameters
    ----------
    estimator : object
        Anything.

    Returns
    -------
    is_sklearn_classifier : bool
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
        inputs = table_of(X.double().numpy(), self._feature_names)
        with _alone(type(self.classifier)):
            labels = np.asarray(self.classifier.predict(inputs))
        indices = class_indices(labels, self._classes, "classes_")
        outputs = torch.zeros((len(labels), max(len(self._classes), 2)))
        outputs[torch.arange(len(labels)), torch.from_numpy(indices)] = 1.0
        return outputs


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


def table_of(X: NDArray[np.float64], names: NDArray | None) -> Any:
    """Inputs with the names of their columns, if the columns have names.

    Parameters
    ----------
    X : ndarray of shape (n, ...), float64
        Inputs.

    names : ndarray of shape (d,) or None
        Names of the columns.

    Returns
    -------
    inputs : DataFrame or ndarray
        The inputs.
    """
    return X if names is None else pd.DataFrame(X, columns=names)
