"""How noise spreads through the layers of a net."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from rs4a.inputs.arrays import check_inputs
from rs4a.metrics.drawing import Display, draw_lines
from rs4a.metrics.scorers import certifiable
from rs4a.nets.outputs import check_is_net, evaluating, to_net, without_gradients

#: More names do not fit below the axis; fewer names are slanted, as these are read easily.
_MAX_TICKS = 30
_MAX_SLANTED = 12


def noise_propagation(
    estimator: Any,
    X: ArrayLike,
    *,
    n_copies: int = 64,
    layers: Sequence[str] | None = None,
    random_state: Any = None,
) -> pd.Series:
    """Distance between noisy copies of one input, relative to copies of different inputs.

    In every layer it is the mean l2 distance between the activations of two noisy copies
    of one input, divided by the mean distance between noisy copies of two different
    inputs. Near 1, the noise hides the differences between the inputs; at 0, the net has
    removed the noise and kept the differences. The distances alone say little, because
    they grow with the width and the weights of a layer; the ratio does not. Inputs without
    noise say little too: a net that was trained under much noise may answer them all
    alike.

    Parameters
    ----------
    estimator : SmoothedClassifier, or search over one
        Fitted classifier, whose net is measured under the noise of the fit. For another
        noise, fit a classifier of that noise with the net in a FrozenEstimator.

    X : array-like of shape (n, ...)
        Inputs, at least two; all inputs of a Dataset are read.

    n_copies : int, default=64
        Noisy copies of every input, at least two.

    layers : sequence of str, default=None
        Names of modules, as the net's `named_modules` gives them. None: all modules
        without children.

    random_state : int, RandomState instance or None, default=None
        Seed of the noise.

    Returns
    -------
    distances : pandas.Series of shape (n_layers + 1,), float64
        By name: "input", then the layers in the order in which they run; the second run
        of a layer "relu" is "relu (2)". NaN where a layer answers all noisy inputs alike.
        A function that is no module, such as `torch.relu`, is not measured.

    Raises
    ------
    ValueError
        If there are fewer than two inputs or copies, X is not as in `fit`, or the net
        has no such layer.
    NotFittedError
        If the classifier is not fitted.
    TypeError
        If the base of the classifier is no net.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from rs4a import SmoothedClassifier
    >>> from rs4a.metrics import noise_propagation
    >>> from rs4a.noises import Uniform
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X / 16
    >>> clf = SmoothedClassifier(noise=Uniform(sigma=0.3), random_state=0)
    >>> clf = clf.fit(X[:200], y[:200])
    >>> distances = noise_propagation(clf, X[200:210], random_state=0)
    >>> distances.index.tolist()
    ['input', 'layers.0', 'layers.1', 'layers.2']
    >>> bool(distances["layers.2"] < distances["input"])
    True
    """
    classifier = certifiable(estimator)
    check_is_fitted(classifier, "estimator_")
    # A Dataset is read once: every pass needs all inputs.
    inputs = torch.from_numpy(np.asarray(check_inputs(classifier, X, reset=False)))
    if min(len(inputs), n_copies) < 2:
        raise ValueError(
            "X must have at least 2 inputs and n_copies must be at least 2, got "
            f"{len(inputs)} and {n_copies}."
        )
    net = classifier.estimator_
    check_is_net(net, "noise_propagation")
    seed = int(check_random_state(random_state).randint(2**31))
    generator = torch.Generator().manual_seed(seed)
    modules = _modules(net, layers)

    def noisy_distance(batches: Iterable[torch.Tensor]) -> pd.Series:
        noisy = (classifier.noise_.sample(batch, generator) for batch in batches)
        found = [_layer_distances(net, modules, batch) for batch in noisy]
        return pd.concat(found, axis=1).mean(axis=1)

    with evaluating(net), without_gradients():
        within = noisy_distance(x.repeat(n_copies, *[1] * x.ndim) for x in inputs)
        between = noisy_distance(itertools.repeat(inputs, n_copies))
    return (within / between.where(between > 0.0)).rename("distance")


def _modules(net: Any, layers: Sequence[str] | None) -> dict[str, torch.nn.Module]:
    """Modules that are measured, by name: all leaves, or the given layers."""
    named = dict(net.module_.named_modules())
    if layers is None:
        return {
            name or type(module).__name__: module
            for name, module in named.items()
            if not any(module.children())
        }
    unknown = [name for name in layers if name not in named]
    if unknown:
        raise ValueError(
            f"layers must be names of the net's modules, got {unknown}. There are "
            f"{[name for name in named if name]}."
        )
    return {name: named[name] for name in layers}


def _layer_distances(
    net: Any, modules: Mapping[str, torch.nn.Module], batch: torch.Tensor
) -> pd.Series:
    """Mean distance between the activations of a batch, in every layer that runs."""
    found = {"input": _mean_distance(batch)}
    runs = Counter[str]()

    def measure(name: str, module: torch.nn.Module, args: Any, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) else output
        runs[name] += 1
        numbered = name if runs[name] == 1 else f"{name} ({runs[name]})"
        found[numbered] = _mean_distance(output)

    handles = [
        module.register_forward_hook(partial(measure, name))
        for name, module in modules.items()
    ]
    try:
        net.infer(to_net(net, batch))
    finally:
        for handle in handles:
            handle.remove()
    return pd.Series(found, dtype=np.float64)


def _mean_distance(activations: torch.Tensor) -> float:
    """Mean l2 distance between two different rows."""
    return float(torch.pdist(activations.flatten(1).float()).mean())


@dataclass(eq=False, repr=False)
class NoisePropagationDisplay(Display):
    """Relative distance of noisy copies of an input, per layer; one line per classifier.

    The figure of :func:`noise_propagation`: near 1 the noise hides the differences between
    inputs, at 0 the net has removed the noise. Make one by :meth:`from_estimators`.

    Parameters
    ----------
    layers : sequence of str
        Names of the layers, in the order in which they are run.

    distances : mapping of str to ndarray of shape (n_layers,)
        Relative distance of every classifier in each layer.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        Lines of the classifiers.

    ax_ : matplotlib Axes
        Axes of the figure.

    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    >>> import numpy as np
    >>> from rs4a.metrics import NoisePropagationDisplay
    >>> display = NoisePropagationDisplay(
    ...     ["input", "hidden", "logits"],
    ...     {"Uniform": np.array([0.8, 0.6, 0.2]), "Clean": np.array([0.8, 0.8, 0.7])},
    ... ).plot()
    >>> [tick.get_text() for tick in display.ax_.get_xticklabels()]
    ['input', 'hidden', 'logits']
    """

    layers: Sequence[str]
    distances: Mapping[str, NDArray[np.float64]]

    def _draw(self, ax: Any, **kwargs: Any) -> list[Any]:
        positions = np.arange(len(self.layers))
        lines = draw_lines(ax, positions, self.distances, markers=True, **kwargs)
        ax.set(ylabel="distance of noisy copies of one input\n/ of different inputs")
        ax.set_ylim(0, 1.05 * ax.get_ylim()[1])
        every = -(-len(self.layers) // _MAX_TICKS)
        names = list(self.layers[::every])
        slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        style = slant if len(names) <= _MAX_SLANTED else {"rotation": 90}
        ax.set_xticks(positions[::every], names, **style)
        return lines

    @classmethod
    def from_estimators(
        cls,
        estimators: Any,
        X: ArrayLike,
        *,
        n_copies: int = 64,
        layers: Sequence[str] | None = None,
        random_state: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Measure how noise spreads through some classifiers, and draw it.

        Parameters
        ----------
        estimators : SmoothedClassifier, search over one, or mapping of str to these
            Fitted classifiers whose nets have the same layers, with the name of each
            line. The noise names the line of a single classifier.

        X : array-like of shape (n, ...)
            Inputs, at least two; all inputs of a Dataset are read.

        n_copies : int, default=64
            Noisy copies of every input, at least two.

        layers : sequence of str, default=None
            Names of modules. None: all modules without children.

        random_state : int, RandomState instance or None, default=None
            Seed of the noise.

        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : NoisePropagationDisplay
            The drawn figure.

        Raises
        ------
        ValueError
            If there is no classifier, the nets have other layers, or an argument is not
            as :func:`noise_propagation` takes it.
        """
        if not isinstance(estimators, Mapping):
            estimators = {str(certifiable(estimators).noise_): estimators}
        if not estimators:
            raise ValueError("estimators must hold at least one, got none.")
        options = {"n_copies": n_copies, "layers": layers, "random_state": random_state}
        names: list[str] = []
        measured = {}
        for name, estimator in estimators.items():
            distances = noise_propagation(estimator, X, **options)
            measured[name], own = distances.to_numpy(), distances.index.tolist()
            names = names or own
            if own != names:
                raise ValueError(
                    f"estimators must have nets with the same layers, got {own} for "
                    f"{name!r} and {names} for the first. Give common layers by layers=."
                )
        return cls(names, measured).plot(ax=ax, **kwargs)
