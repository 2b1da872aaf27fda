"""An estimator that trains its base under noise."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, _fit_context, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_random_state
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.metaestimators import available_if
from skorch import NeuralNet

from rs4a.bounds import Bound, ClopperPearson
from rs4a.nets.fingerprint import noise_of_training
from rs4a.nets.inference import Inference
from rs4a.nets.outputs import check_known
from rs4a.noises import Gaussian, Noise
from rs4a.objectives import Objective
from rs4a.records.box import as_box
from rs4a.training.bases import Base, TrainingSet, base_of
from rs4a.utils.checks import check_norm
from rs4a.voting.store import store_folder


def usual_noise() -> Noise:
    """Noise that None stands for."""
    return Gaussian(sigma=0.25)


def _usual(name: str, estimator: Any) -> Any:
    """Object that None stands for, made anew: a shared default would change for all."""
    if name == "objective":
        return base_of(estimator).default_objective()
    usual = {"noise": usual_noise, "bound": ClopperPearson, "inference": Inference}
    return usual[name]() if name in usual else None


def _trains_on(estimator: TrainsUnderNoise) -> bool:
    """Whether the estimator can continue a training, for scikit-learn's `available_if`."""
    base = estimator.estimator
    if isinstance(base, FrozenEstimator) or base_of(base).trains_on:
        return True
    raise AttributeError(f"{type(base).__name__} has no partial_fit: call fit.")


class TrainsUnderNoise(MetaEstimatorMixin, BaseEstimator):
    """The training of a smoothed estimator; subclasses have the parameters.

    Their parameters include those of :class:`~rs4a.SmoothedClassifier`.
    """

    estimator: Any
    noise: Noise | None
    objective: Objective | None
    bound: Bound | None
    alpha: float
    norm: float | None
    box: tuple[float, float] | None
    inference: Inference | None
    random_state: Any
    memory: Any
    estimator_: Any

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also those inside the parameter objects.

        Parameters
        ----------
        **params : dict
            Values by name: ``alpha=0.01``, ``noise__sigma=0.5``. Where `noise`,
            `objective`, `bound` or `inference` is None, a value inside of it is set in
            the object that None stands for, and this object becomes the parameter.

        Returns
        -------
        self : SmoothedClassifier
            The same estimator.

        Raises
        ------
        ValueError
            If there is no such parameter, or no object that has it.
        """
        known = {**self.get_params(), **params}
        for name in list(params):
            owner, nested, _ = name.rpartition("__")
            if not nested or known.get(owner, self) is not None:
                continue
            usual = _usual(owner, known["estimator"])
            if usual is None:
                raise ValueError(
                    f"{name} cannot be set: {owner} is None, the default. Give an object "
                    f"first, as in set_params({owner}=...)."
                )
            params[owner] = known[owner] = usual
            if owner == "noise" and "noise__lambd" in params:  # instead of sigma
                params.setdefault("noise__sigma", None)
        return super().set_params(**params)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        **fit_params: Any,
    ) -> Self:
        """Train a clone of the net under noise.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, ..., h, w), or Dataset
            Inputs: numpy, pandas or torch. sigma and radii are in units of X. Data that
            are larger than memory come as a torch Dataset, or in a search as skorch's
            SliceDataset; their inputs are read when they are needed.

        y : array-like of shape (n,), default=None
            Labels of any kind. None: those of a Dataset, from its `targets` or else from
            the second place in its items.

        sample_weight : array-like of shape (n,), default=None
            Weights of the inputs, at least 0. The loss of a net is the mean over inputs of
            their losses, each times its weight over the mean weight; a scikit-learn
            classifier gets the weights of its noisy copies. None: all inputs have the
            same weight.

        **fit_params : dict
            Further arguments of the `fit` of a scikit-learn classifier, by
            ``step__name`` for a pipeline. Those with an entry for each input are repeated
            for the noisy copies. A net takes none.

        Returns
        -------
        self : SmoothedClassifier
            Fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is not as described, or a frozen net does not
            know a label, or the objective or the net's criterion cannot use weights.
        TypeError
            If `estimator` is neither a skorch net nor a classifier, or does not take
            the fit parameters.
        """
        if hasattr(self, "estimator_"):  # no half fit is left after an error
            del self.estimator_
        data = TrainingSet(self, "fit", X, y, sample_weight, fit_params)
        base = base_of(self.estimator)
        if isinstance(self.estimator, FrozenEstimator):
            self._start(base, data.sample, base.estimator)
            self.classes_ = base.classes_of_fitted(data)
            check_known(data.y, self.classes_, "the frozen net")
            return self._set_base(base, base.estimator)
        self._start(base, data.sample)
        new, classes, _ = base.start(data)
        self.classes_ = base.train(new, data, classes)
        return self._set_base(base, new)

    @available_if(_trains_on)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        **fit_params: Any,
    ) -> Self:
        """Continue a training from the present weights: fine-tuning, or data in parts.

        The first call continues from the weights of a fitted `estimator`, which itself
        stays as it is; an unfitted estimator starts anew. As in skorch, one call trains
        for the net's `max_epochs`. A scikit-learn classifier needs a `partial_fit`.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, ..., h, w), or Dataset
            Inputs.

        y : array-like of shape (n,), default=None
            Labels. None: those of a Dataset.

        classes : array-like of shape (n_classes,), default=None
            All labels that there will be, for the first call. None: those of a fitted
            net, or those of `y`.

        sample_weight : array-like of shape (n,), default=None
            Weights of the inputs, as in `fit`.

        **fit_params : dict
            Further arguments of a scikit-learn classifier's `partial_fit`, as in `fit`.

        Returns
        -------
        self : SmoothedClassifier
            Fitted estimator.

        Raises
        ------
        ValueError
            As in `fit`, or if `y` has a label that the first call did not know.
        """
        if isinstance(self.estimator, FrozenEstimator):
            return self.fit(X, y, sample_weight)
        first = not hasattr(self, "estimator_")
        data = TrainingSet(self, "partial_fit", X, y, sample_weight, fit_params)
        base = base_of(self.estimator)
        if first:
            self._start(base, data.sample, base.estimator)
            trained, known, epochs = base.start(data, classes, fitted=True)
            self._epochs_before = epochs
        else:
            if type(base) is not type(base_of(self.estimator_)):
                raise ValueError(
                    "estimator must be of the kind that was fitted, "
                    f"{type(self.estimator_).__name__}, to continue, got {self.estimator}. "
                    "Call fit for another one."
                )
            self.noise_.check_inputs(data.sample)
            # A frozen base belongs to the user, and stays as it is.
            trained = deepcopy(self.estimator_) if self._was_frozen else self.estimator_
            known = self.classes_
        self.classes_ = base.train(trained, data, known)
        return self._set_base(base, trained)

    def get_metadata_routing(self) -> MetadataRouter:
        """Metadata that `fit`, `partial_fit` and `score` take, and those of the base.

        Returns
        -------
        routing : MetadataRouter
            Requests of the classifier itself, and of `estimator` if there is one.
        """
        router = MetadataRouter(owner=self).add_self_request(self)
        if self.estimator is not None:
            mapping = MethodMapping().add(caller="fit", callee="fit")
            mapping.add(caller="partial_fit", callee="partial_fit")
            router.add(estimator=self.estimator, method_mapping=mapping)
        return router

    def _start(self, base: Base, X: NDArray[np.float32], fitted: Any = None) -> None:
        """Check all parameters, and fix those of certificates.

        A `fitted` net may know the template of deterministic noise of its training.
        """
        if self.norm is not None:
            check_norm(self.norm)
        store_folder(self.memory)  # raises an error if it is no folder
        # numpy's global generator, which None means in scikit-learn, may have a known seed.
        given = np.random.RandomState() if self.random_state is None else self.random_state
        random_state = check_random_state(given)
        self._training_seed, self._sampling_seed = random_state.randint(
            2**62, size=2, dtype=np.int64
        ).tolist()
        self._was_frozen = isinstance(self.estimator, FrozenEstimator)
        noise: Noise = clone(self.noise or usual_noise())
        self.noise_ = noise.fixed(
            None if self._was_frozen else random_state, noise_of_training(fitted)
        )
        self._noise_of_fit = str(self.noise)
        self.noise_.scale(X[0].size)
        self.noise_.check_inputs(X)
        self._check_box()
        objective: Objective = clone(self.objective or base.default_objective())
        objective._validate_params()
        objective.check_noise(self.noise_)
        base.check(objective, self.inference)
        self._objective = objective
        self._resolved_bound().can_certify(self.alpha)  # refuses a bad number of votes
        self._n_trainings = 0
        self._epochs_before = 0

    def _check_box(self) -> None:
        if as_box(self.box) is not None:
            self.noise_.check_box_radius()

    def _set_base(self, base: Base, fitted: Any) -> Self:
        """End a training."""
        trained = fitted if self._was_frozen else self
        names = getattr(trained, "feature_names_in_", None)
        self.__dict__.pop("_predicting_net", None)
        if (voter := base.voter(fitted, names)) is not None:
            self._predicting_net = voter
        self.estimator_ = fitted
        self._n_trainings += 1  # the next call of partial_fit draws other noise
        return self

    @property
    def _net(self) -> NeuralNet:
        """The net that votes, or the classifier in the form of one."""
        return getattr(self, "_predicting_net", self.estimator_)

    def _resolved_bound(self) -> Bound:
        return self.bound or ClopperPearson()
