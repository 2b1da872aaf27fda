"""Accuracy under attack: the upper side of what certificates bound from below."""

from __future__ import annotations

import copy
import math
from typing import Any, Protocol, Self, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _get_feature_names, check_is_fitted

from rs4a.bounds import Bound, ClopperPearson, ConfidenceSequence
from rs4a.inputs.arrays import as_array, check_inputs
from rs4a.inputs.datasets import is_dataset
from rs4a.metrics.drawing import draw_bands, drawing_axes, label_accuracy, line_style
from rs4a.metrics.scorers import certifiable
from rs4a.metrics.scores import (
    certified_accuracy_score,
    check_confidence,
    comparable_labels,
)
from rs4a.utils.checks import check_norm, format_norm

__all__ = ["Attack", "AttackDisplay", "attack_score"]

_MAX_VOTES = 1000
#: Probability of the top class that is enough to judge by.
_CERTAIN = 0.501


class Attack(Protocol):
    """What a score needs of an attack: a `PGD`, or one of a user's own."""

    norm: float | None

    def perturb(
        self, classifier: Any, X: Any, y: Any, *, radius: Any
    ) -> NDArray[np.float32]:
        """Inputs, at most the radius away, that are attacked."""


@overload
def attack_score(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    attack: Attack,
    radius: float,
    bound: Bound | None = None,
) -> float: ...


@overload
def attack_score(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    attack: Attack,
    radius: list[float] | tuple[float, ...] | NDArray,
    bound: Bound | None = None,
) -> NDArray[np.float64]: ...


def attack_score(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    attack: Attack,
    radius: Any,
    bound: Bound | None = None,
) -> Any:
    """Share of inputs that an attack within a distance does not provably turn.

    It bounds from above what certificates can prove at that distance. An input is lost
    where the votes on the attacked input *certify* another label than the true one, so
    that unlucky votes count for no attack, but with the classifier's probability `alpha`
    in each judgement; and an input that is lost at some distance is lost at all larger
    ones.

    Parameters
    ----------
    estimator : SmoothedClassifier, or search over one
        Fitted classifier; it stays as it is.

    X : array-like of shape (n, ...)
        Inputs; those of a Dataset are all read.

    y : array-like of shape (n,)
        True labels.

    attack : PGD
        Attack. Its own radius does not count.

    radius : float or array-like of shape (n_radii,)
        Distances, in units of X.

    bound : Bound, default=None
        How attacked inputs are judged, in place of the classifier's own bound. None: by a
        confidence sequence that stops at a certain label, after 1000 votes at most.

    Returns
    -------
    score : float or ndarray of shape (n_radii,), float64
        Accuracy under attack, with abstentions counted as right.

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
    inputs: Any = _with_names(as_array(X))
    if is_dataset(X):
        inputs = np.asarray(check_inputs(classifier, X, reset=False))
    labels = comparable_labels("y", y, classifier.classes_, len(inputs))
    judge = _judge(classifier, bound)
    standing = ~_lost(judge, inputs, labels)
    accuracy = {0.0: float(standing.mean())}
    for distance in np.unique(radii[radii > 0.0]).tolist():
        rows = np.flatnonzero(standing)
        if len(rows):
            some = _safe_indexing(inputs, rows)
            attacked: Any = attack.perturb(classifier, some, labels[rows], radius=distance)
            if isinstance(inputs, pd.DataFrame):  # certify wants the names of the columns
                attacked = pd.DataFrame(attacked, columns=inputs.columns)
            standing[rows] = ~_lost(judge, attacked, labels[rows])
        accuracy[distance] = float(standing.mean())
    scores = np.array([accuracy[each] for each in radii.ravel().tolist()])
    return float(scores[0]) if radii.ndim == 0 else scores.reshape(radii.shape)


def _with_names(X: Any) -> Any:
    """Return a DataFrame of any kind as pandas': attacked rows must have its names."""
    names = None if isinstance(X, pd.DataFrame) else _get_feature_names(X)
    return X if names is None else pd.DataFrame(np.asarray(X), columns=names)


def _check_radii(radius: Any) -> NDArray[np.float64]:
    """Return distances as float64; refuse those at which no attack is possible."""
    radii = np.asarray(radius, dtype=np.float64)
    if not ((radii >= 0.0) & np.isfinite(radii)).all():
        raise ValueError(f"radius must be finite and at least 0, got {radius!r}.")
    return radii


def _judge(classifier: Any, bound: Bound | None) -> Any:
    """A copy of the classifier that is to tell right labels from wrong ones.

    A label is certain at any radius above 0, whatever the norm: the noise's own will do.
    """
    noise = classifier.noise_
    if bound is None:
        dim = math.prod(classifier.input_shape_)
        certain = float(noise.radius(_CERTAIN, norm=noise.norms[0], dim=dim))
        bound = ClopperPearson(n=_MAX_VOTES)
        if certain > 0.0:
            bound = ConfidenceSequence(max_n=_MAX_VOTES, radii=certain)
    return copy.copy(classifier).set_params(bound=bound, norm=None)


def _lost(classifier: Any, X: Any, labels: NDArray) -> NDArray[np.bool_]:
    """Where another label than the true one is certain."""
    certification = classifier.certify(X)
    return (certification.labels != labels) & ~certification.abstained


class AttackDisplay:
    """Robust accuracy between its bounds: certificates below, an attack above.

    The share of inputs that no attack within a distance can turn lies between the two
    lines, but for the classifier's probability `alpha` in each certificate and judgement.
    Make one by :meth:`from_estimator`.

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

    def __init__(
        self,
        radii: NDArray[np.float64],
        certified: NDArray[np.float64],
        attacked: NDArray[np.float64],
        *,
        norm: float | None = None,
        n_inputs: int | None = None,
    ):
        self.radii = radii
        self.certified = certified
        self.attacked = attacked
        self.norm = norm
        self.n_inputs = n_inputs

    def plot(
        self, ax: Any = None, *, confidence: float | None = 0.95, **kwargs: Any
    ) -> Self:
        """Draw the figure.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.

        confidence : float, default=0.95
            Probability of the band around each line, an interval at every radius that
            allows for the choice of the inputs. None: no bands.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : AttackDisplay
            Itself, with the attributes of a drawn figure.
        """
        self.ax_, self.figure_ = drawing_axes(self, ax)
        # Between two radii, the larger one's certificates and the smaller one's attacks
        # are what is known.
        lines = [
            (self.certified, "certified accuracy", "steps-pre"),
            (self.attacked, "accuracy under attack", "steps-post"),
        ]
        self.lines_ = []
        for number, (accuracy, label, drawstyle) in enumerate(lines):
            style = {**line_style(number), **kwargs}
            self.lines_ += self.ax_.plot(
                self.radii, accuracy, drawstyle=drawstyle, label=label, **style
            )
        self.bands_ = draw_bands(self.lines_, self.n_inputs, confidence)
        self._hatch()
        own = ax is None
        label_accuracy(self.ax_, "accuracy", self.norm, self.radii[-1], own_figure=own)
        return self

    def _hatch(self) -> None:
        """Mark what lies between the lines; hatched, since bands lie on it."""
        edges = np.repeat(self.radii, 2)[1:-1]
        self.ax_.fill_between(
            edges,
            np.repeat(self.certified[1:], 2),
            np.repeat(self.attacked[:-1], 2),
            facecolor="none",
            edgecolor="0.7",
            hatch="///",
            linewidth=0.0,
            label="not known",
        )

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        attack: Attack,
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
            Attack. Its own radius does not count.

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
