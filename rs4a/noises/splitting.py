"""Noise that cuts the range of every coordinate into parts and shows only the part."""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from torch import Generator, Tensor

from rs4a import radii
from rs4a.noises.base import Noise
from rs4a.noises.capabilities import Viewer, Views
from rs4a.noises.grid import check_bool, check_int, check_levels, check_on_grid, to_steps
from rs4a.noises.iid import UniformCuts
from rs4a.radii.rounding import FloatArray

#: Most views: up to here float32 holds sums of whole numbers, and their halves.
_MOST_VIEWS = 2**22
#: Slack for 2 lambda levels, so that rounding of lambda does not cost a view.
_SLACK = 1e-9
_MOST_SEED = 2**32 - 1


class Splitting(UniformCuts, Views):
    """Splitting noise, against l1 adversaries: the net sees a rough place of each value.

    The range [0, 1] of each coordinate is cut at a threshold s, and at s + 2 lambda,
    s + 4 lambda, ... and s - 2 lambda, ... as far as these lie inside. The net sees the
    centre of the part in which the coordinate lies. Thresholds are uniform over a length of
    2 lambda; nothing is added to the input [1]_.

    With ``deterministic=True`` inputs lie on the grid {0, ..., levels} / levels, and
    thresholds between its points. A random template, which is drawn once and belongs to the
    fitted classifier, gives each coordinate its first threshold. The thresholds of all
    coordinates move together through floor(2 lambda levels) places, and the net votes on
    all of these views. The votes are not random, so that the certificate needs no
    confidence bound and holds with certainty, against attacks on the grid. The l1 radius is
    half the margin of the votes, in whole steps of the grid.

    With ``deterministic=False`` each threshold is drawn independently. Votes, bounds and
    the l1 radius, 2 lambda (prob_lower - 1/2), are as for :class:`Uniform` noise.

    Parameters
    ----------
    sigma : float, default=None
        Sigma of Uniform noise with the same radii: lambda / sqrt(3), in units of X.

    deterministic : bool, default=True
        Whether all views vote, and not randomly drawn ones.

    levels : int, default=255
        Steps of the grid between 0 and 1: 255 for images of bytes that are divided by
        255, 16 for scikit-learn's digits divided by 16. Used with ``deterministic=True``.

    seed : int, default=None
        Seed of the template. None: `fit` draws one, and the classifier's `noise_` has it.
        A net that was trained elsewhere needs the seed of its training.

    lambd : float, default=None
        Half the length over which thresholds are uniform, in units of X. Give exactly one
        of `sigma` and `lambd`.

    References
    ----------
    .. [1] Levine, Feizi, "Improved, Deterministic Smoothing for l1 Certified Robustness",
       ICML 2021, arXiv:2103.10834.

    Examples
    --------
    >>> import torch
    >>> from rs4a.noises import Splitting
    >>> noise = Splitting(lambd=0.25, levels=8, seed=0)
    >>> noise.n_views(dim=4)  # 2 lambda levels
    4
    >>> view = torch.empty(1, 4)
    >>> noise.viewer(4, torch.float32)(torch.tensor([0.0, 0.25, 0.5, 1.0]), 0, view)
    >>> view
    tensor([[0.0312, 0.2188, 0.4375, 0.7812]])
    >>> noise.radius([0.75, 1.0], norm=1, dim=4)
    array([0.   , 0.125])
    """

    norms = (1.0,)
    unit_inputs = True

    def __init__(
        self,
        sigma: float | None = None,
        *,
        deterministic: bool = True,
        levels: int = 255,
        seed: int | None = None,
        lambd: float | None = None,
    ):
        super().__init__(sigma, lambd=lambd)
        self.deterministic = deterministic
        self.levels = levels
        self.seed = seed

    def _check_shape(self, dim: int) -> None:
        check_bool("deterministic of Splitting", self.deterministic)
        check_levels("Splitting", self.levels)
        if self.seed is not None:
            check_int("seed of Splitting", self.seed, 0, _MOST_SEED, "or None, ")

    def fixed(
        self,
        random_state: np.random.RandomState | None,
        trained_under: Noise | None = None,
    ) -> "Splitting":
        """The noise with the seed of a template, if it is deterministic and has none.

        Parameters
        ----------
        random_state : RandomState or None
            Source of randomness. None: the net is trained already, and nothing is drawn.

        trained_under : Noise, default=None
            Noise of the net's training, if it is known.

        Returns
        -------
        noise : Splitting
            The same object, or a copy with a seed: the seed of the net's training, if that
            was under such noise.

        Raises
        ------
        ValueError
            If the net was trained under another template, or was trained already under
            an unknown template.
        """
        if not self.deterministic:
            return self
        if isinstance(trained_under, Splitting) and trained_under.deterministic:
            return self._with_template_of(trained_under)
        if self.seed is not None:
            return self
        if random_state is None:
            raise ValueError(
                f"seed of {self} must be that of the template that the net was trained "
                "under, got None: the net does not say. Give Splitting(..., seed=...)."
            )
        seed = int(random_state.randint(_MOST_SEED, dtype=np.int64))
        return clone(self).set_params(seed=seed)

    def _with_template_of(self, other: "Splitting") -> "Splitting":
        mine = clone(self)
        if mine.seed is None:
            mine.set_params(seed=other.seed)
        templates = [(each.seed, each.levels, each.n_views(1)) for each in (mine, other)]
        if templates[0] != templates[1]:
            raise ValueError(
                f"noise must have the template that the net was trained under, {other} "
                f"with {other.n_views(1)} views, got {self} with {mine.n_views(1)}."
            )
        return mine

    @property
    def input_levels(self) -> int | None:
        """Steps from 0 to 1 of the grid of inputs, if the noise is deterministic."""
        return int(self.levels) if self.deterministic else None

    def check_inputs(self, X: NDArray[np.float32] | Tensor) -> None:
        """Refuse inputs outside [0, 1] or, for deterministic noise, off the grid.

        Parameters
        ----------
        X : ndarray or torch.Tensor of any shape
            One input or several.

        Raises
        ------
        ValueError
            With the first wrong value, and advice.
        """
        values = torch.as_tensor(X).detach()
        if not values.numel():
            return
        low, high = (float(end) for end in values.aminmax())
        if not (low >= 0.0 and high <= 1.0):  # NaN compares false
            # scikit-learn's checks look for these words, because of a tag.
            negative = " Negative values in data are none of these." if low < 0.0 else ""
            raise ValueError(
                f"X must lie in [0, 1] for {self}, which cuts this range, got values from "
                f"{low:.9g} to {high:.9g}. Scale X and sigma.{negative}"
            )
        if self.deterministic:
            check_on_grid(values, self.levels, self)

    def n_views(self, dim: int) -> int:
        """Number of views that vote, for deterministic noise: floor(2 lambda levels).

        Parameters
        ----------
        dim : int
            Number of coordinates of one input.

        Returns
        -------
        n_views : int
            At least 1.

        Raises
        ------
        ValueError
            If there is no view, or float32 cannot number all views.
        """
        n_views = math.floor(2.0 * self.scale(dim) * self.levels + _SLACK)
        if not 1 <= n_views <= _MOST_VIEWS:
            raise ValueError(
                f"{self} has 2 lambda levels = {n_views} views of an input; there must be "
                f"from 1 to {_MOST_VIEWS}. Change sigma, or give the levels of the data."
            )
        return n_views

    def viewer(self, dim: int, dtype: torch.dtype) -> Viewer:
        """Views of an input in their order, for deterministic noise.

        Parameters
        ----------
        dim : int
            Number of coordinates of one input.

        dtype : torch.dtype
            Of the inputs: float32 or float64.

        Returns
        -------
        viewer : callable
            Takes an input `x`, the number `start` of a view, and `out` of shape (n, ...):
            overwrites `out` with the views number `start` to `start` + n - 1. Unchecked.
        """
        show = self._views_of(dim, dtype)

        def view(x: Tensor, start: int, out: Tensor) -> None:
            numbers = torch.arange(start, start + len(out), dtype=dtype, device=x.device)
            show(x, numbers, out)

        return view

    def _views_of(self, dim: int, dtype: torch.dtype) -> Callable[..., None]:
        """Function of `x`, numbers of views, and `out`, which it overwrites with them."""
        n_views, template = self.n_views(dim), self._template(dim, dtype)

        def show(x: Tensor, numbers: Tensor, out: Tensor) -> None:
            places = template.to(x.device) + numbers[:, np.newaxis]
            # Half-way between the steps of the grid.
            cuts = places.remainder_(n_views).add_(0.5).view(out.shape)
            steps = to_steps(x, self.levels).expand(out.shape)
            _centres(steps, cuts, n_views, self.levels, out)

        return show

    def _sample_at_scale(
        self, scale: float, x: Tensor, generator: Generator | None, out: Tensor | None
    ) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        views = torch.empty(x.shape, dtype=dtype, device=x.device)
        if self.deterministic:
            dim = max(1, math.prod(x.shape[1:]))
            numbers = torch.randint(
                self.n_views(dim), (len(x),), generator=generator, device=x.device
            )
            self._views_of(dim, dtype)(x.detach(), numbers.to(dtype), views)
        else:
            cuts = torch.empty_like(views).uniform_(0.0, 2.0 * scale, generator=generator)
            _centres(x.detach().to(dtype), cuts, 2.0 * scale, 1, views)
        return views.to(x.dtype) if out is None else out.copy_(views)

    def _template(self, dim: int, dtype: torch.dtype) -> Tensor:
        if self.seed is None:
            raise ValueError(
                f"seed of {self} must be given where no fit draws it, got None: a template "
                "belongs to the net that is trained under it."
            )
        template = _draw_template(int(self.seed), self.n_views(dim), dim)
        return torch.from_numpy(template.copy()).to(dtype)

    def exact_radius(
        self, counts: NDArray[np.int64], columns: NDArray[np.int64], norm: float, dim: int
    ) -> FloatArray:
        """Certified radius, given the votes on all views of deterministic noise.

        A change of a coordinate by k steps of the grid alters at most k of the views, and
        an altered view may vote for another class.

        Parameters
        ----------
        counts : ndarray of shape (n, n_classes), int64
            Votes on all views.

        columns : ndarray of shape (n,), int64
            Column with the most votes, the first one of equals.

        norm : {1, 2, inf}
            Norm of the adversary.

        dim : int
            Number of coordinates of one input.

        Returns
        -------
        radius : ndarray of shape (n,), float64
            In units of X, rounded down. No input on the grid within it has another
            majority.
        """
        steps = _steps_to_a_tie(counts, columns)
        radius = _quotient_rounded_down(steps, self.levels)
        if norm <= 1.0:
            return radius
        return radii.round_down(radius * radii.conversion_factor(1.0, norm, dim))

    def _unit_radius(self, prob_lower: FloatArray, norm: float, dim: int) -> FloatArray:
        if not self.deterministic:
            return radii.uniform_l1(prob_lower)
        # All other votes count for one class, and that class wins ties.
        n_views = self.n_views(dim)
        votes = np.ceil(prob_lower * n_views - _SLACK)
        steps = np.maximum(np.floor((2.0 * votes - n_views - 1.0) / 2.0), 0.0)
        return steps / (self.levels * self.scale(dim))


@lru_cache(maxsize=16)
def _draw_template(seed: int, n_views: int, dim: int) -> NDArray[np.int64]:
    """Place of each coordinate's threshold in the first view."""
    # numpy promises that the numbers of RandomState stay; it does not for Generator.
    state = np.random.RandomState(seed)
    return state.randint(n_views, size=dim, dtype=np.int64)


def _centres(x: Tensor, cuts: Tensor, width: float, top: float, out: Tensor) -> None:
    """Overwrite `out` with the centres, over `top`, of the cells in which x lies.

    A cell is the part in [0, top] of the interval from cut + (k - 1) width, exclusive, to
    cut + k width. Its centre depends on the cut and k alone: inputs in the same cell look
    the same, to the last bit.
    """
    torch.sub(x, cuts, out=out)
    lower = out.div_(width).ceil_().sub_(1.0).mul_(width).add_(cuts)
    upper = torch.add(lower, width).clamp_(max=top)
    lower.clamp_(min=0.0).add_(upper).div_(2.0 * top)


def _steps_to_a_tie(
    counts: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Number of views that may change their vote while the class still wins."""
    rows = np.arange(len(counts))
    wins_ties = np.arange(counts.shape[1]) < columns[:, np.newaxis]
    margins = counts[rows, columns][:, np.newaxis] - counts - wins_ties
    margins[rows, columns] = 2 * counts.sum(axis=1)
    return np.asarray(np.maximum(margins.min(axis=1), 0) // 2)


def _quotient_rounded_down(steps: NDArray[np.int64], levels: int) -> FloatArray:
    """Largest floats of at most steps / levels."""
    values, inverse = np.unique(steps, return_inverse=True)
    exact = [Fraction(step, int(levels)) for step in values.tolist()]
    nearest = np.array([float(fraction) for fraction in exact])
    above = [
        Fraction(value) > fraction for value, fraction in zip(nearest, exact, strict=True)
    ]
    return np.where(above, np.nextafter(nearest, 0.0), nearest)[inverse]
