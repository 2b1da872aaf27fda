"""The base of a smoothed classifier: one interface for skorch nets and for classifiers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.metadata_routing import _routing_enabled, process_routing
from sklearn.utils.multiclass import check_classification_targets

from rs4a.inputs.arrays import (
    as_array,
    check_inputs,
    check_training_data,
    check_weights,
    labelled,
    validation_set,
)
from rs4a.nets.from_sklearn import PredictingNet, check_fitted_plain, is_sklearn_classifier
from rs4a.nets.outputs import (
    check_known,
    check_net,
    class_indices,
    default_net,
    given_classes,
    output_classes,
)
from rs4a.noises import Noise
from rs4a.objectives import NoiseAugmentation, Objective
from rs4a.training.from_sklearn import (
    check_classifier_training,
    default_classifier_objective,
    named_weights,
    train_classifier,
)
from rs4a.training.train import train

__all__ = ["Base", "Settings", "TrainingSet", "base_of"]


@dataclass(frozen=True)
class TrainingSet:
    """Checked inputs and labels.

    Parameters
    ----------
    owner : BaseEstimator
        Estimator that checks inputs, and knows their shape.

    sample : ndarray of shape (m, ...), float32
        All inputs, or the first of inputs that are read as needed.

    X : ndarray of shape (n, ...), float32, or Dataset
        Inputs.

    y : ndarray of shape (n,)
        Labels.

    weights : ndarray of shape (n,), float64, or None
        Weights of the inputs.
    """

    owner: Any
    sample: NDArray[np.float32]
    X: Any
    y: NDArray
    weights: NDArray[np.float64] | None

    @classmethod
    def checked(
        cls, owner: Any, X: Any, y: Any, sample_weight: Any, *, reset: bool
    ) -> TrainingSet:
        """Check what `fit` and `partial_fit` get.

        Parameters
        ----------
        owner : BaseEstimator
            Estimator that is trained.

        X : array-like of shape (n, d) or (n, ..., h, w), or Dataset
            Inputs.

        y : array-like of shape (n,) or None
            Labels.

        sample_weight : array-like of shape (n,) or None
            Weights of the inputs.

        reset : bool
            Whether the estimator takes over the shape of the inputs.

        Returns
        -------
        data : TrainingSet
            The checked inputs.
        """
        sample, inputs, labels = check_training_data(owner, X, y, reset=reset)
        check_classification_targets(labels)
        weights = check_weights(sample_weight, len(labels))
        return cls(owner, sample, inputs, labels, weights)


@dataclass(frozen=True)
class Settings:
    """How a base is trained.

    Parameters
    ----------
    noise : Noise
        Smoothing noise.

    objective : Objective
        Training objective.

    seed : int
        Seed of the training.

    epochs_before : int
        Epochs that are ignored by a warm-up.

    folder : Path or None
        Where trainings of nets are kept.
    """

    noise: Noise
    objective: Objective
    seed: int
    epochs_before: int
    folder: Path | None


class Base(ABC):
    """The base of a smoothed classifier.

    Parameters
    ----------
    estimator : object
        The parameter `estimator`, without a FrozenEstimator around.
    """

    def __init__(self, estimator: Any):
        self.estimator = estimator

    @property
    def trains_on(self) -> bool:
        """Whether the base can continue a training."""
        return True

    @property
    def trained_net(self) -> Any:
        """The net, which may remember the noise of its training; None for a classifier."""
        return None

    @abstractmethod
    def check(self) -> None:
        """Refuse an estimator that cannot be smoothed."""

    @abstractmethod
    def default_objective(self) -> Objective:
        """Objective that None stands for."""

    @abstractmethod
    def check_settings(self, objective: Objective, inference: Any) -> None:
        """Refuse an objective or an inference that the base cannot take."""

    @abstractmethod
    def classes_of_fitted(
        self, sample: NDArray[np.float32], feature_names: NDArray | None
    ) -> NDArray:
        """Labels of a base that is used as it is."""

    @abstractmethod
    def fit_params(
        self, data: TrainingSet, method: str, given: dict[str, Any], objective: Objective
    ) -> dict[str, Any]:
        """Arguments for the base's own method, or an error."""

    @abstractmethod
    def new(self, data: TrainingSet, noise: Noise) -> tuple[Any, NDArray | None]:
        """A base for `fit`, and its labels if these are known before the training."""

    @abstractmethod
    def first(
        self, data: TrainingSet, classes: ArrayLike | None, noise: Noise
    ) -> tuple[Any, NDArray, int]:
        """A base for the first `partial_fit`, its labels, and its epochs so far."""

    @abstractmethod
    def train(
        self,
        base: Any,
        data: TrainingSet,
        classes: NDArray | None,
        fit_params: dict[str, Any],
        settings: Settings,
        who: str,
    ) -> NDArray:
        """Train a base in place, and return its labels. `who` knows the labels."""

    def voter(self, fitted: Any, feature_names: NDArray | None) -> Any:
        """A net that votes in place of the fitted base, or None if the base is a net."""
        return None


class NetBase(Base):
    """A skorch net, or None: a net that fits the data."""

    @property
    def trained_net(self) -> Any:
        """The net, which may remember the noise of its training."""
        return self.estimator

    def check(self) -> None:
        """Refuse what is neither a net with one output per class nor a classifier."""
        if self.estimator is not None:
            check_net(self.estimator)

    def default_objective(self) -> Objective:
        """New noise in each epoch."""
        return NoiseAugmentation()

    def check_settings(self, objective: Objective, inference: Any) -> None:
        """A net takes any."""

    def classes_of_fitted(
        self, sample: NDArray[np.float32], feature_names: NDArray | None
    ) -> NDArray:
        """Labels of the outputs."""
        if not getattr(self.estimator, "initialized_", False):
            raise NotFittedError(
                "The net in the FrozenEstimator is not fitted: call net.fit, or "
                "net.initialize and net.load_params, before."
            )
        return output_classes(self.estimator, sample)

    def fit_params(
        self, data: TrainingSet, method: str, given: dict[str, Any], objective: Objective
    ) -> dict[str, Any]:
        """None: weights are a part of the training set."""
        if given:
            raise TypeError(
                f"fit of a SmoothedClassifier takes no {', '.join(given)} for a "
                "skorch net, which gets inputs alone where it votes. Give sample_weight, "
                "or set parameters of the net."
            )
        if data.weights is not None:
            objective.check_weights()
        return {}

    def new(self, data: TrainingSet, noise: Noise) -> tuple[Any, NDArray | None]:
        """A clone, or a default net."""
        classes = given_classes(self.estimator, data.y)
        return self._new_net(data, classes, noise), classes

    def first(
        self, data: TrainingSet, classes: ArrayLike | None, noise: Noise
    ) -> tuple[Any, NDArray, int]:
        """A copy of a fitted net with its weights, or a new net."""
        labels = data.y if classes is None else np.asarray(as_array(classes))
        if not getattr(self.estimator, "initialized_", False):
            known = given_classes(self.estimator, labels)
            return self._new_net(data, known, noise), known, 0
        net = deepcopy(self.estimator)
        known = output_classes(net, data.sample)
        check_known(labels, known, "the fitted net")
        return net, known, len(net.history)

    def _new_net(self, data: TrainingSet, classes: NDArray, noise: Noise) -> Any:
        if self.estimator is not None:
            return clone(self.estimator)
        X = data.sample
        return default_net(X, len(classes), noise.std(X[0].size))

    def train(
        self,
        base: Any,
        data: TrainingSet,
        classes: NDArray | None,
        fit_params: dict[str, Any],
        settings: Settings,
        who: str,
    ) -> NDArray:
        """Train on indices of the labels, under noise."""
        assert classes is not None

        def indices(labels: NDArray) -> NDArray[np.int64]:
            return class_indices(labels, classes, who)

        targets = indices(data.y)
        train(
            base,
            labelled(data.owner, data.X, targets, data.weights),
            targets,
            noise=settings.noise,
            objective=settings.objective,
            n_classes=len(classes),
            seed=settings.seed,
            epochs_before=settings.epochs_before,
            folder=settings.folder,
            translate=lambda dataset: validation_set(data.owner, dataset, indices),
        )
        return classes


class ClassifierBase(Base):
    """A classifier with scikit-learn's interface."""

    @property
    def trains_on(self) -> bool:
        """Whether the classifier has `partial_fit`."""
        return hasattr(self.estimator, "partial_fit")

    def check(self) -> None:
        """`is_sklearn_classifier` knows a classifier."""

    def default_objective(self) -> Objective:
        """Several noisy copies, since there is one training only."""
        return default_classifier_objective()

    def check_settings(self, objective: Objective, inference: Any) -> None:
        """Refuse what only nets have."""
        check_classifier_training(self.estimator, objective, inference)

    def classes_of_fitted(
        self, sample: NDArray[np.float32], feature_names: NDArray | None
    ) -> NDArray:
        """The classifier's own labels."""
        check_fitted_plain(self.estimator, feature_names)
        return np.asarray(self.estimator.classes_)

    def fit_params(
        self, data: TrainingSet, method: str, given: dict[str, Any], objective: Objective
    ) -> dict[str, Any]:
        """Weights under the classifier's name for them, and what else it gets."""
        if _routing_enabled():
            if data.weights is not None:
                given = {"sample_weight": data.weights, **given}
            routed: dict[str, Any] = process_routing(data.owner, method, **given).estimator[
                method
            ]
            return routed
        if data.weights is None:
            return given
        return {**named_weights(self.estimator, data.weights), **given}

    def new(self, data: TrainingSet, noise: Noise) -> tuple[Any, NDArray | None]:
        """A clone, whose training finds the labels."""
        return clone(self.estimator), None

    def first(
        self, data: TrainingSet, classes: ArrayLike | None, noise: Noise
    ) -> tuple[Any, NDArray, int]:
        """A copy with what the classifier has learned."""
        given = data.y if classes is None else classes
        known = getattr(self.estimator, "classes_", given)
        return deepcopy(self.estimator), np.unique(as_array(known)), 0

    def train(
        self,
        base: Any,
        data: TrainingSet,
        classes: NDArray | None,
        fit_params: dict[str, Any],
        settings: Settings,
        who: str,
    ) -> NDArray:
        """Train on noisy copies."""
        if classes is not None:
            check_known(data.y, classes, who)
        X = data.X
        if not isinstance(X, np.ndarray):
            X = np.asarray(check_inputs(data.owner, X, reset=False))
        train_classifier(
            base,
            X,
            data.y,
            noise=settings.noise,
            objective=settings.objective,
            seed=settings.seed,
            feature_names=getattr(data.owner, "feature_names_in_", None),
            classes=classes,
            fit_params=fit_params,
        )
        return np.asarray(base.classes_)

    def voter(self, fitted: Any, feature_names: NDArray | None) -> Any:
        """The classifier in the form of a net."""
        return PredictingNet.of(fitted, feature_names)


def base_of(estimator: Any) -> Base:
    """Interface of the base of a smoothed classifier.

    Parameters
    ----------
    estimator : object
        The parameter `estimator`, or a fitted base.

    Returns
    -------
    base : Base
        Around the estimator, without its FrozenEstimator.
    """
    base = estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
    return ClassifierBase(base) if is_sklearn_classifier(base) else NetBase(base)
