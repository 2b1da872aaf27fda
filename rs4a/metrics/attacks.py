"""Accuracy under attack: the upper side of what certificates bound from below."""

import copy
import math
from typing import Any, Protocol, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from rs4a.bounds import Bound, ClopperPearson, ConfidenceSequence
from rs4a.metrics.scorers import certifiable
from rs4a.metrics.scores import comparable_labels
from rs4a.utils.validation import as_array

__all__ = ["Attack", "attack_score", "check_radii"]

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
        Inputs.

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
    radii = check_radii(radius)
    inputs: Any = as_array(X)
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


def check_radii(radius: Any) -> NDArray[np.float64]:
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
