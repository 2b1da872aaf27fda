"""Accuracy under attack: an upper bound on what certificates prove."""

from __future__ import annotations

import copy
import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _get_feature_names, check_is_fitted

from rs4a.bounds import Bound, ClopperPearson, ConfidenceSequence
from rs4a.inputs.arrays import as_array, check_inputs
from rs4a.inputs.datasets import is_dataset
from rs4a.metrics.drawing import ShareDisplay, draw_lines, label_radii
from rs4a.metrics.predictions import comparable_labels
from rs4a.metrics.scorers import certifiable
from rs4a.metrics.scores import certified_accuracy_score, check_confidence
from rs4a.utils.checks import check_norm, format_norm

_MAX_VOTES = 1000
#: Probability of the top class at which a label is certain.
_CERTAIN = 0.501


def attack_score(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    attack: Any,
    radius: Any,
    bound: Bound | None = None,
) -> Any:
    """Share of inputs whose label an attack within a distance does not provably change.

    It bounds from above what certificates can prove at that distance. An input is lost
    if the votes on the attacked input *certify* another label than the true one: unlucky
    votes make no attack succeed, except with the classifier's probability `alpha` in each
    judgement. An input that is lost at one distance is lost at all larger distances.

    Parameters
    ----------
    estimator : SmoothedClassifier, or search over one
        Fitted classifier; it stays as it is.

    X : array-like of shape (n, ...)
        Inputs; all inputs of a Dataset are read.

    y : array-like of shape (n,)
        True labels.

    attack : PGD
        Attack, or an object with its `norm` and its `perturb`. Its radius is ignored.

    radius : float or array-like of shape (n_radii,)
        Distances, in units of X.

    bound : Bound, default=None
        Bound that judges attacked inputs, in place of the classifier's own bound. None: a
        confidence sequence that stops at a certain label, after 1000 votes at most.

    Returns
    -------
    score : float or ndarray of shape (n_radii,), float64
        Accuracy under attack; an abstention counts as correct.

    Raises
    ------
    ValueError
        If a radius is negative, infinite or NaN, or X and y are not as in `fit`.
    NotFittedError
        If the classifier is not fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from rs4a import SmoothedClassifier
    >>> from rs4a.attacks import PGD
    >>> from rs4a.metrics import attack_score
    >>> from rs4a.noises import Uniform
    >>> X, y = load_digits(return_X_y=True)
    >>> X = (X / 16).astype("float32")
    >>> clf = SmoothedClassifier(noise=Uniform(sigma=0.3), random_state=0)
    >>> clf = clf.fit(X[:1500], y[:1500])
    >>> attack = PGD(norm=1, steps=10, box=(0, 1), random_state=0)
    >>> scores = attack_score(
    ...     clf, X[1500:1550], y[1500:1550], attack=attack, radius=[1.0, 4.0]
    ... )
    >>> bool(scores[0] >= scores[1])
    True
    """
    classifier = certifiable(estimator)
    check_is_fitted(classifier)
    radii = _check_radii(radius)
    inputs: Any = as_array(X)
    if is_dataset(X):
        inputs = np.asarray(check_inputs(classifier, X, reset=False))
    names = _get_feature_names(inputs)  # of a DataFrame; certify wants them again
    labels = comparable_labels("y", y, classifier.classes_, len(inputs))
    judge = _judge(classifier, bound)
    standing = np.ones(len(inputs), dtype=bool)
    accuracies = []
    distances = np.unique(np.append(radii, 0.0))
    for distance in distances.tolist():
        rows = np.flatnonzero(standing)
        if len(rows):
            some: Any = _safe_indexing(inputs, rows)
            if distance > 0.0:
                some = attack.perturb(classifier, some, labels[rows], radius=distance)
                some = some if names is None else pd.DataFrame(some, columns=names)
            record = judge.certify(some)
            standing[rows] = (record.labels == labels[rows]) | record.abstained
        accuracies.append(standing.mean())
    scores = np.array(accuracies)[np.searchsorted(distances, radii)]
    return float(scores) if radii.ndim == 0 else scores


def _check_radii(radius: Any) -> NDArray[np.float64]:
    """Return distances as float64; refuse distances without a possible attack."""
    radii = np.asarray(radius, dtype=np.float64)
    if not ((radii >= 0.0) & np.isfinite(radii)).all():
        raise ValueError(f"radius must be finite and at least 0, got {radius!r}.")
    return radii


def _judge(classifier: Any, bound: Bound | None) -> Any:
    """A copy of the classifier that tells right labels from wrong labels.

    A label is certain at any radius above 0, in any norm: the norm of the noise suffices.
    """
    noise = classifier.noise_
    if bound is None:
        dim = math.prod(classifier.input_shape_)
        certain = float(noise.radius(_CERTAIN, norm=noise.norms[0], dim=dim))
        bound = ClopperPearson(n=_MAX_VOTES)
        if certain > 0.0:
            bound = ConfidenceSequence(max_n=_MAX_VOTES, radii=certain)
    return copy.copy(classifier).set_params(bound=bound, norm=None)


@dataclass(eq=False, repr=False)
class AttackDisplay(ShareDisplay):
    """Robust accuracy between its bounds: certificates below, an attack above.

    The share of inputs whose label no attack within a distance can change lies between the
    two lines, except with the classifier's probability `alpha` in each certificate and
    judgement. Make one by :meth:`from_estimator`.

    Parameters
    ----------
    radii : ndarray of shape (n_radii,)
        Distances of the adversary, in units of X.

    certified : ndarray of shape (n_radii,)
        Certified accuracy.

    attacked : ndarray of shape (n_radii,)
        Accuracy under attack.

    norm : {1, 2, inf}, default=None
        Norm of the adversary, for the label of the axis.

    n_inputs : int, default=None
        Number of inputs that the accuracies are shares of. None: no bands.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        Lines of certified accuracy and of accuracy under attack.

    bands_ : list of matplotlib PolyCollection
        Band of each line; empty if there are none.

    ax_ : matplotlib Axes
        Axes of the figure.

    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    >>> import numpy as np
    >>> from rs4a.metrics import AttackDisplay
    >>> display = AttackDisplay(
    ...     np.array([0.0, 0.5, 1.0]),
    ...     certified=np.array([0.9, 0.6, 0.2]),
    ...     attacked=np.array([0.95, 0.8, 0.5]),
    ...     norm=1,
    ... ).plot()
    >>> display.ax_.get_xlabel()
    'l1 radius'
    """

    radii: NDArray[np.float64]
    certified: NDArray[np.float64]
    attacked: NDArray[np.float64]
    _: KW_ONLY
    norm: float | None = None
    n_inputs: int | None = None

    def _draw(self, ax: Any, **kwargs: Any) -> list[Any]:
        # Between two radii, the certificates of the larger radius and the attacks of the
        # smaller radius are known.
        below = {"certified accuracy": self.certified}
        above = {"accuracy under attack": self.attacked}
        lines = draw_lines(ax, self.radii, below, drawstyle="steps-pre", **kwargs)
        lines += draw_lines(ax, self.radii, above, drawstyle="steps-post", **kwargs)
        # The area between the lines is hatched, since bands lie on it.
        edges = np.repeat(self.radii, 2)[1:-1]
        between = np.repeat(self.certified[1:], 2), np.repeat(self.attacked[:-1], 2)
        hatch = {"facecolor": "none", "edgecolor": "0.7", "hatch": "///", "linewidth": 0.0}
        ax.fill_between(edges, *between, label="not known", **hatch)
        label_radii(ax, "accuracy", self.norm, self.radii[-1])
        return lines

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        attack: Any,
        radii: ArrayLike,
        norm: float | None = None,
        confidence: float | None = 0.95,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Certify and attack some inputs, and draw both accuracies.

        Parameters
        ----------
        estimator : SmoothedClassifier, or search over one
            Fitted classifier.

        X : array-like of shape (n, ...)
            Inputs.

        y : array-like of shape (n,)
            True labels.

        attack : PGD
            Attack, or an object with its `norm` and its `perturb`. Its radius is ignored.

        radii : array-like of shape (n_radii,)
            Distances to certify and to attack at; 0 is added.

        norm : {1, 2, inf}, default=None
            Norm of the certificates. None: the attack's, or else the classifier's.

        confidence : float, default=0.95
            Probability of the bands around the lines. None: no bands.

        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : AttackDisplay
            The drawn figure.

        Raises
        ------
        ValueError
            If a radius is negative, infinite or NaN, the attack is in another norm than
            the certificates, or `confidence` is outside (0, 1).
        """
        check_confidence(confidence)
        grid = np.union1d(0.0, _check_radii(radii))
        certification = certifiable(estimator).certify(X)
        own = certification.norm if attack.norm is None else check_norm(attack.norm)
        norm = own if norm is None else check_norm(norm)
        if norm != own:
            raise ValueError(
                f"norm must be that of the attack, {format_norm(own)}, got {norm:g}: "
                "bounds in different norms say nothing about each other."
            )
        attacked = attack_score(estimator, X, y, attack=attack, radius=grid)
        certified = certified_accuracy_score(y, certification, radius=grid, norm=norm)
        display = cls(grid, certified, attacked, norm=norm, n_inputs=len(certification))
        return display.plot(ax=ax, confidence=confidence, **kwargs)
