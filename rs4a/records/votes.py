"""Votes on a batch of inputs, and how they were drawn; votes of several records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone

from rs4a.bounds import Bound
from rs4a.inputs.arrays import as_array
from rs4a.nets.inference import Inference
from rs4a.nets.provenance import merge_runs
from rs4a.noises import Noise
from rs4a.noises.streams import stream_keys
from rs4a.records.predictions import CertifiedPredictions, check_classes, check_shape, store
from rs4a.utils.arrays import read_only
from rs4a.utils.params import to_json

#: The largest of so many tokens is below this number with probability 2^-64 at most.
_FEW_TOKENS, _SMALL_TOKEN = 4, 2**48
#: So many inputs with split votes do not get the same votes twice by chance.
_TOO_MANY = 10
#: Fields that records of one classifier under the same parameters share.
_SETTINGS = (
    "noise", "dim", "bound", "alpha", "norm", "adaptive", "inference", "net_digest",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Votes(CertifiedPredictions):
    """Votes on a batch of inputs, and how they were drawn.

    :class:`~rs4a.Certification` describes the fields and the attributes. `bound`, `alpha`,
    `norm` and `box` say how a `Reading` draws conclusions from the votes.
    """

    # The order of the fields is public: pickles hold them by position.
    classes: NDArray
    selection_counts: NDArray[np.int64]
    counts: NDArray[np.int64]
    noise: Noise
    dim: int
    bound: Bound | None = None
    alpha: float = 0.001
    norm: Any = None
    seconds: float = 0.0
    adaptive: bool = False
    tokens: NDArray[np.uint64] | None = None
    inference: Inference | None = None
    net_digest: str | None = None
    box: Any = None
    runs: tuple[dict[str, Any], ...] = ()
    index: pd.Index | None = None

    _PER_INPUT = ("selection_counts", "counts", "tokens", "index")
    _COLUMNS = ("prob_lower", "n_votes")

    def __post_init__(self) -> None:
        store(self, classes=check_classes(self.classes))
        for name in ("counts", "selection_counts"):
            counts = read_only(check_counts(name, getattr(self, name)))
            store(self, **{name: counts})
            check_shape(name, counts, len(self), len(self.classes))
        self._settle()
        store(self, seconds=float(self.seconds), adaptive=bool(self.adaptive))
        if self.index is not None:
            check_shape("index", self.index, len(self))
        if self.inference is not None:
            self.inference._validate_params()
            store(self, inference=clone(self.inference))
        if self.tokens is not None:
            store(self, tokens=read_only(_check_tokens(self.tokens, len(self))))
        if self.deterministic:
            self._check_all_voted()

    def _check_all_voted(self) -> None:
        """Refuse votes on some of the views only."""
        n_views = self.noise.n_views(self.dim)
        n_votes, differ = self.n_votes, self.counts != self.selection_counts
        if (n_votes != n_views).any() or differ.any():
            raise ValueError(
                f"counts and selection_counts must both be the votes on all {n_views} "
                f"views of {self.noise}, got from {n_votes.min()} to {n_votes.max()} votes "
                "per input. Give from_counts neither selection_counts nor labels."
            )

    def __len__(self) -> int:
        return len(self.counts)

    def _rows(self, at: NDArray[np.int64]) -> dict[str, Any]:
        """Fields of the votes on some inputs, with their share of the time by votes."""
        rows = super()._rows(at)
        n_votes = int(self.counts.sum() + self.selection_counts.sum())
        share = int(rows["counts"].sum() + rows["selection_counts"].sum()) / max(n_votes, 1)
        return {**rows, "seconds": self.seconds * share}

    @property
    def deterministic(self) -> bool:
        """Whether all views of deterministic noise voted, and nothing is estimated."""
        return self.noise.deterministic

    @property
    def report(self) -> dict[str, Any]:
        """Votes, seconds, seed, device and versions of the runs that drew the votes.

        Returns
        -------
        report : dict
            Values that JSON can hold; empty for votes that were counted elsewhere. `votes`
            is the number of votes of the known runs, `votes_in_record` of all. `warned`
            lists reasons that `certify` found why the net is no function of one input.
        """
        if not self.runs:
            return {}
        selection = 0 if self.deterministic else int(self.selection_counts.sum())
        in_record = selection + int(self.n_votes.sum())
        return {"votes_in_record": in_record, **merge_runs(list(self.runs))}

    @cached_property
    def _columns(self) -> NDArray[np.int64]:
        """Column of the selected class; ties go to the first."""
        return self.selection_counts.argmax(axis=1)

    @property
    def labels(self) -> NDArray:
        """Selected class of every input."""
        return self.classes[self._columns]

    @property
    def vote_shares(self) -> NDArray[np.float64]:
        """Share of the selection votes for every class, (n, n_classes)."""
        counts = self.selection_counts
        return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    @property
    def n_votes(self) -> NDArray[np.int64]:
        """Number of estimation votes of every input."""
        return self.counts.sum(axis=1)

    def _check_same_inputs(self, X: Any) -> NDArray[np.float32]:
        """Refuse other inputs than those of the votes, as far as the record knows them."""
        inputs = np.asarray(as_array(X), dtype=np.float32)
        if inputs.reshape(len(inputs), -1).shape != (len(self), self.dim):
            raise ValueError(
                f"X must hold the {len(self)} inputs of the record, of {self.dim} "
                f"coordinates, got shape {inputs.shape}."
            )
        # A joined record does not know which of its inputs has which seed.
        seeds = sorted({run["seed"] for run in self.runs})
        if self.tokens is not None and seeds:
            keys = [stream_keys(inputs, seed)[:, 2] for seed in seeds]
            differs = np.all(np.array(keys) != self.tokens, axis=0)
            if differs.any():
                raise ValueError(
                    "X must hold the inputs of the record in its order, got other inputs, "
                    f"the first is number {int(differs.argmax())}."
                )
        return inputs

    @classmethod
    def concatenate(cls, records: Sequence[Self]) -> Self:
        """Join records of inputs that were certified in parts.

        Parameters
        ----------
        records : sequence of Certification
            Records of one classifier under the same parameters, at least one.

        Returns
        -------
        certification : Certification
            One record of all inputs, in order; its time is the sum of theirs.

        Raises
        ------
        ValueError
            If `records` is empty, or the records differ in more than inputs, votes and
            time.

        Examples
        --------
        >>> from rs4a import Certification
        >>> from rs4a.noises import Uniform
        >>> parts = [
        ...     Certification.from_counts(
        ...         votes, labels=[0], noise=Uniform(lambd=1.0), dim=784
        ...     )
        ...     for votes in ([[99, 1]], [[98, 2]])
        ... ]
        >>> Certification.concatenate(parts).counts
        array([[99,  1],
               [98,  2]])
        """
        if not records:
            raise ValueError("records must hold at least one Certification, got none.")
        first, *others = map(_settings, records)
        differs = sorted(k for k in first if any(other[k] != first[k] for other in others))
        if differs:
            raise ValueError(
                "records must be of one classifier and one set of parameters, got records "
                f"that differ in {', '.join(differs)}."
            )
        runs = [run for record in records for run in record.runs]
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(record, name) for record in records])
            for name in ("selection_counts", "counts", "tokens")
            if getattr(records[0], name) is not None
        }
        box: Any = records[0].box
        indices: list[Any] = [record.index for record in records]
        if box is not None and box.reach is not None:
            box = replace(
                box, reach=np.concatenate([record.box.reach for record in records])
            )
        return replace(
            records[0],
            **arrays,
            box=box,
            # Parts of one record have the same runs.
            runs=tuple(run for i, run in enumerate(runs) if run not in runs[:i]),
            index=None
            if any(i is None for i in indices)
            else indices[0].append(indices[1:]),
            seconds=sum(record.seconds for record in records),
        )


def _settings(record: Any) -> dict[str, Any]:
    """Settings as values that can be compared."""
    settings = {name: getattr(record, name) for name in _SETTINGS}
    for name, value in settings.items():
        if isinstance(value, BaseEstimator):
            settings[name] = type(value), to_json(value)
    return {
        **settings,
        "classes": record.classes.tolist(),
        "tokens": record.tokens is not None,
        "box": record.box and (record.box.interval, record.box.reach is not None),
    }


def check_counts(name: str, counts: ArrayLike) -> NDArray[np.int64]:
    """Return counts of votes as int64; refuse anything but whole numbers of at least 0."""
    values = np.asarray(counts)
    if values.ndim != 2 or values.dtype.kind not in "iu" or (values < 0).any():
        raise ValueError(
            f"{name} must be an array of whole numbers of at least 0, of shape "
            f"(n, n_classes), got dtype {values.dtype} and shape {values.shape}."
        )
    return values.astype(np.int64)


def selection_votes(
    noise: Noise,
    classes: NDArray,
    counts: NDArray[np.int64],
    selection_counts: ArrayLike | None,
    labels: ArrayLike | None,
) -> NDArray[np.int64]:
    """Selection votes as given, or one vote per input for each given label."""
    if noise.deterministic and labels is None and selection_counts is None:
        return counts  # all views vote, and all votes choose the class
    if (selection_counts is None) == (labels is None):
        got = "neither" if labels is None else "both"
        raise ValueError(
            "from_counts takes exactly one of selection_counts and labels, the votes that "
            f"choose the class or the chosen classes, got {got}."
        )
    if selection_counts is None:
        chosen = np.asarray(labels)
        is_label = chosen[..., np.newaxis] == classes
        if chosen.shape != (len(counts),) or not is_label.any(axis=1).all():
            raise ValueError(
                f"labels must be an array of shape ({len(counts)},) with entries in "
                f"{classes.tolist()}, got {labels!r}."
            )
        return is_label.astype(np.int64)  # one vote per input
    selection = check_counts("selection_counts", selection_counts)
    # Both votes of a few inputs may agree by chance.
    are_split = counts.max(axis=1, initial=0) < counts.sum(axis=1)
    many = are_split.sum() >= _TOO_MANY and not noise.deterministic
    if many and np.array_equal(counts, selection):
        raise ValueError(
            "selection_counts must be other votes than counts, independent of them, got "
            "the same numbers. The estimation votes must not choose the class: let some "
            "votes choose the class, and give only the other votes as counts."
        )
    return selection


def _check_tokens(tokens: ArrayLike, n: int) -> NDArray[np.uint64]:
    values = np.asarray(tokens)
    check_shape("tokens", values, n)
    if values.dtype != np.uint64:
        raise ValueError(f"tokens must be an array of uint64, got dtype {values.dtype}.")
    if n >= _FEW_TOKENS and values.max() < _SMALL_TOKEN:
        raise ValueError(
            "tokens must be uniform on all of [0, 2^64), as rng.integers(2**64, "
            f"dtype=np.uint64) draws them, got numbers up to {values.max()}."
        )
    return values
