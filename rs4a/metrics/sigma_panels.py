"""Figures over many sigmas: their envelope, or one panel per sigma."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rs4a.metrics.drawing import (
    AccuracyDisplay,
    draw_bands,
    label_panels,
    line_style,
    panel_axes,
    radius_grid,
    radius_label,
)
from rs4a.metrics.predictions import NamedResult, Result, check_results, common_norm
from rs4a.metrics.tables import best_accuracies

_SIGMA = attrgetter("sigma")
#: By name, the values of one panel.
_Values = Mapping[str, NDArray[np.float64]]
_TARGETS = {
    "prob_lower": "lower bound on the top class",
    "prob_correct": "share of votes for the true class",
    "radius": "certified {}",
}


class _BestAccuracies:
    """Displays of the best certified accuracy of every name."""

    _n_points = 201

    @classmethod
    def from_results(
        cls,
        results: Iterable[Result],
        *,
        radii: ArrayLike | None = None,
        norm: float | None = None,
        names: Sequence[str] | None = None,
        confidence: float | None = 0.95,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the certified accuracy of many certifications.

        Parameters
        ----------
        results : iterable of tuple (certification, y_true)
            Certifications (or BoundRecords, or logs that were read with their noise), each
            with the true labels of the same inputs; usually one for each noise and sigma.
            Of several with one name (and one sigma, in panels), the best is drawn.

        radii : array-like of shape (n_radii,), default=None
            Distances to evaluate at. None: up to the largest certified radius.

        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: the certifications' own.

        names : sequence of str of length n_results, default=None
            Names of the lines, such as objectives or seeds; several results may share one.
            None: the kinds of the noise.

        confidence : float, default=0.95
            Probability of the bands around the lines. None: no bands.

        ax : matplotlib Axes, or array-like of shape (n_sigmas,), default=None
            Axes, or panels, to draw on. None: new ones.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : Display
            The drawn figure.

        Raises
        ------
        TypeError
            If a certification does not know its noise, as a log that was read without it.
        ValueError
            If there is no certification, they are not of the same inputs, there is not a
            name for each, their own norms differ and `norm` is not given, or `confidence`
            is outside (0, 1).
        """
        named = check_results(results, names)
        records = [each.record for each in named]
        norm = common_norm(records, norm)
        grid = radius_grid(records, norm, radii, cls._n_points)
        best, n_inputs = cls._best(named, grid, norm), len(named[0].y_true)
        make: Any = cls
        display = make(grid, best, norm=norm, n_inputs=n_inputs)
        return display.plot(ax=ax, confidence=confidence, **kwargs)

    @staticmethod
    def _best(named: list[NamedResult], radii: NDArray[np.float64], norm: float) -> Any:
        return best_accuracies(named, radii, norm)


class EnvelopeDisplay(_BestAccuracies, AccuracyDisplay):
    """Best certified accuracy over all sigmas against radius, a line per noise or name.

    The figure of :func:`certified_accuracy_table`. Make one by :meth:`from_results`.

    Parameters
    ----------
    radii : ndarray of shape (n_radii,)
        Distances of the adversary, in units of X.

    accuracies : mapping of str to ndarray of shape (n_radii,)
        Best certified accuracy of every kind of noise, or other name.

    norm : {1, 2, inf}, default=None
        Norm of the adversary, for the label of the axis.

    n_inputs : int, default=None
        Number of inputs that the accuracies are shares of. None: no bands.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        Lines of the noises or names.

    bands_ : list of matplotlib PolyCollection
        Band of each line; empty if there are none.

    ax_ : matplotlib Axes
        Axes of the figure.

    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    >>> from rs4a import Certification
    >>> from rs4a.metrics import EnvelopeDisplay
    >>> from rs4a.noises import Uniform
    >>> certification = Certification.from_counts(
    ...     [[990, 10], [700, 300]], labels=[0, 0], noise=Uniform(sigma=0.5), dim=784
    ... )
    >>> display = EnvelopeDisplay.from_results([(certification, [0, 0])])
    >>> display.ax_.get_ylabel()
    'best certified accuracy over sigma'
    """

    _label = "best certified accuracy over sigma"


class _SigmaPanels(ABC):
    """One panel per sigma, one line per name. A subclass draws a panel in `_draw`."""

    n_inputs: Any

    def plot(
        self, ax: Any = None, *, confidence: float | None = 0.95, **kwargs: Any
    ) -> Self:
        """Draw the figure.

        Parameters
        ----------
        ax : array-like of matplotlib Axes, of shape (n_sigmas,), default=None
            Panels to draw on. None: new ones.

        confidence : float, default=0.95
            Probability of the band around each line, an interval at every value that
            allows for the choice of the inputs. None: no bands.

        **kwargs : dict
            Further arguments for every line, of matplotlib's `plot` for curves and `ecdf`
            for distributions.

        Returns
        -------
        display : Display
            Itself, with the attributes of a drawn figure.
        """
        panels, xlabel, ylabel, sharex = self._contents()
        self.axes_, self.figure_ = panel_axes(self, ax, len(panels), sharex=sharex)
        names = dict.fromkeys(name for values in panels.values() for name in values)
        styles = {
            name: {"color": f"C{number}", **line_style(number), "label": name, **kwargs}
            for number, name in enumerate(names)
        }
        self.lines_, self.bands_ = [], []
        for panel, (sigma, values) in zip(self.axes_, panels.items(), strict=True):
            lines, end = self._draw(panel, values, styles)
            self.lines_.append(lines)
            self.bands_.append(draw_bands(lines, self.n_inputs, confidence))
            panel.set(title=f"sigma = {sigma:g}", xlim=(0, end), ylim=(0, 1.02))
        label_panels(self.axes_, xlabel, ylabel, self.lines_, own_figure=ax is None)
        return self

    @abstractmethod
    def _contents(self) -> tuple[Mapping[float, _Values], str, str, bool]:
        """Values by sigma, both labels, and whether all panels have one scale."""

    @abstractmethod
    def _draw(self, panel: Any, values: _Values, styles: Any) -> tuple[list[Any], float]:
        """Draw a panel; return its lines and its right end."""


@dataclass(eq=False, repr=False)
class SigmaCurvesDisplay(_BestAccuracies, _SigmaPanels):
    """Certified accuracy against radius: a panel per sigma, a line per noise or name.

    Every panel ends at the radius from which on nothing is certified. Make one by
    :meth:`from_results`.

    Parameters
    ----------
    radii : ndarray of shape (n_radii,)
        Distances of the adversary, in units of X.

    accuracies : mapping of float to mapping of str to ndarray of shape (n_radii,)
        By sigma, the certified accuracy of every kind of noise, or other name.

    norm : {1, 2, inf}, default=None
        Norm of the adversary, for the labels of the axes.

    n_inputs : int, default=None
        Number of inputs that the accuracies are shares of. None: no bands.

    Attributes
    ----------
    lines_ : list of list of matplotlib Line2D
        Lines of every panel.

    bands_ : list of list of matplotlib PolyCollection
        Band of each line, for every panel; empty lists if there are none.

    axes_ : ndarray of matplotlib Axes, of shape (n_sigmas,)
        Panels.

    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    >>> from rs4a import Certification
    >>> from rs4a.metrics import SigmaCurvesDisplay
    >>> from rs4a.noises import Uniform
    >>> votes = [[990, 10], [700, 300]]
    >>> noises = [Uniform(sigma=0.5), Uniform(sigma=1.0)]
    >>> results = [
    ...     (Certification.from_counts(votes, labels=[0, 0], noise=noise, dim=784), [0, 0])
    ...     for noise in noises
    ... ]
    >>> display = SigmaCurvesDisplay.from_results(results)
    >>> [ax.get_title() for ax in display.axes_]
    ['sigma = 0.5', 'sigma = 1']
    """

    radii: NDArray[np.float64]
    accuracies: Mapping[float, _Values]
    _: KW_ONLY
    norm: float | None = None
    n_inputs: int | None = None

    def _contents(self) -> tuple[Mapping[float, _Values], str, str, bool]:
        # Radii grow with sigma: on one scale, curves of small sigmas would be narrow.
        return self.accuracies, radius_label(self.norm), "certified accuracy", False

    def _draw(self, panel: Any, values: _Values, styles: Any) -> tuple[list[Any], float]:
        lines = []
        for name, accuracy in values.items():
            style = {"drawstyle": "steps-pre", **styles[name]}
            lines += panel.plot(self.radii, accuracy, **style)
        certified = np.max(list(values.values()), axis=0) > 0.0
        return lines, float(self.radii[min(certified.sum(), len(certified) - 1)])

    _n_points = 1001

    @staticmethod
    def _best(named: list[NamedResult], radii: NDArray[np.float64], norm: float) -> Any:
        return {
            sigma: best_accuracies(list(some), radii, norm)
            for sigma, some in groupby(sorted(named, key=_SIGMA), _SIGMA)
        }


@dataclass(eq=False, repr=False)
class PredictionDisplay(_SigmaPanels):
    """Cumulative distribution of predictions: a panel per sigma, a line per noise or name.

    Every line states, for each value, the share of the inputs that have at most this
    value: a low line is good. Make one by :meth:`from_results`.

    Parameters
    ----------
    values : mapping of float to mapping of str to ndarray of shape (n,)
        By sigma, the value of every input under each kind of noise, or other name.

    target : {"prob_lower", "prob_correct", "radius"}, default="prob_lower"
        Kind of the values, for the labels of the axes.

    norm : {1, 2, inf}, default=None
        Norm of radii, for the labels of the axes.

    Attributes
    ----------
    lines_ : list of list of matplotlib Line2D
        Lines of every panel.

    bands_ : list of list of matplotlib PolyCollection
        Band of each line, for every panel; empty lists if there are none.

    axes_ : ndarray of matplotlib Axes, of shape (n_sigmas,)
        Panels.

    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    >>> from rs4a import Certification
    >>> from rs4a.metrics import PredictionDisplay
    >>> from rs4a.noises import Uniform
    >>> certification = Certification.from_counts(
    ...     [[990, 10], [700, 300]], labels=[0, 0], noise=Uniform(sigma=0.5), dim=784
    ... )
    >>> results = [(certification, [0, 0])]
    >>> display = PredictionDisplay.from_results(results, target="radius")
    >>> display.axes_[0].get_xlabel()
    'certified l1 radius'
    """

    values: Mapping[float, _Values]
    _: KW_ONLY
    target: str = "prob_lower"
    norm: float | None = None

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return len(next(iter(next(iter(self.values.values())).values())))

    def _contents(self) -> tuple[Mapping[float, _Values], str, str, bool]:
        xlabel = _target_label(self.target).format(radius_label(self.norm))
        # Radii grow with sigma: on one scale, curves of small sigmas would be narrow.
        return self.values, xlabel, "share of inputs", self.target != "radius"

    def _draw(self, panel: Any, values: _Values, styles: Any) -> tuple[list[Any], float]:
        lines = [panel.ecdf(each, **styles[name]) for name, each in values.items()]
        largest = float(np.max(list(values.values())))
        return lines, (largest * 1.05 or 1.0) if self.target == "radius" else 1.0

    @classmethod
    def from_results(
        cls,
        results: Iterable[Result],
        *,
        target: str = "prob_lower",
        norm: float | None = None,
        names: Sequence[str] | None = None,
        confidence: float | None = 0.95,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the predictions of many certifications.

        Parameters
        ----------
        results : iterable of tuple (certification, y_true)
            Certifications (or BoundRecords, or for radii logs that were read with their
            noise), each with the true labels of the same inputs, and one for each name and
            sigma.

        target : {"prob_lower", "prob_correct", "radius"}, default="prob_lower"
            Values to draw: the lower bound on the probability of the predicted class, the
            share of the selection votes for the true class, or the certified radius.

        norm : {1, 2, inf}, default=None
            Norm of the radii. None: the certifications' own.

        names : sequence of str of length n_results, default=None
            Names of the lines, such as objectives or seeds. None: the kinds of the noise.

        confidence : float, default=0.95
            Probability of the bands around the lines. None: no bands.

        ax : array-like of matplotlib Axes, of shape (n_sigmas,), default=None
            Panels to draw on. None: new ones.

        **kwargs : dict
            Further arguments of matplotlib's `ecdf` for every line.

        Returns
        -------
        display : PredictionDisplay
            The drawn figure.

        Raises
        ------
        TypeError
            If a certification does not know its noise, as a log that was read without it.
        ValueError
            If there is no certification, they are not of the same inputs, there is not a
            name for each, two have one name and one sigma, `target` is unknown, a record
            does not know it, there are radii whose own norms differ and `norm` is not
            given, or `confidence` is outside (0, 1).
        """
        _target_label(target)
        named = check_results(results, names)
        if target == "radius":
            norm = common_norm((each.record for each in named), norm)
        values: dict[float, dict[str, NDArray[np.float64]]] = {}
        for result in sorted(named, key=_SIGMA):
            panel = values.setdefault(result.sigma, {})
            if result.name in panel:
                raise ValueError(
                    "results must hold one certification for each name and sigma, got two "
                    f"with {result.name} and sigma={result.sigma:g}. Tell them apart by "
                    "names=, one for each result."
                )
            panel[result.name] = _predictions(result, target, norm)
        display = cls(values, target=target, norm=norm)
        return display.plot(ax=ax, confidence=confidence, **kwargs)


def _target_label(target: str) -> str:
    """Label of the values of a target."""
    if target not in _TARGETS:
        raise ValueError(f"target must be one of {list(_TARGETS)}, got {target!r}.")
    return _TARGETS[target]


def _predictions(
    result: NamedResult, target: str, norm: float | None
) -> NDArray[np.float64]:
    record: Any = result.record
    if target == "radius":
        return np.asarray(record.radius(norm))
    if not hasattr(record, "prob_lower"):
        raise ValueError(
            f"target must be 'radius' for a {type(record).__name__}, which has no votes "
            f"and no probabilities, got {target!r}."
        )
    if target == "prob_lower":
        return np.asarray(record.prob_lower)
    if record.vote_shares is None:
        raise ValueError(
            "target='prob_correct' needs the shares of the selection votes, got a "
            f"{type(record).__name__} with proba=None."
        )
    # A class that the record does not know got no votes.
    is_true = result.y_true[:, np.newaxis] == record.classes
    return np.asarray((record.vote_shares * is_true).sum(axis=1))
