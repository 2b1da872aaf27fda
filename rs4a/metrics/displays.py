"""Figures of classifiers and noises: accuracy and radius, against radius or probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rs4a.metrics.drawing import (
    AccuracyDisplay,
    Display,
    draw_lines,
    radius_grid,
    radius_label,
)
from rs4a.metrics.predictions import CertifiedPredictions, common_norm
from rs4a.metrics.scorers import certifiable
from rs4a.metrics.scores import certified_accuracy_score, check_confidence
from rs4a.noises import Noise
from rs4a.utils.checks import check_norm


@dataclass(eq=False, repr=False)
class CertifiedAccuracyDisplay(AccuracyDisplay):
    """Certified accuracy against radius, one line per classifier.

    Make one by :meth:`from_estimator` or :meth:`from_certifications`.

    Parameters
    ----------
    radii : ndarray of shape (n_radii,)
        Distances of the adversary, in units of X.

    accuracies : mapping of str to ndarray of shape (n_radii,)
        Certified accuracy of every classifier.

    norm : {1, 2, inf}, default=None
        Norm of the adversary, for the label of the axis.

    n_inputs : int, default=None
        Number of inputs that the accuracies are shares of. None: no bands.

    undefended : mapping of str to float, default=None
        Accuracy of the net alone, without noise, which is marked at radius 0. It is no
        certificate.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        Lines of certified accuracy.

    bands_ : list of matplotlib PolyCollection
        Band of each line; empty if there are none.

    ax_ : matplotlib Axes
        Axes of the figure.

    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    >>> import numpy as np
    >>> from rs4a import Certification
    >>> from rs4a.metrics import CertifiedAccuracyDisplay
    >>> from rs4a.noises import Uniform
    >>> votes = np.array([[990, 10], [800, 200]])
    >>> certification = Certification(
    ...     np.array([0, 1]), votes // 10, votes, Uniform(lambd=1.0), dim=64
    ... )
    >>> display = CertifiedAccuracyDisplay.from_certifications(
    ...     [0, 0], {"Uniform": certification}, undefended=1.0
    ... )
    >>> display.ax_.get_xlabel()
    'l1 radius'
    """

    _: KW_ONLY
    undefended: Mapping[str, float] | None = None

    def _draw(self, ax: Any, **kwargs: Any) -> list[Any]:
        lines = super()._draw(ax, **kwargs)
        mark = {"marker": "o", "fillstyle": "none", "linestyle": "none", "clip_on": False}
        for name, line in zip(self.accuracies, lines, strict=True):
            if self.undefended and name in self.undefended:
                label = f"{name}: net alone, undefended"
                style = {**mark, "color": line.get_color(), "label": label}
                ax.plot([0.0], [self.undefended[name]], **style)
        return lines

    @classmethod
    def from_certifications(
        cls,
        y_true: ArrayLike,
        certifications: CertifiedPredictions | Mapping[str, CertifiedPredictions],
        *,
        radii: ArrayLike | None = None,
        norm: float | None = None,
        undefended: float | Mapping[str, float] | None = None,
        confidence: float | None = 0.95,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw certified accuracy from certifications of the same inputs.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            True labels.

        certifications : Certification, CertificationLog, or mapping of str to these
            Certified predictions, with the name of each line. The noise names the line of
            a single certification.

        radii : array-like of shape (n_radii,), default=None
            Distances to evaluate at. None: up to the largest certified radius.

        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: the certifications' own.

        undefended : float or mapping of str to float, default=None
            Accuracy of the net alone, marked at radius 0; a single number belongs to the
            first certification.

        confidence : float, default=0.95
            Probability of the bands around the lines. None: no bands.

        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : CertifiedAccuracyDisplay
            The drawn figure.

        Raises
        ------
        ValueError
            If there is no certification, their own norms differ and `norm` is not given,
            or `confidence` is outside (0, 1).
        """
        if not isinstance(certifications, Mapping):
            noise = getattr(certifications, "noise", None)
            certifications = {str(noise or "smoothed"): certifications}
        if not certifications:
            raise ValueError("certifications must hold at least one, got none.")
        norm = common_norm(certifications.values(), norm)
        grid = radius_grid(certifications.values(), norm, radii)
        accuracies = {
            name: certified_accuracy_score(y_true, each, radius=grid, norm=norm)
            for name, each in certifications.items()
        }
        if undefended is not None and not isinstance(undefended, Mapping):
            undefended = dict.fromkeys(list(certifications)[:1], undefended)
        n_inputs = len(next(iter(certifications.values())).labels)
        display = cls(grid, accuracies, norm=norm, n_inputs=n_inputs, undefended=undefended)
        return display.plot(ax=ax, confidence=confidence, **kwargs)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        radii: ArrayLike | None = None,
        norm: float | None = None,
        name: str | None = None,
        confidence: float | None = 0.95,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Certify inputs and draw their certified accuracy.

        Parameters
        ----------
        estimator : SmoothedClassifier, or search over one
            Fitted classifier.

        X : array-like of shape (n, ...)
            Inputs.

        y : array-like of shape (n,)
            True labels.

        radii : array-like of shape (n_radii,), default=None
            Distances to evaluate at. None: up to the largest certified radius.

        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: the estimator's own.

        name : str, default=None
            Name of the line. None: the noise.

        confidence : float, default=0.95
            Probability of the bands around the lines. None: no bands.

        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : CertifiedAccuracyDisplay
            The drawn figure, with the accuracy of the undefended net at radius 0.
        """
        check_confidence(confidence)
        estimator = certifiable(estimator)
        name = str(estimator.noise_) if name is None else name
        records = {name: estimator.certify(X)}
        undefended = {name: estimator.base_score(X, y)}
        how: dict[str, Any] = {"radii": radii, "norm": norm, "confidence": confidence}
        return cls.from_certifications(
            y, records, undefended=undefended, ax=ax, **how, **kwargs
        )


@dataclass(eq=False, repr=False)
class RadiusDisplay(Display):
    """Certified radius against the probability of the top class, one line per noise.

    Make one by :meth:`from_noises`.

    Parameters
    ----------
    prob_lower : ndarray of shape (n_points,)
        Probabilities of the top class.

    radii : mapping of str to ndarray of shape (n_points,)
        Certified radius of every noise, in units of X.

    norm : {1, 2, inf}, default=None
        Norm of the adversary, for the label of the axis.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        Lines of the noises.

    ax_ : matplotlib Axes
        Axes of the figure.

    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    >>> from rs4a.metrics import RadiusDisplay
    >>> from rs4a.noises import Laplace, Uniform
    >>> noises = [Laplace(sigma=1.0), Uniform(sigma=1.0)]
    >>> display = RadiusDisplay.from_noises(noises, norm=1, dim=3072)
    >>> [line.get_label() for line in display.lines_]
    ['Laplace(sigma=1.0)', 'Uniform(sigma=1.0)']
    """

    prob_lower: NDArray[np.float64]
    radii: Mapping[str, NDArray[np.float64]]
    _: KW_ONLY
    norm: float | None = None

    def _draw(self, ax: Any, **kwargs: Any) -> list[Any]:
        lines = draw_lines(ax, self.prob_lower, self.radii, **kwargs)
        ax.set(
            xlabel="probability of the top class",
            ylabel=f"certified {radius_label(self.norm)}",
            xlim=(self.prob_lower[0], self.prob_lower[-1]),
            ylim=(0, None),
        )
        return lines

    @classmethod
    def from_noises(
        cls,
        noises: Noise | Sequence[Noise],
        *,
        norm: float,
        dim: int,
        prob_lower: ArrayLike | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the radii of several noises.

        Parameters
        ----------
        noises : Noise or sequence of Noise
            Noises to compare, usually of one sigma.

        norm : {1, 2, inf}
            Norm of the adversary.

        dim : int
            Number of coordinates of one input.

        prob_lower : array-like of shape (n_points,), default=None
            Probabilities to evaluate at. None: from 0.5 to 0.999.

        ax : matplotlib Axes, default=None
            Axes to draw on. None: new ones.

        **kwargs : dict
            Further arguments of matplotlib's `plot` for every line.

        Returns
        -------
        display : RadiusDisplay
            The drawn figure.
        """
        norm = check_norm(norm)
        if isinstance(noises, Noise):
            noises = [noises]
        if prob_lower is None:
            prob_lower = np.linspace(0.5, 0.999, 201)
        probabilities = np.asarray(prob_lower, dtype=np.float64)
        radii = {str(n): n.radius(probabilities, norm=norm, dim=dim) for n in noises}
        return cls(probabilities, radii, norm=norm).plot(ax=ax, **kwargs)
