"""Figures of training: accuracy against sigma, and loss against epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rs4a.metrics.drawing import (
    Display,
    draw_lines,
    label_panels,
    marker_style,
    n_lines,
    panel_axes,
)

_COLUMNS = ["noise", "sigma", "train_accuracy", "test_accuracy"]
#: Approximate number of markers per line.
_MARKS = 12


@dataclass(eq=False, repr=False)
class AccuracyAgainstSigmaDisplay:
    """Accuracy on training and on test inputs against sigma, one line per noise.

    Make one by :meth:`from_scores`.

    Parameters
    ----------
    sigmas : mapping of str to ndarray of shape (n_sigmas,)
        Sigmas of every noise, in ascending order.

    train : mapping of str to ndarray of shape (n_sigmas,)
        Accuracy of every noise on training inputs.

    test : mapping of str to ndarray of shape (n_sigmas,)
        Accuracy of every noise on test inputs.

    Attributes
    ----------
    lines_ : list of list of matplotlib Line2D
        Lines of both panels.

    axes_ : ndarray of matplotlib Axes, of shape (2,)
        Panels of training and test inputs.

    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    >>> import pandas as pd
    >>> from rs4a.metrics import AccuracyAgainstSigmaDisplay
    >>> scores = pd.DataFrame(
    ...     {
    ...         "noise": ["Uniform", "Uniform", "Laplace", "Laplace"],
    ...         "sigma": [0.25, 0.5, 0.25, 0.5],
    ...         "train_accuracy": [0.95, 0.90, 0.94, 0.88],
    ...         "test_accuracy": [0.80, 0.74, 0.78, 0.70],
    ...     }
    ... )
    >>> display = AccuracyAgainstSigmaDisplay.from_scores(scores)
    >>> [ax.get_title() for ax in display.axes_]
    ['training inputs', 'test inputs']
    """

    sigmas: Mapping[str, NDArray[np.float64]]
    train: Mapping[str, NDArray[np.float64]]
    test: Mapping[str, NDArray[np.float64]]

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the figure.

        Parameters
        ----------
        ax : array-like of matplotlib Axes, of shape (2,), default=None
            Panels to draw on. None: new ones.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : AccuracyAgainstSigmaDisplay
            Itself, with the attributes of a drawn figure.
        """
        self.axes_, self.figure_ = panel_axes(self, ax, 2)
        self.lines_ = []
        scores = {"training inputs": self.train, "test inputs": self.test}
        for panel, (title, accuracies) in zip(self.axes_, scores.items(), strict=True):
            lines: list[Any] = []
            for name, accuracy in accuracies.items():
                line, sigmas = {name: accuracy}, self.sigmas[name]
                lines += draw_lines(panel, sigmas, line, markers=True, **kwargs)
            self.lines_.append(lines)
            panel.set(title=title, xlim=(0, None), ylim=(0, 1.02))
        own = ax is None
        label_panels(self.axes_, "sigma", "accuracy", self.lines_, own_figure=own)
        return self

    @classmethod
    def from_scores(cls, scores: pd.DataFrame, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw a table of accuracies.

        Parameters
        ----------
        scores : pandas.DataFrame of shape (n_classifiers, 4)
            Columns noise, sigma, train_accuracy and test_accuracy.

        ax : array-like of matplotlib Axes, of shape (2,), default=None
            Panels to draw on. None: new ones.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : AccuracyAgainstSigmaDisplay
            The drawn figure.

        Raises
        ------
        ValueError
            If a column is missing.
        """
        missing = [name for name in _COLUMNS if name not in scores]
        if missing:
            raise ValueError(f"scores must have the columns {_COLUMNS}, got no {missing}.")
        noises = {
            str(noise): rows.sort_values("sigma")
            for noise, rows in scores.groupby("noise", sort=False)
        }
        sigmas, train, test = (
            {noise: rows[column].to_numpy() for noise, rows in noises.items()}
            for column in _COLUMNS[1:]
        )
        return cls(sigmas, train, test).plot(ax=ax, **kwargs)


@dataclass(eq=False, repr=False)
class TrainingLossDisplay(Display):
    """Training and validation loss against epoch, one colour and marker per training.

    Lines of training losses are solid, lines of validation losses dashed. Make one by
    :meth:`from_histories`.

    Parameters
    ----------
    train : mapping of str to ndarray of shape (n_epochs,)
        Training loss of every training by epoch.

    validation : mapping of str to ndarray of shape (n_epochs,), default=None
        Validation loss of every training that has a validation loss.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        Lines of training losses, each followed by the line of its validation loss.

    ax_ : matplotlib Axes
        Axes of the figure.

    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    >>> from rs4a.metrics import TrainingLossDisplay
    >>> history = [
    ...     {"epoch": 1, "train_loss": 2.1, "valid_loss": 2.2},
    ...     {"epoch": 2, "train_loss": 1.4, "valid_loss": 1.7},
    ... ]
    >>> display = TrainingLossDisplay.from_histories({"Uniform": history})
    >>> [line.get_label() for line in display.lines_]
    ['Uniform: training', 'Uniform: validation']
    """

    train: Mapping[str, NDArray[np.float64]]
    validation: Mapping[str, NDArray[np.float64]] | None = None

    def _draw(self, ax: Any, **kwargs: Any) -> list[Any]:
        lines: list[Any] = []
        validation = self.validation or {}
        for number, (name, loss) in enumerate(self.train.items(), n_lines(ax)):
            losses = {f"{name}: training": loss} if name in validation else {name: loss}
            styles = [{"linestyle": "-"}, {"linestyle": "--", "fillstyle": "none"}]
            if name in validation:
                losses[f"{name}: validation"] = validation[name]
            for (label, values), style in zip(losses.items(), styles, strict=False):
                style = {**marker_style(number), **style, "label": label, **kwargs}
                every = max(1, len(values) // _MARKS)
                epochs = np.arange(1, len(values) + 1)
                lines += ax.plot(epochs, values, markevery=every, **style)
        ax.set(xlabel="epoch", ylabel="loss")
        ax.xaxis.get_major_locator().set_params(integer=True)
        return lines

    @classmethod
    def from_histories(
        cls,
        histories: Mapping[str, Iterable[Mapping[str, Any]]],
        *,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the losses that skorch recorded.

        Parameters
        ----------
        histories : mapping of str to History or list of dict
            By name, the history of a net, or one row per epoch with `train_loss` and, if
            the epoch has a validation, `valid_loss`.

        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : TrainingLossDisplay
            The drawn figure.

        Raises
        ------
        ValueError
            If there is no history, or one has no training loss.
        """
        if not histories:
            raise ValueError("histories must hold at least one, got none.")
        train, validation = {}, {}
        for name, history in histories.items():
            losses = pd.DataFrame(list(history), columns=["train_loss", "valid_loss"])
            if losses["train_loss"].isna().all():
                raise ValueError(
                    f"histories must have train_loss, the history {name!r} has none."
                )
            # An interrupted epoch may have no validation.
            train[name], validation[name] = losses.to_numpy(dtype=np.float64).T
        known = {
            name: each for name, each in validation.items() if not np.isnan(each).all()
        }
        return cls(train, known).plot(ax=ax, **kwargs)
