"""The base of a smoothed classifier: one interface for skorch nets and for classifiers."""

from __future__ import annotations

from copy import deepcopy
from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import _routing_enabled, process_routing
from sklearn.utils.multiclass import check_classification_targets
from skorch import NeuralNet, NeuralNetClassifier

from rs4a.inputs.arrays import (
    as_array,
    check_inputs,
    check_training_data,
    check_weights,
    labelled,
    validation_set,
)
from rs4a.nets.from_sklearn import (
    check_fitted,
    is_sklearn_classifier,
    predicting_net,
    table_of,
)
from rs4a.nets.outputs import check_known, check_net, class_indices, probe
from rs4a.networks import MLP
from rs4a.objectives import Batch, NoiseAugmentation, Objective
from rs4a.training.train import train, training_seed
from rs4a.voting.store import store_folder

#: Copies of the training set where `objective` is None. A net sees new noise in every
#: epoch, but these classifiers are trained once.
_N_COPIES = 10


class TrainingSet:
    """Checked inputs and labels of `fit` and `partial_fit`.

    Parameters
    ----------
    owner : TrainsUnderNoise
        Estimator that checks inputs, knows their shape, and says how its base is trained.

    method : {"fit", "partial_fit"}
        Method of the estimator.

    X : array-like of shape (n, d) or (n, ..., h, w), or Dataset
        Inputs.

    y : array-like of shape (n,) or None
        Labels.

    sample_weight : array-like of shape (n,) or None
        Weights of the inputs.

    fit_params : dict
        Further arguments of the method.

    Attributes
    ----------
    sample : ndarray of shape (m, ...), float32
        All inputs, or the first of inputs that are read as needed.

    X : ndarray of shape (n, ...), float32, or Dataset
        Inputs.

    y : ndarray of shape (n,)
        Labels.

    weights : ndarray of shape (n,), float64, or None
        Weights of the inputs.

    who : str
        Place that names all labels, for errors.
    """

    def __init__(
        self, owner: Any, method: str, X: Any, y: Any, sample_weight: Any, fit_params: Any
    ):
        self.owner, self.method, self.fit_params = owner, method, fit_params
        is_fit = method == "fit"
        reset = is_fit or not hasattr(owner, "estimator_")
        self.sample, self.X, self.y = check_training_data(owner, X, y, reset=reset)
        check_classification_targets(self.y)
        self.weights = check_weights(sample_weight, len(self.y))
        self.who = (
            "the net's list of classes" if is_fit else "the first call of partial_fit"
        )

    @property
    def seed(self) -> int:
        """Seed of the training; each call of `partial_fit` has its own."""
        return int(self.owner._training_seed + self.owner._n_trainings)


class NetBase:
    """A skorch net, or None: a net that fits the data.

    Parameters
    ----------
    estimator : object
        The parameter `estimator`, without a FrozenEstimator around.
    """

    #: Whether the base can continue a training.
    trains_on = True

    def __init__(self, estimator: Any):
        self.estimator = estimator

    def default_objective(self) -> Objective:
        """Objective that None stands for: new noise in each epoch."""
        return NoiseAugmentation()

    def check(self, objective: Objective, inference: Any) -> None:
        """Refuse an estimator that is not a net with one output per class."""
        if self.estimator is not None:
            check_net(self.estimator)

    def classes_of_fitted(self, data: TrainingSet) -> NDArray:
        """Labels of the outputs of a net that is used as it is."""
        if not getattr(self.estimator, "initialized_", False):
            raise NotFittedError(
                "The net in the FrozenEstimator is not fitted: call net.fit, or "
                "net.initialize and net.load_params, before."
            )
        return _output_classes(self.estimator, data)

    def start(
        self, data: TrainingSet, classes: ArrayLike | None = None, *, fitted: bool = False
    ) -> tuple[Any, NDArray | None, int]:
        """A net to train, its labels, and its epochs so far.

        With `fitted`, the copy of a fitted net keeps its weights.
        """
        labels = data.y if classes is None else np.asarray(as_array(classes))
        if fitted and getattr(self.estimator, "initialized_", False):
            net = deepcopy(self.estimator)
            known = _output_classes(net, data)
            check_known(labels, known, "the fitted net")
            return net, known, len(net.history)
        given = getattr(self.estimator, "classes", None)
        known = np.unique(labels) if given is None else np.asarray(given)
        if self.estimator is not None:
            return clone(self.estimator), known, 0
        return _default_net(data, len(known)), known, 0

    def train(self, base: Any, data: TrainingSet, classes: NDArray | None) -> NDArray:
        """Train a net in place on indices of the labels, and return the labels."""
        assert classes is not None
        owner = data.owner
        if data.fit_params:
            raise TypeError(
                f"fit of a SmoothedClassifier takes no {', '.join(data.fit_params)} for a "
                "skorch net, which gets inputs alone where it votes. Give sample_weight, "
                "or set parameters of the net."
            )
        if data.weights is not None:
            owner._objective.check_weights()

        def indices(labels: NDArray) -> NDArray[np.int64]:
            return class_indices(labels, classes, data.who)

        targets = indices(data.y)
        folder = store_folder(owner.memory)
        train(
            base,
            labelled(owner, data.X, targets, data.weights),
            targets,
            noise=owner.noise_,
            objective=owner._objective,
            n_classes=len(classes),
            seed=data.seed,
            epochs_before=owner._epochs_before,
            folder=folder and folder / "trainings",
            translate=lambda dataset: validation_set(owner, dataset, indices),
        )
        return classes

    def voter(self, fitted: Any, feature_names: NDArray | None) -> Any:
        """A net that votes in place of the fitted base: None, since the base is a net."""
        return None


def _output_classes(net: NeuralNet, data: TrainingSet) -> NDArray:
    """Labels of the outputs of a trained net.

    skorch's targets are indices of outputs. So unless the net has a list of labels, its
    labels are 0, 1, ..., also where training met only some of them.
    """
    given = getattr(net, "classes", None)
    n_outputs = probe(net, data.sample, 2 if given is None else len(given)).shape[1]
    return np.arange(n_outputs) if given is None else np.asarray(given)


def _default_net(data: TrainingSet, n_classes: int) -> NeuralNetClassifier:
    """Unfitted multilayer perceptron that standardises noisy inputs."""
    X = data.sample
    variance = X.var(axis=0, dtype=np.float64) + data.owner.noise_.std(X[0].size) ** 2
    return NeuralNetClassifier(
        MLP,
        module__input_shape=X.shape[1:],
        module__n_classes=max(2, n_classes),
        module__mean=X.mean(axis=0, dtype=np.float64),
        module__std=np.sqrt(variance),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.003,
        max_epochs=60,
        iterator_train__shuffle=True,
        train_split=None,
        callbacks__print_log=None,
        verbose=0,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


class ClassifierBase:
    """A classifier with scikit-learn's interface.

    Parameters
    ----------
    estimator : classifier
        The parameter `estimator`, without a FrozenEstimator around.
    """

    def __init__(self, estimator: Any):
        self.estimator = estimator
        self.trains_on = hasattr(estimator, "partial_fit")

    def default_objective(self) -> Objective:
        """Objective that None stands for: several noisy copies, for the only training."""
        return NoiseAugmentation(n_samples=_N_COPIES)

    def check(self, objective: Objective, inference: Any) -> None:
        """Refuse an objective or an inference that only nets can take."""
        name = type(self.estimator).__name__
        if not objective.is_base_loss:
            raise ValueError(
                f"objective must be NoiseAugmentation or None for {name}, got {objective}. "
                "Others change the loss of a skorch net."
            )
        if inference is not None:
            raise ValueError(
                f"inference must be None for {name}, got {inference}. It says how skorch "
                "nets are run."
            )

    def classes_of_fitted(self, data: TrainingSet) -> NDArray:
        """Labels of a classifier that is used as it is."""
        check_fitted(self.estimator, getattr(data.owner, "feature_names_in_", None))
        return np.asarray(self.estimator.classes_)

    def start(
        self, data: TrainingSet, classes: ArrayLike | None = None, *, fitted: bool = False
    ) -> tuple[Any, NDArray | None, int]:
        """A classifier to train, its labels if they are known before, and 0 epochs.

        With `fitted`, the copy of a fitted classifier keeps what it has learned.
        """
        if not fitted:
            return clone(self.estimator), None, 0
        given = data.y if classes is None else classes
        known = getattr(self.estimator, "classes_", given)
        return deepcopy(self.estimator), np.unique(as_array(known)), 0

    def train(self, base: Any, data: TrainingSet, classes: NDArray | None) -> NDArray:
        """Train a classifier in place on noisy copies; with `classes` by `partial_fit`."""
        fit_params = _fit_params(self.estimator, data)
        if classes is not None:
            check_known(data.y, classes, data.who)
        owner, X, y = data.owner, data.X, data.y
        if not isinstance(X, np.ndarray):
            X = np.asarray(check_inputs(owner, X, reset=False))
        # A classifier without a `random_state` of its own reads numpy's global generator.
        with training_seed(data.seed):
            targets = torch.from_numpy(np.unique(y, return_inverse=True)[1])
            batch = Batch(torch.from_numpy(X), targets, owner.noise_, 1, _no_log_proba)
            copies = owner._objective.noisy_copies(batch).double().numpy()
            inputs = table_of(
                copies.reshape(-1, *X.shape[1:]), getattr(owner, "feature_names_in_", None)
            )
            n = len(copies)
            more = {name: _repeated(each, len(y), n) for name, each in fit_params.items()}
            if classes is None:
                base.fit(inputs, np.tile(y, n), **more)
            else:
                base.partial_fit(inputs, np.tile(y, n), classes=classes, **more)
        return np.asarray(base.classes_)

    def voter(self, fitted: Any, feature_names: NDArray | None) -> Any:
        """The classifier in the form of a net."""
        return predicting_net(fitted, feature_names)


def _fit_params(classifier: Any, data: TrainingSet) -> dict[str, Any]:
    """Arguments for the method of a classifier, weights of the inputs included."""
    given = data.fit_params
    if _routing_enabled():
        if data.weights is not None:
            given = {"sample_weight": data.weights, **given}
        routed = process_routing(data.owner, data.method, **given).estimator
        return dict(routed[data.method])
    if data.weights is None:
        return dict(given)
    return {_name_of_weights(classifier): data.weights, **given}


def _name_of_weights(classifier: Any) -> str:
    """Parameter of `fit` that takes weights, for the last step of a pipeline."""
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
    return name


def _repeated(value: Any, n: int, n_copies: int) -> Any:
    """A fit parameter for `n_copies` copies of n inputs, if it has n entries."""
    if isinstance(value, str | bytes | dict) or not hasattr(value, "__len__"):
        return value
    if np.ndim(value) == 0 or len(value) != n:
        return value
    return np.concatenate([np.asarray(value)] * n_copies)


def _no_log_proba(_: torch.Tensor) -> torch.Tensor:
    raise TypeError("A classifier that is no net has no probabilities with gradients.")


Base = NetBase | ClassifierBase


def base_of(estimator: Any) -> Base:
    """Interface of the base of a smoothed classifier.

    Parameters
    ----------
    estimator : object
        The parameter `estimator`, or a fitted base.

    Returns
    -------
    base : NetBase or ClassifierBase
        Around the estimator, without its FrozenEstimator.
    """
    base = estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator
    return ClassifierBase(base) if is_sklearn_classifier(base) else NetBase(base)
