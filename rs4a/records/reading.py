"""How votes are read: as probabilities, abstentions and certified radii."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from rs4a.bounds import Bound, ClopperPearson, top_votes
from rs4a.nets.inference import Inference
from rs4a.noises import Noise
from rs4a.records.box import Box, as_box
from rs4a.records.predictions import check_alpha, store
from rs4a.records.votes import Votes, check_counts, selection_votes, to_uniforms
from rs4a.utils.arrays import plain_labels, read_only

__all__ = ["Reading"]


@dataclass(frozen=True, eq=False, repr=False, init=False)
class Reading(Votes):
    """Votes, and how they are read: by a bound, at a level alpha, in a norm and a box.

    :class:`~rs4a.Certification` describes the parameters and attributes.
    """

    bound: Bound | None
    alpha: float
    norm: float
    box: Box | None

    _COLUMNS = ("prob_lower", "n_votes")

    # The order of the arguments is public: pickles hold them by position.

    def __init__(
        self,
        classes: NDArray,
        selection_counts: NDArray[np.int64],
        counts: NDArray[np.int64],
        noise: Noise,
        dim: int,
        bound: Bound | None = None,
        alpha: float = 0.001,
        norm: float | None = None,
        seconds: float = 0.0,
        adaptive: bool = False,
        tokens: NDArray[np.uint64] | None = None,
        inference: Inference | None = None,
        net_digest: str | None = None,
        box: Any = None,
        runs: tuple[dict[str, Any], ...] = (),
        index: pd.Index | None = None,
    ) -> None:
        super().__init__(
            classes, selection_counts, counts, noise, dim, seconds, adaptive, tokens,
            inference, net_digest, runs, index,
        )  # fmt: skip
        if self.deterministic:
            store(self, bound=None, alpha=0.0)
        else:
            store(self, bound=clone(bound or ClopperPearson()), alpha=check_alpha(alpha))
        self._check_bound()
        self._settle(norm, box)

    def _check_bound(self) -> None:
        """Refuse a bound whose conditions are not met."""
        bound = self.bound
        if bound is None:
            return
        _ = bound.votes_per_input  # refuses bad parameters
        if self.adaptive and not bound.anytime:
            raise ValueError(
                f"bound={bound} needs a number of votes that was fixed beforehand, but "
                "these votes decided when their drawing stopped. Use a bound that holds "
                "at any time, as ConfidenceSequence does."
            )
        if bound.randomized and self.tokens is None:
            raise ValueError(
                f"bound={bound} needs a random number an input, drawn with the votes: "
                "give tokens, an array of uint64, got None."
            )
        if bound.runner_up:
            self.noise.check_two_bounds()

    @cached_property
    def _top_two(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        votes = top_votes(self.counts, self._columns)
        if self.bound is None:
            shares = votes.top / votes.total, votes.runner_up / votes.total
            return read_only(shares[0]), read_only(shares[1])
        lower, others = self.bound.top_two(
            votes,
            n_others=len(self.classes) - 1,
            alpha=self.alpha,
            uniforms=None if self.tokens is None else to_uniforms(self.tokens),
        )
        return read_only(lower), read_only(others)

    @property
    def prob_lower(self) -> NDArray[np.float64]:
        """Lower confidence bound on the probability of every label."""
        return self._top_two[0]

    @property
    def prob_runner_up(self) -> NDArray[np.float64]:
        """Upper confidence bound on the probability of every other class."""
        return self._top_two[1]

    @property
    def abstained(self) -> NDArray[np.bool_]:
        """Where the label has no certificate."""
        if self.bound is None:
            return np.zeros(len(self), dtype=bool)
        return self.prob_lower <= (self.prob_runner_up if self.bound.runner_up else 0.5)

    def _radius(self, norm: float) -> NDArray[np.float64]:
        if self.bound is None:
            return self.noise.exact_radius(self.counts, self._columns, norm, self.dim)
        return self.noise.radius(
            self.prob_lower,
            norm=norm,
            dim=self.dim,
            prob_runner_up=self.prob_runner_up if self.bound.runner_up else None,
            reach=None if self.box is None else self.box.lengths,
        )

    @classmethod
    def from_counts(
        cls,
        counts: ArrayLike,
        *,
        noise: Noise,
        dim: int,
        selection_counts: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        bound: Bound | None = None,
        alpha: float = 0.001,
        norm: float | None = None,
        adaptive: bool | None = None,
        tokens: ArrayLike | None = None,
        box: tuple[float, float] | None = None,
    ) -> Self:
        """Certificates from votes that were counted elsewhere.

        Parameters
        ----------
        counts : array-like of shape (n, n_classes), int
            Estimation votes.

        noise : Noise
            Noise under which the votes were drawn.

        dim : int
            Number of coordinates of one input.

        selection_counts : array-like of shape (n, n_classes), int, default=None
            Votes, independent of the estimation votes, that choose the class.

        labels : array-like of shape (n,), default=None
            Classes that selection votes chose. Exactly one of `selection_counts` and
            `labels` must be given: a class that is read off the estimation votes has no
            certificate. With deterministic noise, whose views all vote, neither is needed.

        classes : array-like of shape (n_classes,), default=None
            Labels of the columns. None: 0, 1, ...

        bound : Bound, default=None
            How votes become a probability. None: ``ClopperPearson()``.

        alpha : float, default=0.001
            Failure probability of each certificate.

        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: the noise's own.

        adaptive : bool, default=None
            Whether the votes may have decided when their drawing stopped. None: where
            the bound allows for it.

        tokens : ndarray of shape (n,), uint64, default=None
            Random numbers for randomised bounds, drawn independently of the votes and
            uniform on all of [0, 2^64).

        box : tuple of two floats, default=None
            Smallest and largest value of a coordinate, if the inputs did and attacks must
            respect them. ``recompute(box=..., X=X)`` uses the inputs as well.

        Returns
        -------
        certification : Certification
            The record.

        Raises
        ------
        ValueError
            If not exactly one of `selection_counts` and `labels` is given, the selection
            votes are the estimation votes again, or an argument is not as described.

        Examples
        --------
        >>> from rs4a import Certification
        >>> from rs4a.noises import Uniform
        >>> votes = [[99_000, 1_000], [52_000, 48_000]]
        >>> certification = Certification.from_counts(
        ...     votes, labels=[0, 0], noise=Uniform(lambd=1.0), dim=784
        ... )
        >>> certification.radius(norm=1).round(3)
        array([0.978, 0.03 ])
        """
        counts = check_counts("counts", counts)
        names = range(counts.shape[1]) if classes is None else classes
        columns = plain_labels("classes", names)
        selection = selection_votes(noise, columns, counts, selection_counts, labels)
        bound = bound or ClopperPearson()
        if adaptive is None:
            if not (bound.anytime or noise.deterministic):
                _check_one_total(counts, bound)
            adaptive = bound.anytime
        return cls(
            classes=columns,
            selection_counts=selection,
            counts=counts,
            noise=noise,
            dim=dim,
            bound=bound,
            alpha=alpha,
            norm=norm,
            adaptive=adaptive,
            tokens=None if tokens is None else np.asarray(tokens),
            box=box,
        )

    def recompute(
        self,
        *,
        alpha: float | None = None,
        norm: float | None = None,
        bound: Bound | None = None,
        box: tuple[float, float] | None = None,
        X: Any = None,
    ) -> Self:
        """Draw other conclusions from the same votes.

        Each record is valid at its own `alpha`. To choose among several after seeing
        them, for example the best bound, voids the stated failure probability.

        Parameters
        ----------
        alpha : float, default=None
            Failure probability of each certificate. None: as it was.

        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: as it was.

        bound : Bound, default=None
            How votes become a probability; the number of votes that it would draw is
            ignored. None: as it was.

        box : tuple of two floats, default=None
            Smallest and largest value of a coordinate, which the inputs did and attacks
            must respect. None: as it was. ``dataclasses.replace(record, box=None)`` drops
            the box.

        X : array-like of shape (n, ...), default=None
            The inputs, which make radii in a new box larger. None: they are not used.

        Returns
        -------
        certification : Certification
            A new record; this one stays as it is. With deterministic noise, `alpha` and
            `bound` are ignored.

        Raises
        ------
        ValueError
            If `alpha` is outside (0, 1), the votes decided when their drawing stopped
            and `bound` does not allow that, the noise has no radius in a box, or, as far
            as the record knows the inputs, they were not in the box or `X` holds others.
        """
        given = {"alpha": alpha, "norm": norm, "bound": bound}
        changes: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        return replace(self, box=self._box_for(box, X), **changes)

    def _box_for(self, box: tuple[float, float] | None, X: Any) -> Box | None:
        """The box of a new record, with the reach of the inputs if they are given."""
        wanted = self.box if box is None else as_box(box)
        if X is not None:
            if wanted is None:
                raise ValueError("X needs a box, got box=None.")
            return self._box_around(X, wanted)
        if wanted is None or (self.box and self.box.interval == wanted.interval):
            return self.box  # which may know the inputs
        self._check_range(wanted)
        return wanted


def _check_one_total(counts: NDArray[np.int64], bound: Bound) -> None:
    """Refuse numbers of votes that differ, so that the votes may have decided them."""
    totals = np.unique(counts.sum(axis=1))
    if len(totals) > 1:
        raise ValueError(
            f"counts have from {totals[0]} to {totals[-1]} votes per input, but "
            f"bound={bound} needs numbers that were fixed beforehand: confirm it by "
            "adaptive=False, or use ConfidenceSequence."
        )
