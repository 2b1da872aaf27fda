"""What the displays share: axes, styles of lines, bands, labels and grids of radii."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._optional_dependencies import check_matplotlib_support

from rs4a.metrics.scores import CertifiedPredictions, binomial_interval
from rs4a.utils.checks import check_norm, format_norm

__all__ = [
    "common_norm",
    "draw_bands",
    "drawing_axes",
    "label_accuracy",
    "label_panels",
    "label_sigma",
    "legend_beside",
    "line_style",
    "marker_style",
    "n_lines",
    "panel_axes",
    "panel_legend",
    "panel_styles",
    "plot_accuracies",
    "radius_grid",
    "radius_label",
]

#: Lines differ in dashes as well as colour: they must be told apart in black and white.
_LINE_STYLES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3))]
_MARKERS = ["o", "s", "^", "D", "v", "P"]
#: More names than that would cover lines.
_MAX_NAMES_WITHIN = 5
#: Inches of a row of small print, of a letter of it, and of what stands beside a name.
_ROW, _LETTER, _BESIDE_NAME = 0.19, 0.075, 0.6
#: Inches of a panel, and of what stands beside all of them.
_PANEL_SIZE, _MARGIN = (3.0, 2.3), 0.7


def n_lines(ax: Any) -> int:
    """How many lines axes have, from other displays; marks of points are none."""
    return sum(line.get_linestyle() != "None" for line in ax.get_lines())


def line_style(number: int) -> dict[str, Any]:
    """Dashes of a line, by its number among the lines of its axes."""
    again, which = divmod(number, len(_LINE_STYLES))
    style = {"linestyle": _LINE_STYLES[which]}
    # The dashes are used up, and so are soon the colours: what comes again is thicker.
    return {**style, "linewidth": 1.5 * (1 + again)} if again else style


def panel_styles(panels: Iterable[Iterable[str]]) -> dict[str, dict[str, Any]]:
    """Colour and dashes of lines that are to look the same in every panel, by name."""
    names = dict.fromkeys(name for panel in panels for name in panel)
    return {
        name: {"color": f"C{number}", **line_style(number)}
        for number, name in enumerate(names)
    }


def marker_style(number: int) -> dict[str, Any]:
    """Colour and marker, for lines whose dashes say something else."""
    marker = _MARKERS[number % len(_MARKERS)]
    return {"color": f"C{number}", "marker": marker, "markersize": 4.5}


def drawing_axes(display: Any, ax: Any) -> tuple[Any, Any]:
    """Return the axes to draw on, new ones if `ax` is None, and their figure."""
    check_matplotlib_support(f"{type(display).__name__}.plot")
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    return ax, ax.figure


def panel_axes(
    display: Any, ax: Any, n_panels: int, *, sharex: bool = True
) -> tuple[NDArray, Any]:
    """Return axes, one a panel, new ones if `ax` is None, and their figure."""
    if n_panels == 0:
        raise ValueError(f"{type(display).__name__} has nothing to draw.")
    if ax is None:
        return _new_panels(display, n_panels, sharex)
    axes = np.ravel(np.asarray(ax, dtype=object))
    if len(axes) != n_panels:
        raise ValueError(
            f"ax must be {n_panels} matplotlib Axes, one a panel, or None, got {len(axes)}."
        )
    return axes, axes[0].figure


def _n_columns(n_panels: int) -> int:
    return 2 if n_panels == 4 else min(n_panels, 3)


def _new_panels(display: Any, n_panels: int, sharex: bool) -> tuple[NDArray, Any]:
    check_matplotlib_support(f"{type(display).__name__}.plot")
    import matplotlib.pyplot as plt

    n_columns = _n_columns(n_panels)
    n_rows = -(-n_panels // n_columns)
    width, height = _PANEL_SIZE
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        squeeze=False,
        sharex=sharex,
        sharey=True,
        layout="constrained",
        gridspec_kw={"wspace": 0.06},  # numbers below neighbours do not meet
        figsize=(width * n_columns + _MARGIN, height * n_rows + _MARGIN),
    )
    panels = axes.ravel()
    for number, left_over in enumerate(panels[n_panels:], n_panels):
        left_over.set_visible(False)
        panels[number - n_columns].xaxis.set_tick_params(labelbottom=True)
    return panels[:n_panels], figure


def label_panels(axes: NDArray, xlabel: str, ylabel: str) -> None:
    """Label the outer axes of a grid of panels."""
    n_columns = _n_columns(len(axes))
    for number, ax in enumerate(axes):
        if number + n_columns >= len(axes):
            ax.set_xlabel(xlabel)
        if number % n_columns == 0:
            ax.set_ylabel(ylabel)


def label_sigma(ax: Any, sigma: float, end: float) -> None:
    """Title and limits of the panel of a sigma, for shares up to some value."""
    ax.set_title(f"sigma = {sigma:g}")
    ax.set(xlim=(0, end), ylim=(0, 1.02))


def panel_legend(axes: NDArray, names: Iterable[str], *, own_figure: bool) -> None:
    """Draw one legend for all panels: above them, or in the first if they were given."""
    lines = {line.get_label(): line for ax in axes for line in ax.get_lines()}
    shown = {name: lines[name] for name in names if name in lines}
    if own_figure:
        where = {"loc": "outside upper center", "ncols": min(len(shown), 4)}
        axes[0].figure.legend(shown.values(), shown.keys(), **where)
    else:
        axes[0].legend(shown.values(), shown.keys())


def legend_beside(ax: Any, *, own_figure: bool) -> None:
    """Draw the legend within the axes, or below them if it is long and the figure ours."""
    handles, names = ax.get_legend_handles_labels()
    if not own_figure or len(names) <= _MAX_NAMES_WITHIN:
        ax.legend(fontsize="small")
        return
    figure = ax.figure
    width = _LETTER * max(map(len, names)) + _BESIDE_NAME
    n_columns = max(int(figure.get_figwidth() / width), 1)
    n_rows = -(-len(names) // n_columns)
    figure.set_layout_engine("constrained")  # leaves room for what is outside
    figure.set_figheight(figure.get_figheight() + n_rows * _ROW)
    where = {"loc": "outside lower center", "ncols": n_columns}
    figure.legend(handles, names, fontsize="small", **where)


def plot_accuracies(
    ax: Any,
    radii: NDArray[np.float64],
    accuracies: Mapping[str, NDArray[np.float64]],
    styles: Mapping[str, dict[str, Any]] | None = None,
    **kwargs: Any,
) -> list[Any]:
    """Draw certified accuracies against radius, in styles by name; return the lines."""
    lines = []
    for name, accuracy in accuracies.items():
        style = line_style(n_lines(ax)) if styles is None else styles[name]
        style = {**style, **kwargs}
        # A certificate holds up to its radius: between two radii the accuracy of the
        # larger one is what is known.
        lines += ax.plot(radii, accuracy, drawstyle="steps-pre", label=name, **style)
    return lines


def draw_bands(
    lines: Iterable[Any], n_inputs: int | None, confidence: float | None
) -> list[Any]:
    """Draw the binomial interval around each line of shares of inputs; return the bands."""
    if n_inputs is None or confidence is None:
        return []
    return [_draw_band(line, n_inputs, confidence) for line in lines]


def _draw_band(line: Any, n_inputs: int, confidence: float) -> Any:
    values, shares = map(np.asarray, line.get_data())
    step = line.get_drawstyle().removeprefix("steps-")
    if step == "pre":
        # Certificates end, for any input: that none is left says nothing about the choice.
        values, shares = values[shares > 0.0], shares[shares > 0.0]
    low, high = binomial_interval(shares, n_inputs, confidence)
    style = {"color": line.get_color(), "alpha": 0.15, "linewidth": 0.0}
    return line.axes.fill_between(values, low, high, step=step, **style)


def radius_label(norm: float | None) -> str:
    """What an axis of radii is called."""
    return "radius" if norm is None else f"{format_norm(norm)} radius"


def label_accuracy(
    ax: Any, accuracy: str, norm: float | None, largest: float, *, own_figure: bool
) -> None:
    """Label axes of an accuracy against radius, and draw the legend."""
    ax.set(xlabel=radius_label(norm), ylabel=accuracy, ylim=(0, 1.02))
    ax.set_xlim(left=0, right=largest)
    legend_beside(ax, own_figure=own_figure)


def common_norm(certifications: Iterable[Any], norm: float | None) -> float:
    """Return the norm that was given, or else the one that all certifications have."""
    if norm is not None:
        return check_norm(norm)
    norms = {each.norm for each in certifications}
    if len(norms) > 1:
        raise ValueError(
            f"norm must be given: the certifications' own norms differ, {sorted(norms)}."
        )
    return norms.pop()


def radius_grid(
    certifications: Iterable[CertifiedPredictions],
    norm: float,
    radii: ArrayLike | None,
    n_points: int = 201,
) -> NDArray[np.float64]:
    """Return the radii that were given, or else some up to the largest certified one."""
    if radii is not None:
        return np.unique(radii).astype(np.float64)
    largest = max(float(np.max(each.radius(norm))) for each in certifications)
    return np.linspace(0.0, largest * 1.05 or 1.0, n_points)
