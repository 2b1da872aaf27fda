"""The smoothed classifier: a scikit-learn estimator around a net or another classifier."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from rs4a.bounds import Bound
from rs4a.certify import Procedure, certify, selection_counts
from rs4a.inputs import Inputs
from rs4a.inputs.arrays import as_array, check_inputs
from rs4a.nets.inference import Inference
from rs4a.noises import Clean, Noise
from rs4a.objectives import Objective
from rs4a.persistence.estimator import SavedToFiles
from rs4a.records.certification import Certification
from rs4a.records.guarantee import guarantee_in_words
from rs4a.training.bases import base_of
from rs4a.training.estimator import TrainsUnderNoise, usual_noise
from rs4a.utils.arrays import labels_or
from rs4a.utils.checks import check_norm
from rs4a.utils.user_warnings import warn_user

__all__ = ["SmoothedClassifier"]


class SmoothedClassifier(ClassifierMixin, SavedToFiles, TrainsUnderNoise):
    """Classifier smoothed by noise, whose predictions come with a certified radius.

    The smoothed classifier answers with the class that a net, or any other classifier,
    gives most often to noisy copies of an input. The margin of the votes proves a radius:
    no smaller change of the input alters the answer.

    Parameters
    ----------
    estimator : skorch.NeuralNet, classifier, FrozenEstimator or None, default=None
        Net with one output per class. `fit` trains a clone of the net under noise, and
        the net itself stays as it is; `partial_fit` continues from its weights. A net in a
        :class:`~sklearn.frozen.FrozenEstimator` votes as it is, without training. None: a
        multilayer perceptron for tabular and image-shaped X.

        Or a scikit-learn classifier or pipeline: `fit` trains a clone on noisy copies of
        the training set, and its `predict` gives the votes, on one core of the CPU;
        `n_jobs` uses more cores.

    noise : Noise, default=None
        Smoothing noise. None: ``Gaussian(sigma=0.25)``; a search over ``noise__sigma``
        works with None too.

    objective : Objective, default=None
        Training objective under the noise. None: ``NoiseAugmentation()``. A scikit-learn
        classifier accepts this objective alone, and None means ``n_samples=10`` copies.

    bound : Bound, default=None
        Number of votes, and the lower bound on the probability of the top class that
        follows from them. None: ``ClopperPearson(n=100_000)``. ``ConfidenceSequence()``
        stops at an input as soon as its votes suffice.

    n_selection : int, default=64
        Votes that choose the class, in `predict` and `certify`. With deterministic noise
        both evaluate every view; `bound`, `n_selection` and `alpha` are ignored.

    alpha : float, default=0.001
        Probability with which each single certificate may be wrong.

    norm : {1, 2, inf}, default=None
        Norm of the adversary. None: the first norm of the noise.

    box : tuple of two floats, default=None
        Smallest and largest value of a coordinate, (0, 1) for images, if attacks must
        respect them too: radii against l1 adversaries are then larger, and hold within the
        box only. For Uniform noise and independent Splitting. None: no limit.

    batch_size : int or "auto", default=1024
        Noisy inputs in one forward pass; on a CPU the cores share the batch. Votes do not
        depend on it. A batch that does not fit into memory is halved. "auto": the smallest
        size for which a larger size is hardly faster.

    inference : Inference, default=None
        Settings of the forward passes in `predict` and `certify`, such as half precision
        or compilation. None: the net runs as it is.

    random_state : int, RandomState instance or None, default=None
        Seed of training and sampling. The votes of an input depend on the seed and the
        input alone; a second `certify` repeats the votes and is no new evidence. The
        guarantee holds against attackers who do not know the seed. None: `fit` draws a
        seed from the operating system's entropy, and not from numpy's global generator.

    n_jobs : int, default=None
        Number of joblib workers that share the inputs of `predict` and `certify`, on the
        backend that :class:`joblib.parallel_config` sets: processes, dask or ray. A single
        worker uses all cores too; more workers pay off on several GPUs or machines.

    memory : str, path-like or joblib.Memory, default=None
        Folder for finished work: votes, input by input, and trainings of nets on arrays,
        epoch by epoch. After an interruption, even a kill, repeat the same call to
        continue. If the net, the data or a parameter changed, work starts anew. Several
        runs may share the folder. None: nothing is kept.

    verbose : int, default=0
        1 shows a progress bar while votes are drawn.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted; for a net with a list of `classes`, in the order of the list.

    estimator_ : skorch.NeuralNet or classifier
        The trained, or frozen, net or scikit-learn classifier.

    noise_ : Noise
        The noise of the fit. Certificates are about this noise; a new `noise` has effect
        from the next fit on. New values of `bound`, `n_selection`, `alpha`, `norm`, `box`,
        `batch_size`, `inference`, `random_state`, `n_jobs`, `memory` and `verbose` have
        effect at once. `fit` draws the template of deterministic splitting,
        ``noise_.seed``.

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
    forward pass may keep its state in the modules, but not outside of them, such as in a
    global variable. A surrounding :class:`torch.autocast` has no effect; `inference` has.

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
        # Inputs lie in [0, 1]; scikit-learn has a tag for the lower end only.
        tags.input_tags.positive_only = bool(getattr(self.noise, "unit_inputs", False))
        return tags

    def _html_repr(self) -> str:
        """Diagram for notebooks, below the guarantee of certificates in words."""
        diagram: str = super()._html_repr()
        noise: Any = getattr(self, "noise_", self.noise or usual_noise())
        try:
            norm = noise.norms[0] if self.norm is None else check_norm(self.norm)
            words = guarantee_in_words(noise, alpha=self.alpha, norm=norm, box=self.box)
        except (AttributeError, LookupError, TypeError, ValueError):  # `fit` refuses them
            return diagram
        words = f"Certificates under {noise} state: {words}"
        return f"<div><p>{escape(words)}</p>{diagram}</div>"

    # Prediction

    def predict(self, X: Any) -> NDArray:
        """Class with most selection votes.

        The label is the same as in `certify`. With deterministic noise every view votes.

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
        counts = self._counts(X)
        return self.classes_[counts.argmax(axis=1)]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Share of the selection votes for every class.

        Parameters
        ----------
        X : array-like of shape (n, ...), or Dataset
            Inputs.

        Returns
        -------
        proba : ndarray of shape (n, n_classes), float64
            Rows sum to 1. This is an estimate; `certify` gives bounds.

        Raises
        ------
        ValueError
            If X is not as in `fit`, or the net returns NaN.
        """
        counts = self._counts(X)
        return counts / counts.sum(axis=1, keepdims=True)

    def predict_or_abstain(self, X: Any, radius: Any = 0.0, abstain: Any = -1) -> NDArray:
        """Label if its certified radius is large enough, else a mark.

        Votes, labels and cost are the same as in `certify`.

        Parameters
        ----------
        X : array-like of shape (n, ...), or Dataset
            Inputs.

        radius : float, default=0.0
            Least certified radius, in units of X and in the norm of the estimator. 0: any
            certificate is enough.

        abstain : object, default=-1
            The answer for all other inputs, such as None or "unsure"; it is no class.

        Returns
        -------
        answers : ndarray of shape (n,)
            Entries of `classes_`, and `abstain`. The dtype holds both if both are numbers
            or both are text; else it is object, as for text classes and -1.

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
        record of the votes so far is returned. Its certificates hold.

        Parameters
        ----------
        X : array-like of shape (n, ...), or Dataset
            Inputs. They are rounded to float32, and certificates are about the rounded
            inputs. A Dataset must give the same inputs at every reading.

        max_votes : int, default=None
            Estimation votes for all inputs together, under a bound that may stop. The
            inputs that seem the cheapest to decide get them. None: no limit.

        previous : Certification, default=None
            Record of the same net, noise, inputs, seed and `n_selection` under a bound
            that may stop: drawing continues from its votes.

        Returns
        -------
        certification : Certification
            Record of the votes. An abstention is part of the record, and no error.

        Raises
        ------
        ValueError
            If X is not as in `fit`, the net returns NaN, the bound does not fit the noise,
            `max_votes` is negative, `max_votes` or `previous` is given for a bound that
            does not stop, or `previous` has votes of another stream.
        TypeError
            If `max_votes` is no whole number or `previous` no Certification.

        Warns
        -----
        CertificationWarning
            If the bound draws too few votes to certify anything at this `alpha`; if the
            net's answer to an input depends on its batch, or changes while the net votes
            in this process (then ``report["warned"]`` of the record names the reason); if
            `noise` has changed since the fit; if float32 changes X by much; or after an
            interruption.
        """
        inputs = self._checked(X)
        self._warn_of_other_noise()
        return certify(
            self._net,
            inputs,
            self.noise_,
            self.classes_,
            self._procedure(),
            max_votes=max_votes,
            previous=previous,
        )

    def _warn_of_other_noise(self) -> None:
        asked = getattr(self, "_noise_of_fit", None)
        if asked is None or asked == str(self.noise):
            return
        warn_user(
            f"Certificates are about the noise of the fit, {self.noise_}, but noise is now "
            f"{self.noise}: call fit again, which leaves a frozen net as it is."
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
            Share of inputs that the net classifies correctly.

        Raises
        ------
        ValueError
            If X is not as in `fit`.
        """
        counts = self._counts(X, Clean(), n_selection=1, memory=None)
        return float(accuracy_score(as_array(y), self.classes_[counts.argmax(axis=1)]))

    def _checked(self, X: Any) -> Inputs:
        """Validated inputs; parameters may have been set after the fit."""
        check_is_fitted(self, "estimator_")
        self._validate_params()
        if self.norm is not None:
            check_norm(self.norm)
        self._check_box()
        base_of(self.estimator_).check(self._objective, self.inference)
        also = self.noise_.check_inputs
        return Inputs(check_inputs(self, X, reset=False, also=also), X)

    def _procedure(self) -> Procedure:
        """Settings of the votes; the seed is `random_state`, or else drawn by `fit`."""
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

    def _counts(self, X: Any, noise: Noise | None = None, **changes: Any) -> NDArray:
        """Selection votes for every class, under another noise or procedure if given."""
        X, n_classes = self._checked(X).values, len(self.classes_)
        procedure = replace(self._procedure(), **changes)
        return selection_counts(self._net, X, noise or self.noise_, n_classes, procedure)
