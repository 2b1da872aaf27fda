"""Classifiers of scikit-learn's kind, which vote by `predict`."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from joblib import parallel_config
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet, NeuralNetClassifier
from threadpoolctl import ThreadpoolController

from rs4a.nets.outputs import class_indices


def is_sklearn_classifier(estimator: Any) -> bool:
    """Whether an estimator is a classifier, and neither a skorch net nor a torch module.

    Parameters
    ----------
    estimator : object
        Any object.

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


def predicting_net(
    classifier: Any, feature_names: NDArray | None = None
) -> NeuralNetClassifier:
    """Make a net that votes as a classifier predicts.

    Parameters
    ----------
    classifier : classifier
        Fitted classifier.

    feature_names : ndarray of shape (d,), default=None
        Names of the columns that it was fitted to.

    Returns
    -------
    net : skorch.NeuralNetClassifier
        Initialised net.
    """
    return _PredictingNet(_Predictions(classifier, feature_names)).initialize()


class _PredictingNet(NeuralNetClassifier):
    """A fitted classifier in the form of a net."""

    #: One prediction at a time; see `_alone`.
    takes_threads = False

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> "_PredictingNet":
        """Make none: there are no weights."""
        return self


class _Predictions(torch.nn.Module):
    """Predictions as outputs of a net: 1 for the predicted class, 0 for all other ones."""

    def __init__(self, classifier: Any, feature_names: NDArray | None):
        super().__init__()
        self.classifier = classifier
        self._feature_names = feature_names
        self._classes = np.array(classifier.classes_)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        if not np.array_equal(self.classifier.classes_, self._classes):
            raise ValueError(
                f"{type(self.classifier).__name__} was fitted again, to other classes than "
                f"{self._classes.tolist()}. Call fit of the SmoothedClassifier."
            )
        # In double precision, so that no batch size rounds a vote to another class.
        inputs = table_of(X.double().numpy(), self._feature_names)
        with _alone(type(self.classifier)):
            labels = np.asarray(self.classifier.predict(inputs))
        indices = class_indices(labels, self._classes, "classes_")
        outputs = torch.zeros((len(labels), max(len(self._classes), 2)))
        outputs[torch.arange(len(labels)), torch.from_numpy(indices)] = 1.0
        return outputs


def check_fitted(classifier: Any, feature_names: NDArray | None) -> None:
    """Refuse a classifier that is not fitted, or was fitted to columns with other names.

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

    The order of a sum, or the thread that ends first, decides between nearly tied classes:
    votes would change from run to run. And scikit-learn limits the threads of the whole
    process while some classifiers predict: two at a time would undo each other's limits.
    """
    with _PREDICTION_LOCK:  # first: the limits apply, and are noted, once they are made
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
    if names is None:
        return X
    import pandas as pd

    return pd.DataFrame(X, columns=names)
