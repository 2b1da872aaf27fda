"""Figures of certified accuracy over many sigmas: their envelope, and panel by panel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rs4a.metrics.drawing import (
    common_norm,
    draw_bands,
    drawing_axes,
    label_accuracy,
    label_panels,
    label_sigma,
    panel_axes,
    panel_legend,
    panel_styles,
    plot_accuracies,
    radius_grid,
    radius_label,
)
from rs4a.metrics.results import NamedResult, Result, by_sigma, check_results
from rs4a.metrics.tables import certified_accuracy_table

__all__ = ["EnvelopeDisplay", "SigmaCurvesDisplay"]


class EnvelopeDisplay:
    """Best certified accuracy over all sigmas against radius, a line a noise or name.

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

    def __init__(
        self,
        radii: NDArray[np.float64],
        accuracies: Mapping[str, NDArray[np.float64]],
        *,
        norm: float | None = None,
        n_inputs: int | None = None,
    ):
        self.radii = radii
        self.accuracies = accuracies
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
            allows for the choice of the inputs, but not for that of the best sigma on
            them. None: no bands.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : EnvelopeDisplay
            Itself, with the attributes of a drawn figure.
        """
        self.ax_, self.figure_ = drawing_axes(self, ax)
        self.lines_ = plot_accuracies(self.ax_, self.radii, self.accuracies, **kwargs)
        self.bands_ = draw_bands(self.lines_, self.n_inputs, confidence)
        label = "best certified accuracy over sigma"
        own = ax is None
        label_accuracy(self.ax_, label, self.norm, self.radii[-1], own_figure=own)
        return self

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
        """Draw the envelopes of many certifications.

        Parameters
        ----------
        results : iterable of tuple (certification, y_true)
            Certifications (or BoundRecords, or logs that were read with their noise), each
            with the true labels of the same inputs; usually one for each noise and sigma.

        radii : array-like of shape (n_radii,), default=None
            Distances to evaluate at. None: up to the largest certified radius.

        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: the certifications' own.

        names : sequence of str of length n_results, default=None
            Names of the lines, such as objectives or seeds; several results may share one.
            None: the kinds of the noise.

        confidence : float, default=0.95
            Probability of the bands around the lines. None: no bands.

        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : EnvelopeDisplay
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
        norm, grid = _norm_and_grid(named, norm, radii)
        accuracies = _envelopes(named, grid, norm)
        display = cls(grid, accuracies, norm=norm, n_inputs=len(named[0].y_true))
        return display.plot(ax=ax, confidence=confidence, **kwargs)


class SigmaCurvesDisplay:
    """Certified accuracy against radius, a panel a sigma and a line a noise or name.

    Every panel ends where nothing is certified any more. Make one by
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

    def __init__(
        self,
        radii: NDArray[np.float64],
        accuracies: Mapping[float, Mapping[str, NDArray[np.float64]]],
        *,
        norm: float | None = None,
        n_inputs: int | None = None,
    ):
        self.radii = radii
        self.accuracies = accuracies
        self.norm = norm
        self.n_inputs = n_inputs

    def plot(
        self, ax: Any = None, *, confidence: float | None = 0.95, **kwargs: Any
    ) -> Self:
        """Draw the figure.

        Parameters
        ----------
        ax : array-like of matplotlib Axes, of shape (n_sigmas,), default=None
            Panels to draw on. None: new ones.

        confidence : float, default=0.95
            Probability of the band around each line, an interval at every radius that
            allows for the choice of the inputs. None: no bands.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : SigmaCurvesDisplay
            Itself, with the attributes of a drawn figure.
        """
        # Radii grow with sigma: on one scale, small sigmas would be squeezed.
        self.axes_, self.figure_ = panel_axes(self, ax, len(self.accuracies), sharex=False)
        styles = panel_styles(self.accuracies.values())
        self.lines_, self.bands_ = [], []
        for panel, (sigma, accuracies) in zip(
            self.axes_, self.accuracies.items(), strict=True
        ):
            lines = plot_accuracies(panel, self.radii, accuracies, styles, **kwargs)
            self.lines_.append(lines)
            self.bands_.append(draw_bands(lines, self.n_inputs, confidence))
            label_sigma(panel, sigma, self._end(accuracies))
        label_panels(self.axes_, radius_label(self.norm), "certified accuracy")
        panel_legend(self.axes_, styles, own_figure=ax is None)
        return self

    def _end(self, accuracies: Mapping[str, NDArray[np.float64]]) -> float:
        """First radius at which nothing is certified any more, or else the last one."""
        certified = np.max(list(accuracies.values()), axis=0) > 0.0
        return float(self.radii[min(certified.sum(), len(certified) - 1)])

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
            with the true labels of the same inputs; where several have one name and one
            sigma, the best counts.

        radii : array-like of shape (n_radii,), default=None
            Distances to evaluate at. None: up to the largest certified radius.

        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: the certifications' own.

        names : sequence of str of length n_results, default=None
            Names of the lines, such as objectives or seeds; several results may share one.
            None: the kinds of the noise.

        confidence : float, default=0.95
            Probability of the bands around the lines. None: no bands.

        ax : array-like of matplotlib Axes, of shape (n_sigmas,), default=None
            Panels to draw on. None: new ones.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : SigmaCurvesDisplay
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
        norm, grid = _norm_and_grid(named, norm, radii, n_points=1001)
        accuracies = {
            sigma: _envelopes(some, grid, norm) for sigma, some in by_sigma(named).items()
        }
        display = cls(grid, accuracies, norm=norm, n_inputs=len(named[0].y_true))
        return display.plot(ax=ax, confidence=confidence, **kwargs)


def _norm_and_grid(
    results: list[NamedResult],
    norm: float | None,
    radii: ArrayLike | None,
    n_points: int = 201,
) -> tuple[float, NDArray[np.float64]]:
    """The norm that results share, and radii to evaluate at."""
    records = [each.record for each in results]
    norm = common_norm(records, norm)
    return norm, radius_grid(records, norm, radii, n_points)


def _envelopes(
    results: list[NamedResult], radii: NDArray[np.float64], norm: float
) -> dict[str, NDArray[np.float64]]:
    """Best certified accuracy of every name."""
    pairs = [(each.record, each.y_true) for each in results]
    names = [each.name for each in results]
    table = certified_accuracy_table(pairs, radii=radii, norm=norm, names=names)
    return {str(name): row.to_numpy() for name, row in table.iterrows()}
