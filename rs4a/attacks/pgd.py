"""Projected gradient descent attacks on smoothed classifiers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch import Tensor
from tqdm.auto import tqdm

from rs4a.attacks.ascent import (
    Ball,
    ascend,
    check_additive,
    project,
    soft_vote_loss,
)
from rs4a.inputs.arrays import as_array, check_inputs
from rs4a.nets.outputs import (
    check_is_net,
    class_indices,
    evaluating,
    infer_log_proba,
    net_device,
)
from rs4a.noises.streams import stream_keys
from rs4a.radii.rounding import FloatArray
from rs4a.utils.checks import check_box, check_norm, format_norm

_Float32Array = NDArray[np.float32]

#: Largest distance with which float32 can calculate.
_LONGEST = 1e30
#: Rows of a forward pass with batch_size="auto".
_AUTO_BATCH_SIZE = 1024


class PGD(BaseEstimator):
    """Projected gradient descent against the soft votes of a smoothed classifier.

    The attack moves an input, within a distance, to where the mean of the net's
    probabilities over some draws of the noise is smallest for the true class [1]_. The
    draws are the same in all steps. l1 steps move the sixteenth part of the coordinates
    with the largest gradients [2]_. A failed attack proves nothing; a successful one bounds
    the accuracy that any certificate can reach.

    Parameters
    ----------
    norm : {1, 2, inf}, default=None
        Norm of the distance. None: the norm of the classifier, or else of its noise.

    radius : float, default=0.5
        Largest distance, in units of X.

    steps : int, default=20
        Gradient steps.

    step_size : float, default=None
        Length of a step, in the same norm. None: 2 radius / steps.

    n_samples : int, default=32
        Draws of the noise in the mean of the soft votes.

    restarts : int, default=1
        Number of tries. The first one starts from the input, further ones from random
        places within the distance, with other draws. The result is the try with the fewest
        soft votes under one more set of draws.

    box : tuple of two floats, default=None
        Smallest and largest value of a coordinate, of the inputs too. (0, 1) for images.
        None: no limit.

    random_state : int, RandomState instance or None, default=None
        Seed of the draws. The draws of an input depend on the seed and the input alone.

    References
    ----------
    .. [1] Salman et al., "Provably Robust Deep Learning via Adversarially Trained Smoothed
       Classifiers", NeurIPS 2019, arXiv:1906.04584.
    .. [2] Yang et al., "Randomized Smoothing of All Shapes and Sizes", ICML 2020,
       arXiv:2002.08118.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from rs4a import SmoothedClassifier
    >>> from rs4a.attacks import PGD
    >>> from rs4a.noises import Uniform
    >>> X, y = load_digits(return_X_y=True)
    >>> X = (X / 16).astype("float32")
    >>> clf = SmoothedClassifier(noise=Uniform(sigma=0.3), random_state=0)
    >>> attack = PGD(norm=1, radius=5.0, box=(0, 1), random_state=0)
    >>> attacked = attack.perturb(clf.fit(X[:1500], y[:1500]), X[1500:1550], y[1500:1550])
    >>> bool(np.abs(attacked - X[1500:1550]).sum(axis=1).max() <= 5.0)
    True
    >>> clf.score(attacked, y[1500:1550]) < clf.score(X[1500:1550], y[1500:1550])
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "radius": [Interval(Real, 0, _LONGEST, closed="both")],
        "steps": [Interval(Integral, 1, None, closed="left")],
        "step_size": [Interval(Real, 0, _LONGEST, closed="right"), None],
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "restarts": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        norm: float | None = None,
        radius: float = 0.5,
        *,
        steps: int = 20,
        step_size: float | None = None,
        n_samples: int = 32,
        restarts: int = 1,
        box: tuple[float, float] | None = None,
        random_state: Any = None,
    ):
        self.norm = norm
        self.radius = radius
        self.steps = steps
        self.step_size = step_size
        self.n_samples = n_samples
        self.restarts = restarts
        self.box = box
        self.random_state = random_state

    def perturb(
        self,
        classifier: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        radius: ArrayLike | None = None,
    ) -> _Float32Array:
        """Inputs within the radius at which `y` has few votes.

        Parameters
        ----------
        classifier : SmoothedClassifier
            Fitted classifier, which does not change. A forward pass takes its `batch_size`,
            or `n_samples` if that is larger.

        X : array-like of shape (n, ...)
            Inputs; all inputs of a Dataset are read.

        y : array-like of shape (n,)
            Labels under attack: the true ones, or the certified ones.

        radius : float or array-like of shape (n,), default=None
            Largest distance, one number or one per input. None: the attack's `radius`.

        Returns
        -------
        attacked : ndarray of shape (n, ...), float32
            Their distance, computed and checked in float64, is at most the radius.

        Raises
        ------
        ValueError
            If a parameter, X, y or a radius is not as described, the noise is not added to
            the inputs, or the net has no gradients or returns NaN.
        TypeError
            If the criterion of the net does not define what its outputs are, or the
            base of the classifier is no net.
        """
        check_is_fitted(classifier, "estimator_")
        check_is_net(classifier.estimator_, "PGD, which follows gradients,")
        classifier._validate_params()
        self._validate_params()
        check_additive(classifier.noise_, "PGD")
        inputs: _Float32Array = np.asarray(check_inputs(classifier, X, reset=False))
        targets = _targets(classifier, y, len(inputs))
        radii = self._radii(radius, len(inputs))
        norm = self._resolved_norm(classifier)
        box = _checked_box(self.box, inputs)
        random_state = check_random_state(self.random_state)
        seeds = random_state.randint(2**62, size=self.restarts + 1, dtype=np.int64).tolist()
        attacked = inputs.copy()
        size = classifier.batch_size
        size = _AUTO_BATCH_SIZE if size == "auto" else int(size)
        per_batch = max(1, size // self.n_samples)
        starts = range(0, len(inputs), per_batch)
        with evaluating(classifier.estimator_), torch.inference_mode(False):
            for start in tqdm(starts, "attack", disable=not classifier.verbose):
                rows = slice(start, start + per_batch)
                x = torch.from_numpy(inputs[rows]).double()
                ball = Ball.around(x, norm, torch.from_numpy(radii[rows]), box)
                labels = torch.from_numpy(targets[rows])
                delta = self._attack(classifier, inputs[rows], labels, ball, seeds)
                attacked[rows] = _moved(inputs[rows], delta, ball)
        if box is not None:  # float32 may have rounded its ends
            attacked = attacked.clip(*box)
        _check_distance(attacked, inputs, norm, radii)
        return attacked

    def _attack(
        self, classifier: Any, X: _Float32Array, y: Tensor, ball: Ball, seeds: list[int]
    ) -> Tensor:
        """The best perturbation, in float32, of inputs that share forward passes."""
        net = classifier.estimator_
        device = net_device(net)
        ball = Ball(ball.norm, *(each.to(device).float() for each in ball[1:]))
        x, y = torch.from_numpy(np.array(X)).to(device), y.to(device)
        votes = _log_proba_of(net, len(classifier.classes_))
        step = ball.radius * (2.0 / self.steps)
        if self.step_size is not None:
            step = torch.full_like(step, self.step_size)

        def loss_under(seed: int) -> Callable[[Tensor], Tensor]:
            draws = _draws(classifier.noise_, X, self.n_samples, seed, device)
            return lambda moved: soft_vote_loss(votes, moved, draws, y)

        tried = []
        for number, seed in enumerate(seeds[:-1]):
            start = None if number == 0 else _random_start(X, ball, seed)
            delta = ascend(
                loss_under(seed), x, ball, steps=self.steps, step_size=step, start=start
            )
            tried.append(delta)
        if len(tried) == 1:
            return tried[0]
        judge = loss_under(seeds[-1])
        with torch.no_grad():
            losses = torch.stack([judge(x + delta) for delta in tried])
        return torch.stack(tried)[losses.argmax(dim=0), torch.arange(len(x))]

    def _radii(self, radius: ArrayLike | None, n: int) -> FloatArray:
        radius = self.radius if radius is None else radius
        if isinstance(radius, Tensor):
            radius = radius.detach().double().cpu()
        try:
            given = np.asarray(radius, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"radius must hold floats, got {radius!r}.") from error
        fits = given.shape in ((), (n,))
        wrong = given[~((given >= 0.0) & (given <= _LONGEST))]  # NaN compares false
        if len(wrong) or not fits:
            got = wrong[0] if fits else f"shape {given.shape}"
            raise ValueError(
                f"radius must be a float in the range [0, {_LONGEST:g}], or have shape "
                f"({n},) and hold such floats, got {got}."
            )
        return np.broadcast_to(given, (n,)).copy()

    def _resolved_norm(self, classifier: Any) -> float:
        norm = classifier.norm if self.norm is None else self.norm
        return float(classifier.noise_.norms[0]) if norm is None else check_norm(norm)


def _targets(classifier: Any, y: ArrayLike, n: int) -> NDArray[np.int64]:
    """Indices of the net's outputs."""
    labels = column_or_1d(as_array(y))
    if len(labels) != n:
        raise ValueError(
            f"y must have a label for each of the {n} inputs, got {len(labels)}."
        )
    return class_indices(labels, classifier.classes_, "the classifier")


def _checked_box(box: Any, X: _Float32Array) -> tuple[float, float] | None:
    checked = check_box(box)
    if checked is not None and not (X.min() >= checked[0] and X.max() <= checked[1]):
        raise ValueError(
            f"X must lie in the attack's box, {checked}, got values from {X.min():g} to "
            f"{X.max():g}."
        )
    return checked


def _log_proba_of(net: Any, n_classes: int) -> Callable[[Tensor], Tensor]:
    def log_proba(noisy: Tensor) -> Tensor:
        votes = infer_log_proba(net, noisy, n_classes).float()
        if votes.isnan().any():  # NaN would stop the attack silently
            raise ValueError("The net returned NaN for an input under attack.")
        return votes

    return log_proba


def _draws(noise: Any, X: _Float32Array, n: int, seed: int, device: torch.device) -> Tensor:
    """Noise for every input from a generator of its own, (n, n_inputs, ...)."""
    draws = torch.zeros((len(X), n, *X.shape[1:]), device=device)
    for row, generator in enumerate(_generators(X, seed, device)):
        draws[row] = noise.sample(draws[row], generator)
    return draws.transpose(0, 1)


def _random_start(X: _Float32Array, ball: Ball, seed: int) -> Tensor:
    """A perturbation of random direction and length for every input."""
    device = ball.radius.device
    start = torch.empty((len(X), X[0].size), device=device)
    for row, generator in enumerate(_generators(X, ~seed, device)):
        direction = torch.randn(X[0].size, generator=generator, device=device)
        share = torch.rand((), generator=generator, device=device)
        length = torch.linalg.vector_norm(direction, ball.norm)
        start[row] = ball.radius[row] * share * direction / length
    return project(start, ball)


def _generators(
    X: _Float32Array, seed: int, device: torch.device
) -> Iterator[torch.Generator]:
    for first, *_ in stream_keys(X, seed).tolist():
        yield torch.Generator(device).manual_seed(first % 2**63)


def _moved(X: _Float32Array, delta: Tensor, ball: Ball) -> _Float32Array:
    """X + delta in float32, within the ball although float32 rounded delta and radius."""
    if ball.norm != math.inf:  # the sum over coordinates is rounded as well
        ball = ball._replace(radius=ball.radius * (1.0 - 1e-12))
    within = project(delta.flatten(1).cpu().double(), ball)
    return _rounded_inwards(X, within.view(delta.shape).numpy())


def _rounded_inwards(X: _Float32Array, delta: FloatArray) -> _Float32Array:
    """X + delta in float32; each coordinate moves at most as far as in delta."""
    exact = X.astype(np.float64) + delta
    rounded = exact.astype(np.float32)
    farther = np.abs(rounded.astype(np.float64) - X) > np.abs(delta)
    return np.where(farther, np.nextafter(rounded, X), rounded)


def _check_distance(
    attacked: _Float32Array, X: _Float32Array, norm: float, radii: FloatArray
) -> None:
    """An attack beyond the radius would refute certificates that are right."""
    moved = (attacked.astype(np.float64) - X).reshape(len(X), -1)
    distance = np.linalg.norm(moved, norm, axis=1) if len(X) else np.zeros(0)
    if not (distance <= radii).all():
        raise RuntimeError(
            f"The attack left its {format_norm(norm)} ball: distance "
            f"{distance.max():.9g}. This is a mistake of rs4a: please report it."
        )
