"""The way of all displays from data to axes: lines, styles, bands, panels and legends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._optional_dependencies import check_matplotlib_support

from rs4a.metrics.predictions import CertifiedPredictions
from rs4a.metrics.scores import binomial_interval
from rs4a.utils.checks import format_norm

#: Dashes of lines, so that lines differ in black and white.
_LINE_STYLES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3))]
_MARKERS = ["o", "s", "^", "D", "v", "P"]
#: More names would cover lines.
_MAX_NAMES_WITHIN = 5
#: Inches of a row of small print, of a letter of it, and of the key beside a name.
_ROW, _LETTER, _BESIDE_NAME = 0.19, 0.075, 0.6
#: Inches of a panel, and of the margin of all panels together.
_PANEL_SIZE, _MARGIN = (3.0, 2.3), 0.7


# One axes


class Display(ABC):
    """A figure of lines on one axes. A subclass draws its lines in `_draw`."""

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the figure.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : Display
            Itself, with the attributes of a drawn figure.
        """
        self.ax_ = _pyplot(self).subplots(layout="constrained")[1] if ax is None else ax
        self.figure_ = self.ax_.figure
        self.lines_ = self._draw(self.ax_, **kwargs)
        _draw_legend(self.ax_, own_figure=ax is None)
        return self

    @abstractmethod
    def _draw(self, ax: Any, **kwargs: Any) -> list[Any]:
        """Draw and label the axes; return the lines."""


class ShareDisplay(Display):
    """A figure of shares of `n_inputs` inputs, with bands of confidence."""

    n_inputs: int | None

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
            allows for the choice of the inputs, but not for the choice of a best sigma on
            them. None: no bands.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : Display
            Itself, with the attributes of a drawn figure.
        """
        super().plot(ax, **kwargs)
        self.bands_ = draw_bands(self.lines_, self.n_inputs, confidence)
        return self


@dataclass(eq=False, repr=False)
class AccuracyDisplay(ShareDisplay):
    """Accuracies against radius. `_label` names the axis of the accuracies."""

    radii: NDArray[np.float64]
    accuracies: Mapping[str, NDArray[np.float64]]
    _: KW_ONLY
    norm: float | None = None
    n_inputs: int | None = None

    _label = "certified accuracy"

    def _draw(self, ax: Any, **kwargs: Any) -> list[Any]:
        # A certificate holds up to its radius: between two radii, the accuracy at the
        # larger radius is known.
        steps = {"drawstyle": "steps-pre", **kwargs}
        lines = draw_lines(ax, self.radii, self.accuracies, **steps)
        label_radii(ax, self._label, self.norm, self.radii[-1])
        return lines


def _pyplot(display: Any) -> Any:
    """The module pyplot, or an error that tells how to install matplotlib."""
    check_matplotlib_support(f"{type(display).__name__}.plot")
    import matplotlib.pyplot as plt

    return plt


def line_style(number: int) -> dict[str, Any]:
    """Dashes of a line, by its number among the lines of its axes."""
    again, which = divmod(number, len(_LINE_STYLES))
    style = {"linestyle": _LINE_STYLES[which]}
    # Colours repeat soon after dashes: a line with the same dashes is thicker.
    return {**style, "linewidth": 1.5 * (1 + again)} if again else style


def marker_style(number: int) -> dict[str, Any]:
    """Colour and marker of a line."""
    marker = _MARKERS[number % len(_MARKERS)]
    return {"color": f"C{number}", "marker": marker, "markersize": 4.5}


def n_lines(ax: Any) -> int:
    """Number of lines of axes, without marks of single points."""
    return sum(line.get_linestyle() != "None" for line in ax.get_lines())


def draw_lines(
    ax: Any,
    x: NDArray,
    lines: Mapping[str, NDArray[np.float64]],
    *,
    markers: bool = False,
    **kwargs: Any,
) -> list[Any]:
    """Draw lines with their names as labels, and return them."""
    drawn = []
    for number, (name, y) in enumerate(lines.items(), n_lines(ax)):
        style = {**(marker_style(number) if markers else {}), **line_style(number)}
        drawn += ax.plot(x, y, label=name, **{**style, **kwargs})
    return drawn


def draw_bands(
    lines: Iterable[Any], n_inputs: int | None, confidence: float | None
) -> list[Any]:
    """Draw the binomial interval around each line of shares of inputs; return the bands."""
    if n_inputs is None or confidence is None:
        return []
    bands = []
    for line in lines:
        values, shares = map(np.asarray, line.get_data())
        step = line.get_drawstyle().removeprefix("steps-")
        if step == "pre":
            # All certificates end: a share of 0 tells nothing about the choice of inputs.
            values, shares = values[shares > 0.0], shares[shares > 0.0]
        low, high = binomial_interval(shares, n_inputs, confidence)
        style = {"color": line.get_color(), "alpha": 0.15, "linewidth": 0.0, "step": step}
        bands.append(line.axes.fill_between(values, low, high, **style))
    return bands


def _draw_legend(ax: Any, *, own_figure: bool) -> None:
    """Draw the legend within the axes, or below if it is long and the figure is new."""
    handles, names = ax.get_legend_handles_labels()
    if not own_figure or len(names) <= _MAX_NAMES_WITHIN:
        ax.legend(fontsize="small")
        return
    figure = ax.figure
    width = _LETTER * max(map(len, names)) + _BESIDE_NAME
    n_columns = max(int(figure.get_figwidth() / width), 1)
    figure.set_figheight(figure.get_figheight() + -(-len(names) // n_columns) * _ROW)
    where = {"loc": "outside lower center", "ncols": n_columns}
    figure.legend(handles, names, fontsize="small", **where)


# Axes of radii


def radius_label(norm: float | None) -> str:
    """Label of an axis of radii."""
    return "radius" if norm is None else f"{format_norm(norm)} radius"


def label_radii(ax: Any, ylabel: str, norm: float | None, largest: float) -> None:
    """Label axes of shares against radius."""
    ax.set(xlabel=radius_label(norm), ylabel=ylabel, xlim=(0, largest), ylim=(0, 1.02))


def radius_grid(
    records: Iterable[CertifiedPredictions],
    norm: float,
    radii: ArrayLike | None,
    n_points: int = 201,
) -> NDArray[np.float64]:
    """Return the given radii, or else equally spaced ones up to the largest certificate."""
    if radii is not None:
        return np.unique(radii).astype(np.float64)
    largest = max(float(np.max(each.radius(norm))) for each in records)
    return np.linspace(0.0, largest * 1.05 or 1.0, n_points)


# Panels


def panel_axes(
    display: Any, ax: Any, n_panels: int, *, sharex: bool = True
) -> tuple[NDArray, Any]:
    """Return one axes per panel, new ones if `ax` is None, and their figure."""
    if n_panels == 0:
        raise ValueError(f"{type(display).__name__} has nothing to draw.")
    axes = _new_panels(display, n_panels, sharex) if ax is None else np.ravel([ax])
    if len(axes) != n_panels:
        raise ValueError(
            f"ax must be None or {n_panels} Axes, one per panel, got {len(axes)}."
        )
    return axes, axes[0].figure


def _n_columns(n_panels: int) -> int:
    return 2 if n_panels == 4 else min(n_panels, 3)


def _new_panels(display: Any, n_panels: int, sharex: bool) -> NDArray:
    n_columns = _n_columns(n_panels)
    n_rows = -(-n_panels // n_columns)
    size = np.multiply(_PANEL_SIZE, (n_columns, n_rows)) + _MARGIN
    figure = _pyplot(display).figure(layout="constrained", figsize=size)
    grid = {"wspace": 0.06}  # numbers below neighbours do not meet
    shared: dict[str, Any] = {"sharex": sharex, "sharey": True, "gridspec_kw": grid}
    axes = figure.subplots(n_rows, n_columns, squeeze=False, **shared)
    panels: NDArray = axes.ravel()
    for unused in panels[n_panels:]:
        unused.set_visible(False)
    for lowest in panels[:n_panels][-n_columns:]:
        lowest.xaxis.set_tick_params(labelbottom=True)
    return panels[:n_panels]


def label_panels(
    axes: NDArray, xlabel: str, ylabel: str, lines: list[list[Any]], *, own_figure: bool
) -> None:
    """Label the outer axes of panels, and draw one legend: above, or in the first panel."""
    n_columns = _n_columns(len(axes))
    for ax in axes[-n_columns:]:
        ax.set_xlabel(xlabel)
    for ax in axes[::n_columns]:
        ax.set_ylabel(ylabel)
    named = {line.get_label(): line for panel in lines for line in panel}
    if own_figure:
        where = {"loc": "outside upper center", "ncols": min(len(named), 4)}
        axes[0].figure.legend(named.values(), named.keys(), **where)
    else:
        axes[0].legend(named.values(), named.keys())
