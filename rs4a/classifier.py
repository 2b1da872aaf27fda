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
            Rows sum to 1. An estimate, not a bound: for bounds, `certify`.

        Raises
        ------
        ValueError
            If X is not as in `fit`, or the net returns NaN.
        """
        counts = self._counts(X)
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
        counts = self._counts(X, Clean(), n_selection=1, memory=None)
        return float(accuracy_score(as_array(y), self.classes_[counts.argmax(axis=1)]))

    def _checked(self, X: Any) -> Inputs:
        """Validated inputs of a fitted estimator; parameters may have been set since."""
        check_is_fitted(self, "estimator_")
        self._validate_params()
        if self.norm is not None:
            check_norm(self.norm)
        self._check_box()
        base_of(self.estimator_).check(self._objective, self.inference)
        also = self.noise_.check_inputs
        return Inputs(check_inputs(self, X, reset=False, also=also), X)

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

    def _counts(self, X: Any, noise: Noise | None = None, **changes: Any) -> NDArray:
        """Selection votes for every class, under another noise or procedure if given."""
        X, n_classes = self._checked(X).values, len(self.classes_)
        procedure = replace(self._procedure(), **changes)
        return selection_counts(self._net, X, noise or self.noise_, n_classes, procedure)
