"""The smoothed classifier: a scikit-learn estimator around a net or another classifier."""

import os
from collections.abc import Callable, Mapping
from copy import deepcopy
from html import escape
from numbers import Integral, Real
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    _fit_context,
    clone,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from rs4a.bounds import Bound, ClopperPearson
from rs4a.certify import Procedure, batch_size_of, certify, selection_counts
from rs4a.inputs import Inputs
from rs4a.inputs.arrays import (
    as_array,
    check_inputs,
    check_training_data,
    check_weights,
    labelled,
    validation_set,
)
from rs4a.nets.from_sklearn import PredictingNet, check_base, check_fitted_plain, is_plain
from rs4a.nets.inference import Inference
from rs4a.nets.outputs import (
    check_known,
    class_indices,
    default_net,
    evaluating,
    given_classes,
    infer_scores,
    output_classes,
    voting_nets,
    without_gradients,
)
from rs4a.nets.trained_under import noise_of_training
from rs4a.noises import Gaussian, Noise
from rs4a.objectives import NoiseAugmentation, Objective
from rs4a.persistence.checkpoints import net_from_checkpoint
from rs4a.persistence.classifiers import load_classifier, save_classifier
from rs4a.records.box import as_box
from rs4a.records.certification import Certification
from rs4a.records.guarantee import guarantee_in_words
from rs4a.training.from_sklearn import (
    check_plain_training,
    default_plain_objective,
    named_weights,
    train_plain,
)
from rs4a.training.train import train
from rs4a.utils.arrays import labels_or
from rs4a.utils.checks import check_norm
from rs4a.utils.user_warnings import warn_user
from rs4a.voting.batch_independence import (
    Trial,
)
from rs4a.voting.store import store_folder

__all__ = ["SmoothedClassifier"]


def _usual_noise(_: Any = None) -> Noise:
    return Gaussian(sigma=0.25)


def _usual_objective(base: Any) -> Objective:
    if isinstance(base, FrozenEstimator):
        base = base.estimator
    return default_plain_objective() if is_plain(base) else NoiseAugmentation()


#: Objects that None stands for, given the estimator. They are made when they are needed: a
#: default that is an object would be shared.
_USUAL: dict[str, Callable[[Any], Any]] = {
    "noise": _usual_noise,
    "objective": _usual_objective,
    "bound": lambda _: ClopperPearson(),
    "inference": lambda _: Inference(),
}


def _trains_on(classifier: "SmoothedClassifier") -> bool:
    """Whether the estimator can go on training, for scikit-learn's `available_if`."""
    base = classifier.estimator
    if not is_plain(base) or hasattr(base, "partial_fit"):
        return True
    raise AttributeError(f"{type(base).__name__} has no partial_fit: call fit.")


class SmoothedClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Classifier smoothed by noise, whose predictions come with a certified radius.

    The smoothed classifier answers with the class that a net, or any other classifier,
    gives most often to noisy copies of an input. The margin of the votes proves a
    radius within which no change of the input alters the answer.

    Parameters
    ----------
    estimator : skorch.NeuralNet, classifier, FrozenEstimator or None, default=None
        Net with one output a class. `fit` trains a clone of it under noise and leaves
        it as it is, fitted or not; `partial_fit` goes on from its weights. A net in a
        :class:`~sklearn.frozen.FrozenEstimator` is used as it is, without training.
        None: a multilayer perceptron for tabular and image-shaped X.

        Likewise any scikit-learn classifier, a pipeline among them: `fit` trains a clone
        on noisy copies of the training set, and its `predict` gives the votes, on one
        core of the CPU; `n_jobs` takes more.

    noise : Noise, default=None
        Smoothing noise. None: ``Gaussian(sigma=0.25)``, whose sigma is searched all the
        same, by ``noise__sigma``.

    objective : Objective, default=None
        How the net is trained under the noise. None: ``NoiseAugmentation()``, and for
        a scikit-learn classifier, which takes no other, with ``n_samples=10`` copies.

    bound : Bound, default=None
        How many votes are drawn and how they become a lower bound on the probability of
        the top class. None: ``ClopperPearson(n=100_000)``; ``ConfidenceSequence()``
        stops at an input as soon as its votes suffice.

    n_selection : int, default=64
        Votes that choose the class, in `predict` as in `certify`. Under deterministic
        noise all views vote, in both; `bound`, `n_selection` and `alpha` do not count.

    alpha : float, default=0.001
        Probability with which each single certificate may be wrong.

    norm : {1, 2, inf}, default=None
        Norm of the adversary. None: the noise's own.

    box : tuple of two floats, default=None
        Smallest and largest value of a coordinate, (0, 1) for images, if attacks must
        respect them too: certificates against l1 adversaries then reach further, and hold
        within the box only. For Uniform noise and independent Splitting. None: no limit.

    batch_size : int or "auto", default=1024
        Noisy inputs in one forward pass; on a CPU the cores share them. Votes do not
        depend on it. A batch that does not fit into memory is halved. "auto" takes the
        smallest size that a larger one hardly makes faster.

    inference : Inference, default=None
        How the net is run where it votes, in `predict` as in `certify`: in half
        precision, compiled, ... None: as it is.

    random_state : int, RandomState instance or None, default=None
        Seed of training and sampling. The votes of an input depend on it and on the
        input alone; a second `certify` repeats them and is no new evidence. The
        guarantee holds against attackers who do not know the seed. None: `fit` draws a
        seed from the operating system's entropy, and not from numpy's global generator.

    n_jobs : int, default=None
        Number of joblib workers that share the inputs of `predict` and `certify`, on
        whichever backend :class:`joblib.parallel_config` sets: processes, dask, ray. A
        single worker uses all cores too; more pay off on several GPUs or machines.

    memory : str, path-like or joblib.Memory, default=None
        Folder in which finished work is kept: votes, input by input, and trainings of nets
        on arrays, epoch by epoch. What was interrupted, by a kill even, goes on from there
        when the same is asked for again; changed nets, data or parameters are other work.
        Several runs may share it. None: nothing is kept.

    verbose : int, default=0
        1 shows a progress bar while votes are drawn.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted; those of a net with a list of `classes` in its order.

    estimator_ : skorch.NeuralNet or classifier
        The trained, or frozen, net or scikit-learn classifier.

    noise_ : Noise
        The noise of the fit; certificates are about it, and another `noise` counts from
        the next fit on. `bound`, `n_selection`, `alpha`, `norm`, `box`, `batch_size`,
        `inference`, `random_state`, `n_jobs`, `memory` and `verbose` count at once. The
        template of deterministic splitting, which `fit` draws, is ``noise_.seed``.

    input_shape_ : tuple of int
        Shape of one input.

    unit_range_ : bool
        Whether the inputs of the fit were fractions in [0, 1].

    n_features_in_ : int
        Length of the first axis of an input: the number of features of tabular X.

    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns, if X was a DataFrame with string names.

    Notes
    -----
    On a CPU each core runs a copy of the net's modules that shares its weights. So a
    forward pass may keep its state in the modules, but not outside of them, in a global
    variable say. A surrounding :class:`torch.autocast` has no effect: `inference` says how
    the net is run.

    References
    ----------
    .. [1] Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized
       Smoothing", ICML 2019, arXiv:1902.02918.
    .. [2] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from rs4a import SmoothedClassifier
    >>> from rs4a.bounds import ClopperPearson
    >>> from rs4a.noises import Uniform
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16  # radii are in units of X
    >>> clf = SmoothedClassifier(
    ...     noise=Uniform(sigma=0.5), bound=ClopperPearson(n=1000), random_state=0
    ... )
    >>> certification = clf.fit(X[:1500], y[:1500]).certify(X[1500:1520])
    >>> bool(certification.radius(norm=1).max() > 0.8)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "noise": [Noise, None],
        "objective": [Objective, None],
        "bound": [Bound, None],
        "n_selection": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "inference": [Inference, None],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    estimator_: Any

    def __init__(
        self,
        estimator: Any = None,
        *,
        noise: Noise | None = None,
        objective: Objective | None = None,
        bound: Bound | None = None,
        n_selection: int = 64,
        alpha: float = 0.001,
        norm: float | None = None,
        box: tuple[float, float] | None = None,
        batch_size: int | str = 1024,
        inference: Inference | None = None,
        random_state: Any = None,
        n_jobs: int | None = None,
        memory: Any = None,
        verbose: int = 0,
    ):
        self.estimator = estimator
        self.noise = noise
        self.objective = objective
        self.bound = bound
        self.n_selection = n_selection
        self.alpha = alpha
        self.norm = norm
        self.box = box
        self.batch_size = batch_size
        self.inference = inference
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.memory = memory
        self.verbose = verbose

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        # Of tags for a range there is only this half: such inputs lie in [0, 1].
        tags.input_tags.positive_only = bool(getattr(self.noise, "unit_inputs", False))
        return tags

    def _html_repr(self) -> str:
        """Diagram for notebooks, below what certificates of it guarantee."""
        diagram: str = super()._html_repr()
        noise: Any = getattr(self, "noise_", self.noise or _usual_noise())
        try:
            norm = noise.norms[0] if self.norm is None else check_norm(self.norm)
            words = guarantee_in_words(noise, alpha=self.alpha, norm=norm, box=self.box)
        except (AttributeError, LookupError, TypeError, ValueError):  # `fit` refuses them
            return diagram
        words = f"Certificates under {noise} state: {words}"
        return f"<div><p>{escape(words)}</p>{diagram}</div>"

    def set_params(self, **params: Any) -> Self:
        """Set parameters, also those inside the parameter objects.

        Parameters
        ----------
        **params : dict
            Values by name: ``alpha=0.01``, ``noise__sigma=0.5``. Where `noise`,
            `objective`, `bound` or `inference` is None, a number inside of it is set in
            the object that None stands for, which becomes the parameter.

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
            if owner not in _USUAL:
                raise ValueError(
                    f"{name} cannot be set: {owner} is None, the default. Give an object "
                    f"first, as in set_params({owner}=...)."
                )
            params[owner] = known[owner] = _USUAL[owner](known["estimator"])
            if owner == "noise" and "noise__lambd" in params:  # instead of sigma
                params.setdefault("noise__sigma", None)
        return super().set_params(**params)

    # Training

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
            Labels of any kind. None: those of a Dataset, its `targets` or else what stands
            second in its items.

        sample_weight : array-like of shape (n,), default=None
            Weights of the inputs, at least 0. The loss of a net is the mean over inputs of
            their losses, each times its weight over the mean weight; a scikit-learn
            classifier gets the weights of its noisy copies. None: all count alike.

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
            know a label, or the objective or the net's criterion cannot heed weights.
        TypeError
            If `estimator` is neither a skorch net nor a classifier, or does not take
            the fit parameters.
        """
        if hasattr(self, "estimator_"):  # after an error there is no half a fit
            del self.estimator_
        sample, inputs, labels = check_training_data(self, X, y, reset=True)
        check_classification_targets(labels)
        weights = check_weights(sample_weight, len(labels))
        if isinstance(self.estimator, FrozenEstimator):
            return self._take_frozen(self.estimator.estimator, sample, labels)
        self._start(sample)
        if is_plain(self.estimator):
            more = self._params_of_base("fit", weights, fit_params)
            return self._train_plain(clone(self.estimator), inputs, labels, None, more)
        self._check_net_params(weights, fit_params)
        self.classes_ = given_classes(self.estimator, labels)
        net, who = self._new_net(sample), "the net's list of classes"
        return self._train(net, inputs, labels, who, weights)

    def _take_frozen(self, base: Any, sample: NDArray[np.float32], labels: NDArray) -> Self:
        """Use a fitted net or classifier as it is."""
        if is_plain(base):
            self._start(sample)
            check_fitted_plain(base, getattr(self, "feature_names_in_", None))
            self.classes_ = np.asarray(base.classes_)
        else:
            self._start(sample, base)
            if not getattr(base, "initialized_", False):
                raise NotFittedError(
                    "The net in the FrozenEstimator is not fitted: call net.fit, or "
                    "net.initialize and net.load_params, before."
                )
            self.classes_ = output_classes(base, sample)
        check_known(labels, self.classes_, "the frozen net")
        self._set_base(base)
        return self

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
        """Train on, from the present weights: for fine-tuning and for data in parts.

        The first call goes on from the weights of a fitted `estimator`, which itself
        stays as it is; an unfitted one is started anew. As in skorch, one call trains
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
        sample, inputs, labels = check_training_data(self, X, y, reset=first)
        check_classification_targets(labels)
        weights = check_weights(sample_weight, len(labels))
        if not first and is_plain(self.estimator) != is_plain(self.estimator_):
            raise ValueError(
                "estimator must be of the kind that was fitted, "
                f"{type(self.estimator_).__name__}, to go on, got {self.estimator}. Call "
                "fit for another one."
            )
        if is_plain(self.estimator):
            more = self._params_of_base("partial_fit", weights, fit_params)
            return self._go_on_plain(sample, inputs, labels, classes, first, more)
        if first:
            fitted = getattr(self.estimator, "initialized_", False)
            self._start(sample, self.estimator if fitted else None)
            net = self._start_net(sample, labels, classes)
        else:
            self.noise_.check_inputs(sample)
            # A net that was frozen is the user's, and stays as it is.
            net = deepcopy(self.estimator_) if self._was_frozen else self.estimator_
        self._check_net_params(weights, fit_params)
        who = "the first call of partial_fit"
        return self._train(net, inputs, labels, who, weights)

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

    def _params_of_base(
        self, method: str, weights: NDArray | None, fit_params: dict[str, Any]
    ) -> dict[str, Any]:
        """Arguments of a scikit-learn classifier's `fit` or `partial_fit`."""
        if _routing_enabled():
            if weights is not None:
                fit_params = {"sample_weight": weights, **fit_params}
            routed = process_routing(self, method, **fit_params)
            own: dict[str, Any] = routed.estimator[method]
            return own
        if weights is None:
            return fit_params
        return {**named_weights(self.estimator, weights), **fit_params}

    def _check_net_params(
        self, weights: NDArray | None, fit_params: dict[str, Any]
    ) -> None:
        if fit_params:
            raise TypeError(
                f"fit of a SmoothedClassifier takes no {', '.join(fit_params)} for a "
                "skorch net, which gets inputs alone where it votes. Give sample_weight, "
                "or set parameters of the net."
            )
        if weights is not None:
            self._objective.check_weights()

    def _start(self, X: NDArray[np.float32], trained_net: NeuralNet | None = None) -> None:
        """Check what is used later, and fix what certificates will be about."""
        if self.norm is not None:
            check_norm(self.norm)
        if self.estimator is not None:
            check_base(self.estimator)
        random_state = _random_state(self.random_state)
        self._training_seed, self._sampling_seed = random_state.randint(
            2**62, size=2, dtype=np.int64
        ).tolist()
        self._was_frozen = isinstance(self.estimator, FrozenEstimator)
        self.noise_ = self._fixed_noise(random_state, trained_net)
        self._noise_of_fit = str(self.noise)
        self.noise_.scale(X[0].size)
        self.noise_.check_inputs(X)
        self._check_box()
        self._objective: Objective = self._new_objective()
        self._resolved_bound().can_certify(self.alpha)  # refuses a bad number of votes
        self._n_trainings = 0
        self._epochs_before = 0

    def _new_objective(self) -> Objective:
        """The objective of this training, which fits the noise and what is trained."""
        base = self.estimator.estimator if self._was_frozen else self.estimator
        objective: Objective = clone(self.objective or _usual_objective(base))
        objective._validate_params()
        objective.check_noise(self.noise_)
        if is_plain(base):
            check_plain_training(base, objective, self.inference)
        return objective

    def _fixed_noise(
        self, random_state: np.random.RandomState, trained_net: NeuralNet | None
    ) -> Noise:
        """The noise, and under which template a net that is trained already must see it."""
        noise: Noise = clone(self.noise or _usual_noise())
        known = None if trained_net is None else noise_of_training(trained_net)
        return noise.fixed(None if self._was_frozen else random_state, known)

    def _check_box(self) -> None:
        if as_box(self.box) is not None:
            self.noise_.check_box_radius()

    def _start_net(
        self, X: NDArray[np.float32], y: NDArray, classes: ArrayLike | None
    ) -> NeuralNet:
        """First net of `partial_fit`."""
        labels = y if classes is None else np.asarray(as_array(classes))
        if not getattr(self.estimator, "initialized_", False):
            self.classes_ = given_classes(self.estimator, labels)
            return self._new_net(X)
        net = deepcopy(self.estimator)
        self._epochs_before = len(net.history)
        self.classes_ = output_classes(net, X)
        check_known(labels, self.classes_, "the fitted net")
        return net

    def _new_net(self, X: NDArray[np.float32]) -> NeuralNet:
        if self.estimator is not None:
            return clone(self.estimator)
        return default_net(X, len(self.classes_), self.noise_.std(X[0].size))

    def _train(
        self, net: NeuralNet, X: Any, y: NDArray, who: str, weights: NDArray | None
    ) -> Self:
        targets = class_indices(y, self.classes_, who)
        folder = store_folder(self.memory)
        net = train(
            net,
            labelled(self, X, targets, weights),
            targets,
            noise=self.noise_,
            objective=self._objective,
            n_classes=len(self.classes_),
            seed=self._training_seed + self._n_trainings,
            epochs_before=self._epochs_before,
            folder=None if folder is None else folder / "trainings",
            translate=lambda dataset: validation_set(
                self, dataset, lambda labels: class_indices(labels, self.classes_, who)
            ),
        )
        return self._set_base(net)

    def _train_plain(
        self,
        base: Any,
        X: Any,
        y: NDArray,
        classes: NDArray | None,
        fit_params: dict[str, Any],
    ) -> Self:
        train_plain(
            base,
            X
            if isinstance(X, np.ndarray)
            else np.asarray(check_inputs(self, X, reset=False)),
            y,
            noise=self.noise_,
            objective=self._objective,
            seed=self._training_seed + self._n_trainings,
            feature_names=getattr(self, "feature_names_in_", None),
            classes=classes,
            fit_params=fit_params,
        )
        self.classes_ = np.asarray(base.classes_)
        return self._set_base(base)

    def _go_on_plain(
        self,
        sample: NDArray[np.float32],
        X: Any,
        y: NDArray,
        classes: ArrayLike | None,
        first: bool,
        fit_params: dict[str, Any],
    ) -> Self:
        """Do what `partial_fit` does, with a classifier that is no net."""
        if not first:
            check_known(y, self.classes_, "the first call of partial_fit")
            self.noise_.check_inputs(sample)
            frozen = self._was_frozen  # what was frozen is the user's, and stays as it is
            base = deepcopy(self.estimator_) if frozen else self.estimator_
            return self._train_plain(base, X, y, self.classes_, fit_params)
        self._start(sample)
        known = getattr(self.estimator, "classes_", y if classes is None else classes)
        base = deepcopy(self.estimator)
        return self._train_plain(base, X, y, np.unique(as_array(known)), fit_params)

    def _set_base(self, base: Any) -> Self:
        """End a training."""
        if is_plain(base):
            fitted_to = base if self._was_frozen else self  # by whoever trained it
            names = getattr(fitted_to, "feature_names_in_", None)
            self._predicting_net = PredictingNet.of(base, names)
        self.estimator_ = base
        self._n_trainings += 1  # the next call of partial_fit draws other noise
        return self

    @property
    def _net(self) -> NeuralNet:
        """What votes: the net, or the classifier in the form of one."""
        return self._predicting_net if is_plain(self.estimator_) else self.estimator_

    # Prediction

    def predict(self, X: Any) -> NDArray:
        """Class that most selection votes name.

        The same label as in `certify`, without a certificate. Under deterministic noise
        all views vote.

        Parameters
        ----------
        X : array-like of shape (n, ...), or Dataset
            Inputs.

        Returns
        -------
        labels : ndarray of shape (n,)
            Entries of `classes_`.

        Raises
        ------
        ValueError
            If X is not as in `fit`, or the net returns NaN.
        """
        check_is_fitted(self, "estimator_")
        return self.classes_[self._selection_counts(X).argmax(axis=1)]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Share of the selection votes for every class.

        Parameters
        ----------
        X : array-like of shape (n, ...), or Dataset
            Inputs.

        Returns
        -------
        proba : ndarray of shape (n, n_classes), float64
            Rows sum to 1. An estimate, not a bound: for bounds, `certify`.

        Raises
        ------
        ValueError
            If X is not as in `fit`, or the net returns NaN.
        """
        check_is_fitted(self, "estimator_")
        counts = self._selection_counts(X)
        return counts / counts.sum(axis=1, keepdims=True)

    def predict_or_abstain(self, X: Any, radius: Any = 0.0, abstain: Any = -1) -> NDArray:
        """Label where it is certified at least this far, else a mark.

        Votes and labels are those of `certify`, and so is the cost.

        Parameters
        ----------
        X : array-like of shape (n, ...), or Dataset
            Inputs.

        radius : float, default=0.0
            Least certified radius, in units of X and the norm of the estimator. 0: wherever
            there is a certificate.

        abstain : object, default=-1
            The answer elsewhere, such as None or "unsure". It must be none of the classes.

        Returns
        -------
        answers : ndarray of shape (n,)
            Entries of `classes_`, and `abstain`. Their dtype holds both if both are numbers
            or both text; else it is object, as for text classes and -1.

        Raises
        ------
        ValueError
            If `radius` is negative or NaN, `abstain` is a class, or X is not as in `fit`.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.linear_model import LogisticRegression
        >>> from rs4a import SmoothedClassifier
        >>> from rs4a.bounds import ClopperPearson
        >>> from rs4a.noises import Gaussian
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = SmoothedClassifier(
        ...     LogisticRegression(max_iter=1000), noise=Gaussian(sigma=0.5),
        ...     bound=ClopperPearson(n=1000), random_state=0,
        ... )
        >>> clf.fit(X, y).predict_or_abstain(X[[0, 70, 149]], radius=0.5)
        array([ 0, -1, -1])
        """
        check_is_fitted(self, "estimator_")
        if not (isinstance(radius, Real) and float(radius) >= 0.0):
            raise ValueError(f"radius must be a float of at least 0, got {radius!r}.")
        classes = self.classes_.tolist()
        if np.ndim(abstain) or abstain in set(classes):
            raise ValueError(
                f"abstain must be one value that is no class, got {abstain!r} beside the "
                f"classes {classes}: abstain=None, perhaps."
            )
        record = self.certify(X)
        certified = ~record.abstained & (record.radius() >= float(radius))
        return labels_or(record.labels, certified, abstain)

    def certify(
        self,
        X: Any,
        *,
        max_votes: int | None = None,
        previous: Certification | None = None,
    ) -> Certification:
        """Draw the votes that certify every input.

        Under a bound that may stop, an interruption (Ctrl-C) ends the drawing, and the
        record of the votes so far is returned: what it certifies holds.

        Parameters
        ----------
        X : array-like of shape (n, ...), or Dataset
            Inputs. They are rounded to float32 first, and certified as rounded. A Dataset
            must give the same inputs at every reading.

        max_votes : int, default=None
            Estimation votes to spend on all inputs together, for bounds that may stop.
            They go to the inputs that seem the cheapest to decide. None: no limit.

        previous : Certification, default=None
            Record of the same net, noise, inputs, seed and `n_selection` under a bound
            that may stop: its votes are kept, and drawing goes on from them.

        Returns
        -------
        certification : Certification
            The record of the votes; abstentions are part of it and raise nothing.

        Raises
        ------
        ValueError
            If X is not as in `fit`, the net returns NaN, the bound is not one for this
            noise, `max_votes` is negative, it or `previous` is given for a bound that does
            not stop, or `previous` is of other votes.
        TypeError
            If `max_votes` is no whole number or `previous` no Certification.

        Warns
        -----
        CertificationWarning
            If the bound draws too few votes to certify anything at this `alpha`, if the
            net's answer to an input depends on its batch, if it is another after the votes
            than before, where they are drawn in this process (of both the record's `report`
            has a note, `warned`), if `noise` has changed since the fit, if X is rounded by
            much to float32, or after an interruption.
        """
        inputs = self._checked(X)
        self._warn_of_other_noise()
        if not hasattr(self, "_trial"):
            self._trial = Trial()
        return certify(
            self._net,
            inputs,
            self.noise_,
            self.classes_,
            self._procedure(),
            trial=self._trial,
            max_votes=max_votes,
            previous=previous,
        )

    def _warn_of_other_noise(self) -> None:
        asked = getattr(self, "_noise_of_fit", None)
        if asked is None or asked == str(self.noise):
            return
        warn_user(
            f"Certificates are about the noise of the fit, {self.noise_}, and noise is "
            f"{self.noise} by now: call fit again, which leaves a frozen net as it is."
        )

    def base_score(self, X: Any, y: ArrayLike) -> float:
        """Accuracy of the net alone, without noise and without any guarantee.

        Parameters
        ----------
        X : array-like of shape (n, ...), or Dataset
            Inputs.

        y : array-like of shape (n,)
            True labels.

        Returns
        -------
        accuracy : float
            Share of inputs that the undefended net classifies correctly.

        Raises
        ------
        ValueError
            If X is not as in `fit`.
        """
        X = self._checked(X).values
        labels = []
        with evaluating(self._net), without_gradients():
            (net,) = voting_nets(self._net, self.inference, 1)
            batch_size = batch_size_of(self._net, X, self.noise_, self._procedure())
            for start in range(0, len(X), batch_size):
                batch = np.array(X[start : start + batch_size])
                scores = infer_scores(net, torch.from_numpy(batch), len(self.classes_))
                labels.append(scores.argmax(dim=1).cpu().numpy())
        return float(accuracy_score(as_array(y), self.classes_[np.concatenate(labels)]))

    # Files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted classifier: parameters as JSON, weights as safetensors.

        The file holds no pickle. The file appears whole or not at all, and only after a
        trial reading.

        Parameters
        ----------
        path : str or path-like
            File to write, under exactly this name.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        TypeError
            If the classifier is of a subclass, or if a file cannot hold a parameter or an
            attribute.
        ValueError
            If `load` could not restore the classifier.

        See Also
        --------
        load : Reads the file.

        Notes
        -----
        The file holds the seed of the votes. Certificates hold against an attacker who
        does not know the seed: before a classifier is used whose file is public, set
        `random_state` to a secret number.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklearn.datasets import load_digits
        >>> from rs4a import SmoothedClassifier
        >>> X, y = load_digits(n_class=2, return_X_y=True)
        >>> clf = SmoothedClassifier(random_state=0).fit(X[:50] / 16, y[:50])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "digits.safetensors")
        ...     clf.save(path)
        ...     again = SmoothedClassifier.load(path)
        >>> bool((again.predict(X[50:] / 16) == clf.predict(X[50:] / 16)).all())
        True
        """
        if type(self) is not SmoothedClassifier:
            raise TypeError(
                f"classifier must be a SmoothedClassifier, got {type(self).__name__}."
            )
        save_classifier(self, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        estimator: Any = None,
        noise: Noise | None = None,
        objective: Objective | None = None,
        bound: Bound | None = None,
        device: str | torch.device | None = None,
    ) -> Self:
        """Read a classifier that :meth:`save` wrote. No code from the file is run.

        Parameters
        ----------
        path : str or path-like
            File to read.

        estimator : skorch.NeuralNet, default=None
            The net that the classifier was made with, fitted or not. It is needed if its
            module, or another part of it, is not of rs4a, torch or skorch. Module and
            criterion must be those that the file states; parameters of training may
            differ. The net is not changed.

        noise : Noise, default=None
            The noise of the classifier, needed if its class is not of rs4a. It must equal
            the noise that the file states.

        objective : Objective, default=None
            Likewise, the training objective.

        bound : Bound, default=None
            Likewise, the bound.

        device : str or torch.device, default=None
            Device of the net. None: that of `estimator` or else the saved one, or "cpu"
            if this machine does not have it.

        Returns
        -------
        classifier : SmoothedClassifier
            Fitted classifier, which votes as the saved one did.

        Raises
        ------
        ValueError
            If the file is not whole, is of a later format, names a class that is not
            given, or states another net, noise, objective or bound than is given.
        TypeError
            If `estimator` is not a skorch net.

        See Also
        --------
        save : Writes the file, and has an example.

        Notes
        -----
        `n_jobs`, `verbose` and `memory` belong to the machine and have their defaults; a
        generator as `random_state` becomes None. `partial_fit` continues the training
        without the states of optimizers and callbacks, which the file does not hold.
        `estimator` is a net without weights, even if the saved classifier continued from
        a fitted net.
        """
        return cast(
            Self,
            load_classifier(
                cls,
                path,
                estimator=estimator,
                noise=noise,
                objective=objective,
                bound=bound,
                device=device,
            ),
        )

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        *,
        noise: Noise | None = None,
        network: Mapping[str, Any] | None = None,
        device: str = "cpu",
        **params: Any,
    ) -> Self:
        """Smoothed classifier around a trained net in a file, ready to certify.

        The result equals ``SmoothedClassifier(FrozenEstimator(net), noise=noise)``,
        fitted on images in [0, 1].

        Parameters
        ----------
        path : str or path-like
            File of weights, as :func:`~rs4a.persistence.load_checkpoint` reads it.

        noise : Noise, default=None
            Smoothing noise. None: the noise in the name of the file, as in
            "cifar_uniform_050.pt", or in the header of a file of version 0.1.0.

        network : dict, default=None
            Further arguments of :func:`~rs4a.persistence.load_checkpoint`, such as ``name``
            or ``input_shape``, for files that do not state them.

        device : str, default="cpu"
            Device of the net.

        **params : dict
            Further parameters of the classifier, such as ``bound``, ``batch_size`` and
            ``random_state``.

        Returns
        -------
        classifier : SmoothedClassifier
            Fitted classifier.

        Raises
        ------
        ValueError
            If the file is not a whole checkpoint, if neither file nor name states the
            noise, or if the file states another template of deterministic splitting.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from skorch import NeuralNetClassifier
        >>> from rs4a import SmoothedClassifier
        >>> from rs4a.networks import make_network
        >>> net = NeuralNetClassifier(
        ...     make_network, module__name="MLP", module__dataset="digits"
        ... ).initialize()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "digits_uniform_050.safetensors")
        ...     net.save_params(f_params=path, use_safetensors=True)
        ...     clf = SmoothedClassifier.from_checkpoint(path, random_state=0)
        >>> clf.noise_, clf.input_shape_
        (Uniform(sigma=0.5), (1, 8, 8))
        """
        net, noise, shape = net_from_checkpoint(
            path, noise=noise, network=network, device=device
        )
        # A frozen net is not trained: two images state shape and scale. Their values are
        # fractions of 1 on the grid of a noise that has a grid.
        steps = getattr(noise, "levels", 4)
        values = np.round(steps * np.array([0.25, 0.75])) / steps
        X = np.stack([np.full(shape, value, dtype=np.float32) for value in values])
        classifier = cls(FrozenEstimator(net), noise=noise, **params)
        return classifier.fit(X, np.asarray(net.classes)[:2])

    def _checked(self, X: Any) -> Inputs:
        """Validated inputs of a fitted estimator; parameters may have been set since."""
        check_is_fitted(self, "estimator_")
        self._validate_params()
        if self.norm is not None:
            check_norm(self.norm)
        self._check_box()
        if is_plain(self.estimator_):
            check_plain_training(self.estimator_, self._objective, self.inference)
        return Inputs.checked(self, X, also=self.noise_.check_inputs)

    def _procedure(self) -> Procedure:
        """How votes are drawn; the key is `random_state`, or else drawn by `fit`."""
        fixed = isinstance(self.random_state, Integral)
        return Procedure(
            bound=self._resolved_bound(),
            n_selection=self.n_selection,
            alpha=self.alpha,
            norm=self.norm,
            seed=int(self.random_state) if fixed else self._sampling_seed,
            box=self.box,
            batch_size=self.batch_size,
            inference=self.inference,
            n_jobs=self.n_jobs,
            memory=self.memory,
            verbose=self.verbose,
        )

    def _resolved_bound(self) -> Bound:
        return self.bound or ClopperPearson()

    def _selection_counts(self, X: Any) -> NDArray[np.int64]:
        X, n_classes = self._checked(X).values, len(self.classes_)
        return selection_counts(self._net, X, self.noise_, n_classes, self._procedure())


def _random_state(given: Any) -> np.random.RandomState:
    """`check_random_state`, but None is the operating system's entropy.

    numpy's global generator, which scikit-learn takes, may have a seed that all know.
    """
    return np.random.RandomState() if given is None else check_random_state(given)
