"""Conclusions from votes: bounds on probabilities, abstentions and certified radii."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from rs4a.bounds import Bound, ClopperPearson, top_votes
from rs4a.records.box import Box, as_box, coordinate_reach, widened
from rs4a.records.predictions import store
from rs4a.records.votes import Votes
from rs4a.utils.arrays import read_only
from rs4a.utils.checks import check_in_range


class Reading(Votes):
    """Conclusions from votes, by `bound`, `alpha`, `norm` and `box`.

    Another reading of the same votes needs no draw.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.deterministic:
            store(self, bound=None, alpha=0.0)
        else:
            check_in_range("alpha", self.alpha, 0.0, 1.0, why="a probability")
            bound = clone(self.bound or ClopperPearson())
            store(self, bound=bound, alpha=float(self.alpha))
            self._check_bound(bound)

    def _check_bound(self, bound: Bound) -> None:
        """Refuse a bound whose conditions are not met."""
        _ = bound.votes_per_input  # refuses bad parameters
        if self.adaptive and not bound.anytime:
            raise ValueError(
                f"bound={bound} needs a number of votes that was fixed beforehand, but "
                "these votes decided when their drawing stopped. Use a bound that holds "
                "at any time, as ConfidenceSequence does."
            )
        if bound.randomized and self.tokens is None:
            raise ValueError(
                f"bound={bound} needs one random number per input, drawn with the votes: "
                "give tokens, an array of uint64, got None."
            )
        if bound.runner_up:
            self.noise.check_two_bounds()

    @cached_property
    def _top_two(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        votes = top_votes(self.counts, self._columns)
        if self.bound is None:
            lower, others = votes.top / votes.total, votes.runner_up / votes.total
        else:
            uniforms = None if self.tokens is None else _to_uniforms(self.tokens)
            lower, others = self.bound.top_two(
                votes, n_others=len(self.classes) - 1, alpha=self.alpha, uniforms=uniforms
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
        runner_up = self.prob_runner_up if self.bound.runner_up else None
        known = {"prob_runner_up": runner_up, "reach": self.box and self.box.lengths}
        return self.noise.radius(self.prob_lower, norm=norm, dim=self.dim, **known)

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

        Each record is valid at its own `alpha`. A choice among several records after a
        look at them, for example of the best bound, voids the failure probability.

        Parameters
        ----------
        alpha : float, default=None
            Failure probability of each certificate. None: as it was.

        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: as it was.

        bound : Bound, default=None
            Bound on the probability of the label. Its number of votes is ignored. None: as
            it was.

        box : tuple of two floats, default=None
            Smallest and largest value of a coordinate, of inputs and of attacks. None: as
            it was. ``dataclasses.replace(record, box=None)`` drops the box.

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
            as the record knows its inputs, they are not in the box or are not `X`.
        """
        return replace(
            self,
            alpha=self.alpha if alpha is None else alpha,
            norm=self.norm if norm is None else norm,
            bound=self.bound if bound is None else bound,
            box=self._box_for(box, X),
        )

    def _box_for(self, box: tuple[float, float] | None, X: Any) -> Box | None:
        """The box of a new record, with the reach of the inputs if they are given."""
        wanted = self.box if box is None else as_box(box)
        if X is not None:
            if wanted is None:
                raise ValueError("X needs a box, got box=None.")
            inputs = self._check_same_inputs(X)
            reach = coordinate_reach(inputs, wanted.interval, self.noise.scale(self.dim))
            return replace(wanted, reach=reach)
        if wanted is None or (self.box and self.box.interval == wanted.interval):
            return self.box  # its reach stays
        low, high = widened(wanted.interval)
        for run in self.runs:
            known = run.get("input_range")
            if known and not (low <= known[0] and known[1] <= high):
                raise ValueError(
                    f"box must hold the inputs, which are from {known[0]:.9g} to "
                    f"{known[1]:.9g}, got {wanted}."
                )
        return wanted


def _to_uniforms(tokens: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers in (0, 1), from the first 53 bits of the tokens."""
    return ((tokens >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
