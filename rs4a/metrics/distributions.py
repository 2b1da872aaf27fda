"""Figure of how predictions are distributed over the inputs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rs4a.metrics.drawing import (
    common_norm,
    draw_bands,
    label_panels,
    label_sigma,
    panel_axes,
    panel_legend,
    panel_styles,
    radius_label,
)
from rs4a.metrics.results import NamedResult, Result, by_sigma, check_results

__all__ = ["PredictionDisplay"]

_TARGETS = {
    "prob_lower": "lower bound on the top class",
    "prob_correct": "share of votes for the true class",
    "radius": "certified {}",
}


class PredictionDisplay:
    """Cumulative distribution of predictions, a panel a sigma, a line a noise or name.

    Every line says, for each value, which share of the inputs has at most this value: it
    is good to be low. Make one by :meth:`from_results`.

    Parameters
    ----------
    values : mapping of float to mapping of str to ndarray of shape (n,)
        By sigma, the value of every input under each kind of noise, or other name.

    target : {"prob_lower", "prob_correct", "radius"}, default="prob_lower"
        What the values are, for the labels of the axes.

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

    def __init__(
        self,
        values: Mapping[float, Mapping[str, NDArray[np.float64]]],
        *,
        target: str = "prob_lower",
        norm: float | None = None,
    ):
        self.values = values
        self.target = target
        self.norm = norm

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
            Further arguments of matplotlib's `ecdf` for every line.

        Returns
        -------
        display : PredictionDisplay
            Itself, with the attributes of a drawn figure.

        Raises
        ------
        ValueError
            If `target` is unknown.
        """
        xlabel = _label(self.target, self.norm)
        # Radii grow with sigma: on one scale, small sigmas would be squeezed.
        self.axes_, self.figure_ = panel_axes(
            self, ax, len(self.values), sharex=self.target != "radius"
        )
        styles = panel_styles(self.values.values())
        self.lines_, self.bands_ = [], []
        for panel, (sigma, values) in zip(self.axes_, self.values.items(), strict=True):
            lines = [
                panel.ecdf(each, label=name, **{**styles[name], **kwargs})
                for name, each in values.items()
            ]
            self.lines_.append(lines)
            n_inputs = len(next(iter(values.values())))
            self.bands_.append(draw_bands(lines, n_inputs, confidence))
            label_sigma(panel, sigma, self._end(values))
        label_panels(self.axes_, xlabel, "share of inputs")
        panel_legend(self.axes_, styles, own_figure=ax is None)
        return self

    def _end(self, values: Mapping[str, NDArray[np.float64]]) -> float:
        """Right end of a panel."""
        if self.target != "radius":
            return 1.0
        return float(np.max(list(map(np.max, values.values())))) * 1.05 or 1.0

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
            What is drawn: the lower bound on the probability of the predicted class, the
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
        _label(target, norm)
        named = check_results(results, names)
        if target == "radius":
            norm = common_norm((each.record for each in named), norm)
        values = {
            sigma: _panel(some, target, norm) for sigma, some in by_sigma(named).items()
        }
        display = cls(values, target=target, norm=norm)
        return display.plot(ax=ax, confidence=confidence, **kwargs)


def _label(target: str, norm: float | None) -> str:
    """Label of the values; an error where the target is unknown."""
    if target not in _TARGETS:
        raise ValueError(f"target must be one of {list(_TARGETS)}, got {target!r}.")
    return _TARGETS[target].format(radius_label(norm))


def _panel(
    results: list[NamedResult], target: str, norm: float | None
) -> dict[str, NDArray[np.float64]]:
    """Values by name, at one sigma."""
    panel: dict[str, NDArray[np.float64]] = {}
    for result in results:
        if result.name in panel:
            raise ValueError(
                "results must hold one certification for each name and sigma, got two with "
                f"{result.name} and sigma={result.sigma:g}. Tell them apart by names=, one "
                "for each result."
            )
        panel[result.name] = _values(result, target, norm)
    return panel


def _values(result: NamedResult, target: str, norm: float | None) -> NDArray[np.float64]:
    record = result.record
    if target == "radius":
        return record.radius(norm)
    if not hasattr(record, "prob_lower"):
        raise ValueError(
            f"target must be 'radius' for a {type(record).__name__}, which knows no votes "
            f"and no probabilities, got {target!r}."
        )
    votes: Any = record
    if target == "prob_lower":
        return np.asarray(votes.prob_lower)
    # A class that the record does not know got no votes.
    is_true = result.y_true[:, None] == votes.classes
    return np.asarray((_vote_shares(votes) * is_true).sum(axis=1))


def _vote_shares(record: Any) -> NDArray[np.float64]:
    """Share of the selection votes for every class."""
    if record.vote_shares is None:
        raise ValueError(
            "target='prob_correct' needs the shares of the selection votes, got a "
            f"{type(record).__name__} with proba=None."
        )
    return np.asarray(record.vote_shares)
