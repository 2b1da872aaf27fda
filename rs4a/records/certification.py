"""The record of votes, and the labels, radii and abstentions derived from it."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from rs4a import bounds, noises
from rs4a.bounds import Bound, top_votes
from rs4a.inputs.arrays import as_array
from rs4a.nets.inference import Inference
from rs4a.nets.provenance import merge_runs
from rs4a.noises import Noise
from rs4a.noises.streams import stream_keys
from rs4a.records.box import Box, as_box, coordinate_reach, widened
from rs4a.records.files import read_record, write_record
from rs4a.records.log import CertificationLog, make_log
from rs4a.records.summary import summarize
from rs4a.utils.arrays import check_rows, plain_labels, read_only
from rs4a.utils.checks import NORMS, check_dim, check_norm, format_norm
from rs4a.utils.params import check_own_name, from_json, known_classes, to_json

__all__ = ["Certification"]

_ARRAYS = ("classes", "selection_counts", "counts")
_OPTIONAL_ARRAYS = ("tokens", "reach")
#: So many tokens are not all below this one, but once in 2^64 cases.
_FEW_TOKENS, _SMALL_TOKEN = 4, 2**48
#: Inputs whose votes are split, and the same for selection and estimation, but by chance.
_TOO_MANY = 10
_KNOWN = {"noise": known_classes(noises), "bound": known_classes(bounds)}


@dataclass(frozen=True, eq=False, repr=False)
class Certification:
    """Votes on a batch of inputs, and what they prove.

    The record keeps the votes; labels, probabilities, radii and abstentions are derived
    from them, so that another norm or alpha costs no sampling.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Labels of the columns of the counts.

    selection_counts : ndarray of shape (n, n_classes), int64
        Votes that chose the class of every input.

    counts : ndarray of shape (n, n_classes), int64
        Estimation votes, independent of the selection votes, that bound its
        probability.

    noise : Noise
        Noise under which the votes were drawn.

    dim : int
        Number of coordinates of one input.

    bound : Bound, default=None
        How votes become a probability. None: ``ClopperPearson()``.

    alpha : float, default=0.001
        Probability with which each single certificate may be wrong.

    norm : {1, 2, inf}, default=None
        Norm of the adversary where a method is given none. None: the noise's own.

    seconds : float, default=0.0
        Time that the votes took.

    adaptive : bool, default=False
        Whether it may have depended on the votes how many there are. Then only bounds
        that hold at any time draw conclusions from them.

    tokens : ndarray of shape (n,), uint64, default=None
        A number for every input and seed, as good as random. Randomised bounds take it,
        and `certify` knows by it whose votes it goes on with.

    inference : Inference, default=None
        How the net was run.

    net_digest : str, default=None
        Digest of what the net had learned.

    box : tuple of two floats or rs4a.records.box.Box, default=None
        Smallest and largest value of a coordinate, if attacks must respect them too. Radii
        are then larger, and hold within the box only, for inputs that lie in it. A Box may
        know more of the inputs. For Uniform noise and independent Splitting.

    runs : tuple of dict, default=()
        What is known about the runs that drew the votes; see `report`.

    index : pandas.Index of length n, default=None
        Names of the inputs, as the index of a DataFrame has them; `to_frame` states them.
        Whole numbers and strings survive `save`.

    Attributes
    ----------
    labels : ndarray of shape (n,)
        Entries of `classes`, also where the classifier abstained.

    n_votes : ndarray of shape (n,), int64
        Number of estimation votes.

    prob_lower : ndarray of shape (n,), float64
        Lower confidence bound on the probability, under the noise, of the label.

    prob_runner_up : ndarray of shape (n,), float64
        Upper confidence bound on the probability of every other class: what `prob_lower`
        leaves, unless the bound has ``runner_up=True``.

    abstained : ndarray of shape (n,), bool
        Where `prob_lower` is at most 1/2, or, with ``runner_up=True``, at most
        `prob_runner_up`: the label has no certificate. Nowhere, if `deterministic`.

    deterministic : bool
        Whether all views of deterministic noise voted. Then nothing is estimated: `bound`
        is None, `alpha` 0, and `prob_lower` the share of the votes itself.

    Raises
    ------
    ValueError
        If the counts are negative or do not fit each other and the classes, the bound
        does not fit the noise or the way in which the votes were drawn, or another
        argument is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from rs4a import Certification
    >>> from rs4a.noises import Uniform
    >>> votes = np.array([[990, 10], [520, 480]])
    >>> certification = Certification(
    ...     np.array(["cat", "dog"]), votes // 10, votes, Uniform(lambd=1.0), dim=784
    ... )
    >>> certification.labels
    array(['cat', 'cat'], dtype='<U3')
    >>> certification.abstained
    array([False,  True])
    >>> certification.radius(norm=1).round(3)
    array([0.952, 0.   ])
    """

    classes: NDArray
    selection_counts: NDArray[np.int64]
    counts: NDArray[np.int64]
    noise: Noise
    dim: int
    bound: Bound | None = None
    alpha: float = 0.001
    norm: float | None = None
    seconds: float = 0.0
    adaptive: bool = False
    tokens: NDArray[np.uint64] | None = None
    inference: Inference | None = None
    net_digest: str | None = None
    box: Any = None
    runs: tuple[dict[str, Any], ...] = ()
    index: pd.Index | None = None

    def __post_init__(self) -> None:
        store = object.__setattr__  # the fields are frozen for everybody else
        store(self, "classes", read_only(plain_labels("classes", self.classes)))
        for name in ("selection_counts", "counts"):
            store(self, name, read_only(_check_counts(name, getattr(self, name))))
        if self.counts.shape != self.selection_counts.shape:
            raise ValueError(
                "counts and selection_counts must have one shape, (n, n_classes), got "
                f"{self.counts.shape} and {self.selection_counts.shape}."
            )
        if self.counts.shape[1] != len(self.classes):
            raise ValueError(
                f"counts must have a column for each of the {len(self.classes)} classes, "
                f"got shape {self.counts.shape}."
            )
        if len(np.unique(self.classes)) < len(self.classes):
            raise ValueError(f"classes must differ, got {self.classes.tolist()}.")
        store(self, "dim", check_dim(self.dim))
        self.noise.scale(self.dim)  # refuses a noise without a scale
        store(self, "noise", clone(self.noise))
        if self.deterministic:
            store(self, "alpha", 0.0)
            store(self, "bound", None)
            self._check_all_voted()
        else:
            self._check_alpha()
            store(self, "bound", clone(self.bound or bounds.ClopperPearson()))
        norm = self.noise.norms[0] if self.norm is None else self.norm
        store(self, "norm", check_norm(norm))
        if self.inference is not None:
            self.inference._validate_params()
            store(self, "inference", clone(self.inference))
        if self.tokens is not None:
            store(self, "tokens", read_only(_check_tokens(self.tokens, len(self))))
        self._check_bound()
        store(self, "box", as_box(self.box))
        self._check_box()
        if self.index is not None and len(self.index) != len(self):
            raise ValueError(
                f"index must have {len(self)} entries, one per input, got "
                f"{len(self.index)}."
            )

    def _check_alpha(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(
                f"alpha must be a float in the range (0, 1), got {self.alpha!r}."
            )
        object.__setattr__(self, "alpha", float(self.alpha))

    def _check_all_voted(self) -> None:
        """Refuse votes on some of the views only."""
        n_views = self.noise.n_views(self.dim)
        if (self.n_votes != n_views).any():
            raise ValueError(
                f"counts must be the votes on all {n_views} views of {self.noise}, got "
                f"from {self.n_votes.min()} to {self.n_votes.max()} votes an input."
            )
        if (self.counts != self.selection_counts).any():
            raise ValueError(
                f"selection_counts must be the counts themselves under {self.noise}: all "
                "votes choose the class. Give from_counts neither them nor labels."
            )

    def _check_box(self) -> None:
        """Refuse a box that no radius makes use of, or that knows of other inputs."""
        if self.box is None:
            return
        self.noise.check_box_radius()
        reach = self.box.reach
        if reach is not None and reach.shape[:-1] != (len(self),):
            raise ValueError(
                f"reach of the box must have shape ({len(self)}, k), a row an input, got "
                f"{reach.shape}."
            )

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

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies are built anew, so that their arrays are read-only too.
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, rows: Any) -> "Certification":
        """Record of some of the inputs: a slice, a mask, positions, or a single one.

        The time is shared by votes; `runs` are those of the whole record.
        """
        at = check_rows(rows, len(self))
        counts, selection = self.counts[at], self.selection_counts[at]
        n_votes = int(self.counts.sum() + self.selection_counts.sum())
        share = int(counts.sum() + selection.sum()) / max(n_votes, 1)
        return replace(
            self,
            counts=counts,
            selection_counts=selection,
            tokens=None if self.tokens is None else self.tokens[at],
            box=self.box and self.box.of(at),
            seconds=self.seconds * share,
            index=None if self.index is None else self.index[at],
        )

    def __repr__(self) -> str:
        how = (
            "deterministic"
            if self.deterministic
            else f"bound={self.bound}, alpha={self.alpha}"
        )
        box = "" if self.box is None else f", box={self.box}"
        return (
            f"Certification(n={len(self)}, noise={self.noise}, {how}, "
            f"norm={format_norm(self._norm)}{box}, "
            f"abstained={int(self.abstained.sum())}, votes={int(self.n_votes.sum())})"
        )

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.summary())}</pre>"

    @property
    def deterministic(self) -> bool:
        """Whether all views of deterministic noise voted, and nothing is estimated."""
        return self.noise.deterministic

    @property
    def _norm(self) -> float:
        assert self.norm is not None
        return self.norm

    @property
    def _bound(self) -> Bound:
        assert self.bound is not None
        return self.bound

    @property
    def report(self) -> dict[str, Any]:
        """Votes, seconds, seed, device and versions of the runs that drew the votes.

        Returns
        -------
        report : dict
            As JSON can hold it; empty for votes that were counted elsewhere. `votes` are
            those of the known runs, `votes_in_record` all. `warned` lists what makes the
            net no function of one input, if `certify` noticed anything.
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

    @cached_property
    def _top_two(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        votes = top_votes(self.counts, self._columns)
        if self.deterministic:
            shares = votes.top / votes.total, votes.runner_up / votes.total
            return read_only(shares[0]), read_only(shares[1])
        uniforms = None if self.tokens is None else _to_uniforms(self.tokens)
        lower, others = self._bound.top_two(
            votes,
            n_others=len(self.classes) - 1,
            alpha=self.alpha,
            uniforms=uniforms,
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
        if self.deterministic:
            return np.zeros(len(self), dtype=bool)
        if self._bound.runner_up:
            return self.prob_lower <= self.prob_runner_up
        return self.prob_lower <= 0.5

    def radius(self, norm: float | None = None) -> NDArray[np.float64]:
        """Certified radius of every input.

        Parameters
        ----------
        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: the record's own.

        Returns
        -------
        radius : ndarray of shape (n,), float64
            In units of X, never above the true radius; 0 where the classifier
            abstained. With a `box` it holds for attacks that stay in it.

        Raises
        ------
        UnsupportedNormError
            If `norm` is none of 1, 2 and inf.
        """
        norm = check_norm(self._norm if norm is None else norm)
        if self.deterministic:
            return self.noise.exact_radius(self.counts, self._columns, norm, self.dim)
        others = self.prob_runner_up if self._bound.runner_up else None
        reach = None if self.box is None else self.box.lengths
        return self.noise.radius(
            self.prob_lower, norm=norm, dim=self.dim, prob_runner_up=others, reach=reach
        )

    def recompute(
        self,
        *,
        alpha: float | None = None,
        norm: float | None = None,
        bound: Bound | None = None,
        box: tuple[float, float] | None = None,
        X: Any = None,
    ) -> "Certification":
        """Draw other conclusions from the same votes.

        Each record is valid at its own `alpha`. To choose among several after seeing
        them, the best bound say, voids the stated failure probability.

        Parameters
        ----------
        alpha : float, default=None
            Failure probability of each certificate. None: as it was.

        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: as it was.

        bound : Bound, default=None
            How votes become a probability; how many it would ask for does not matter.
            None: as it was.

        box : tuple of two floats, default=None
            Smallest and largest value of a coordinate that attacks must respect, and that
            the inputs did. None: as it was; without one: ``dataclasses.replace(record,
            box=None)``.

        X : array-like of shape (n, ...), default=None
            The inputs, which make radii in a new box larger. None: they are not used.

        Returns
        -------
        certification : Certification
            A new record; this one stays as it is. A deterministic one needs no `alpha` and
            no `bound`, and ignores them.

        Raises
        ------
        ValueError
            If `alpha` is outside (0, 1), the votes decided when their drawing stopped
            and `bound` does not allow for that, the noise has no radius in a box, or the
            inputs were not in it or are not those in `X`, as far as the record knows them.
        """
        return replace(
            self,
            alpha=self.alpha if alpha is None else alpha,
            norm=self.norm if norm is None else norm,
            bound=self.bound if bound is None else bound,
            box=self._box_for(box, X),
        )

    def _box_for(self, box: tuple[float, float] | None, X: Any) -> Box | None:
        """The box of a new record, with what the inputs tell if they are given."""
        wanted = as_box(self.box if box is None else box)
        if X is None:
            known = wanted and self.box and wanted.interval == self.box.interval
            if box is not None and wanted is not None and not known:
                self._check_range(wanted)
            return self.box if known else wanted
        if wanted is None:
            raise ValueError("X needs a box, got box=None.")
        inputs = np.asarray(as_array(X), dtype=np.float32)
        if inputs.reshape(len(inputs), -1).shape != (len(self), self.dim):
            raise ValueError(
                f"X must hold the {len(self)} inputs of the record, of {self.dim} "
                f"coordinates, got shape {inputs.shape}."
            )
        self._check_same_inputs(inputs)
        lambd = self.noise.scale(self.dim)
        return replace(wanted, reach=coordinate_reach(inputs, wanted.interval, lambd))

    def _check_range(self, box: Box) -> None:
        """Refuse a box that the inputs were not in, as far as the record knows them."""
        low, high = widened(box.interval)
        for run in self.runs:
            known = run.get("input_range")
            if known and not (low <= known[0] and known[1] <= high):
                raise ValueError(
                    f"box must hold the inputs, which were from {known[0]:.9g} to "
                    f"{known[1]:.9g}, got {box.interval}."
                )

    def _check_same_inputs(self, inputs: NDArray[np.float32]) -> None:
        """Refuse others than those that were certified, as far as the record knows them."""
        seeds = {run["seed"] for run in self.runs}
        if self.tokens is None or not seeds:
            return
        # Of joined records it is not known which inputs have which seed.
        others = np.all(
            [stream_keys(inputs, seed)[:, 2] != self.tokens for seed in sorted(seeds)],
            axis=0,
        )
        if others.any():
            raise ValueError(
                "X must hold the inputs of the record in its order, got others, number "
                f"{int(others.argmax())} to begin with."
            )

    def summary(
        self,
        y_true: ArrayLike | None = None,
        *,
        radii: ArrayLike | None = None,
        norm: float | None = None,
        sample_weight: ArrayLike | None = None,
        average: str = "micro",
    ) -> str:
        """Noise, guarantee, votes, abstentions and radii; with labels, certified accuracy.

        Parameters
        ----------
        y_true : array-like of shape (n,), default=None
            True labels. None: nothing is said about accuracy, as `print` has it.

        radii : array-like of shape (n_radii,), default=None
            Distances at which certified accuracy is stated, in units of X. None: five,
            from 0 to where certificates end.

        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: the record's own.

        sample_weight : array-like of shape (n,), default=None
            Weights of the inputs in certified accuracy. None: all weigh the same.

        average : {"micro", "macro"}, default="micro"
            Whether certified accuracy is the mean over inputs, or over classes.

        Returns
        -------
        summary : str
            Some lines. If `y_true` holds several classes, each has a row; of more than
            20 classes, those 20 with the lowest certified accuracy have a row.

        Raises
        ------
        ValueError
            If the length of `y_true` differs, a radius is negative or NaN, radii or
            weights are given without labels, or `sample_weight` or `average` is not as
            described.

        Warns
        -----
        CertificationWarning
            If all inputs get one label, and `y_true` holds several.

        Examples
        --------
        >>> from rs4a import Certification
        >>> from rs4a.noises import Uniform
        >>> certification = Certification.from_counts(
        ...     [[990, 10], [520, 480]], labels=[0, 0], noise=Uniform(sigma=0.5), dim=784
        ... )
        >>> print(certification.summary([0, 0], radii=[0.0, 0.5]))
        2 inputs under Uniform(sigma=0.5)
        No change of an input by less than its certified radius, in l1 norm, alters the
        answer of the smoothed classifier, with probability at least 0.999 over the noise,
        for each input separately.
        estimation votes: 2000, 1000 an input
        abstained: 1 of 2
        l1 radius: median 0.412, largest 0.824
        certified accuracy, with its 95% interval over inputs:
          l1 radius 0: 50.0% (1.2% to 98.8%)
          l1 radius 0.5: 50.0% (1.2% to 98.8%)
        """
        return summarize(
            self,
            y_true,
            radii=radii,
            norm=norm,
            sample_weight=sample_weight,
            average=average,
        )

    def to_frame(self) -> pd.DataFrame:
        """Table with a row for every input.

        Returns
        -------
        frame : pandas.DataFrame of shape (n, 7)
            Columns label, abstained, prob_lower, n_votes, radius_l1, radius_l2 and
            radius_linf; the index is that of the DataFrame that was certified.
        """
        columns: dict[str, Any] = {
            "label": self.labels,
            "abstained": self.abstained,
            "prob_lower": self.prob_lower,
            "n_votes": self.n_votes,
        }
        for norm in NORMS:
            columns[f"radius_{format_norm(norm)}"] = self.radius(norm)
        return pd.DataFrame(columns, index=self.index)

    def to_tsv(
        self, path: str | os.PathLike[str], y_true: ArrayLike, norm: float | None = None
    ) -> None:
        """Write a log in the format of Cohen et al. 2019.

        Parameters
        ----------
        path : str or path-like
            File to write: tab-separated idx, label, predict (-1 for an abstention),
            radius, correct and time (seconds an input); norm, which is not part of the
            format, and box if there is one.

        y_true : array-like of shape (n,)
            True labels.

        norm : {1, 2, inf}, default=None
            Norm of the radii. None: the record's own.

        Raises
        ------
        ValueError
            If `y_true` has another length or -1 is a label.
        """
        norm = self._norm if norm is None else check_norm(norm)
        radii, abstained = self.radius(norm), self.abstained
        log = make_log(y_true, self.labels, radii, abstained, self.seconds, norm, self.box)
        log.to_tsv(path)

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
    ) -> "Certification":
        """Certificates from votes that were counted elsewhere.

        Parameters
        ----------
        counts : array-like of shape (n, n_classes), int
            Estimation votes.

        noise : Noise
            Noise under which they were drawn.

        dim : int
            Number of coordinates of one input.

        selection_counts : array-like of shape (n, n_classes), int, default=None
            Votes, independent of the estimation votes, that choose the class.

        labels : array-like of shape (n,), default=None
            The classes that such votes chose. Exactly one of `selection_counts` and
            `labels` must be given: a class that is read off the estimation votes has no
            certificate. Neither, for the votes on all views of deterministic noise.

        classes : array-like of shape (n_classes,), default=None
            Labels of the columns. None: 0, 1, ...

        bound : Bound, default=None
            How votes become a probability. None: ``ClopperPearson()``.

        alpha : float, default=0.001
            Failure probability of each certificate.

        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: the noise's own.

        adaptive : bool, default=None
            Whether it may have depended on the votes how many there are. None: where
            the bound allows for it.

        tokens : ndarray of shape (n,), uint64, default=None
            Random numbers for randomised bounds, drawn independently of the votes and
            uniform on all of [0, 2^64).

        box : tuple of two floats, default=None
            Smallest and largest value of a coordinate, if attacks must respect them, as the
            inputs did. ``recompute(box=..., X=X)`` makes use of the inputs as well.

        Returns
        -------
        certification : Certification
            The record.

        Raises
        ------
        ValueError
            If not exactly one of `selection_counts` and `labels` is given, they are the
            estimation votes again, or an argument is not as described.

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
        counts = _check_counts("counts", counts)
        columns = (
            np.arange(counts.shape[1])
            if classes is None
            else plain_labels("classes", classes)
        )
        if noise.deterministic and labels is None and selection_counts is None:
            selection_counts = counts  # all votes that there are, on which labels rest too
        if (selection_counts is None) == (labels is None):
            got = "neither" if labels is None else "both"
            raise ValueError(
                "from_counts takes exactly one of selection_counts and labels, the votes "
                f"that chose the class or the classes that they chose, got {got}."
            )
        if selection_counts is None:
            selection_counts = _one_vote_each(labels, columns, len(counts))
        elif not noise.deterministic:
            _refuse_same_votes(counts, selection_counts)
        bound = bound or bounds.ClopperPearson()
        totals = np.unique(counts.sum(axis=1))
        needs_one_total = not (bound.anytime or noise.deterministic)
        if adaptive is None and needs_one_total and len(totals) > 1:
            raise ValueError(
                f"counts have from {totals[0]} to {totals[-1]} votes an input, but "
                f"bound={bound} needs numbers that were fixed beforehand: confirm it by "
                "adaptive=False, or use ConfidenceSequence."
            )
        return cls(
            classes=columns,
            selection_counts=_check_counts("selection_counts", selection_counts),
            counts=counts,
            noise=noise,
            dim=dim,
            bound=bound,
            alpha=alpha,
            norm=norm,
            adaptive=bound.anytime if adaptive is None else adaptive,
            tokens=None if tokens is None else np.asarray(tokens),
            box=box,
        )

    @classmethod
    def concatenate(cls, records: Sequence["Certification"]) -> "Certification":
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
            If there is none, or they differ in more than inputs, votes and time.

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
        shared = [record._shared() for record in records]
        differs = sorted(k for k in shared[0] if any(s[k] != shared[0][k] for s in shared))
        if differs:
            raise ValueError(
                "records must be of one classifier and one set of parameters, got some "
                f"that differ in {', '.join(differs)}."
            )
        first = records[0]
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(record, name) for record in records])
            for name in ("selection_counts", "counts", "tokens")
            if getattr(first, name) is not None
        }
        box = first.box
        if box is not None and box.reach is not None:
            box = replace(box, reach=np.concatenate([each.box.reach for each in records]))
        return replace(
            first,
            **joined,
            box=box,
            runs=_different(run for record in records for run in record.runs),
            index=_joined_index([record.index for record in records]),
            seconds=sum(record.seconds for record in records),
        )

    def _shared(self) -> dict[str, Any]:
        """What records of one classifier under the same parameters have in common."""
        return {
            "classes": self.classes.tolist(),
            "tokens": self.tokens is not None,
            "box": self.box and (self.box.interval, self.box.reach is not None),
            **{
                name: each and (type(each), to_json(each))
                for name in ("noise", "bound", "inference")
                for each in [getattr(self, name)]
            },
            **{
                name: getattr(self, name)
                for name in ("dim", "alpha", "norm", "adaptive", "net_digest")
            },
        }

    @staticmethod
    def from_tsv(
        path: str | os.PathLike[str],
        *,
        norm: float | None = None,
        dim: int | None = None,
        noise: Noise | None = None,
    ) -> CertificationLog:
        """Read a log; see :meth:`rs4a.records.log.CertificationLog.from_tsv`.

        Parameters
        ----------
        path : str or path-like
            File in the format that :meth:`to_tsv` writes.

        norm : {1, 2, inf}, default=None
            Norm of its radii. None: the one that the file states or, where it states none,
            the noise's own; without a noise 2, as in Cohen et al.'s logs.

        dim : int, default=None
            Number of coordinates of one input, for conversion to larger norms.

        noise : Noise, default=None
            Noise of the votes, for tables and figures that compare noises.

        Returns
        -------
        log : CertificationLog
            What a log knows: labels, radii and abstentions, but no votes.
        """
        return CertificationLog.from_tsv(path, norm=norm, dim=dim, noise=noise)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the record: an npz archive of arrays and JSON, without pickle.

        The file appears whole or not at all.

        Parameters
        ----------
        path : str or path-like
            File to write, under exactly this name.

        Raises
        ------
        ValueError
            If the noise or bound is of a class that has the name of one of rs4a's.
        """
        parts = ("noise", self.noise), ("bound", self.bound), ("inference", self.inference)
        for name, part in parts:
            check_own_name(name, part, _KNOWN.get(name, {}))
        stated = {name: None if part is None else to_json(part) for name, part in parts}
        arrays = {name: getattr(self, name) for name in (*_ARRAYS, "tokens")}
        arrays["reach"] = None if self.box is None else self.box.reach
        write_record(
            path,
            {name: array for name, array in arrays.items() if array is not None},
            {
                **stated,
                "net_digest": self.net_digest,
                "adaptive": bool(self.adaptive),
                "dim": self.dim,
                "alpha": float(self.alpha),
                "norm": str(self._norm),
                "box": self.box and self.box.interval,
                "seconds": float(self.seconds),
                "runs": list(self.runs),
                "index": _plain_index(self.index),
            },
        )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        noise: Noise | None = None,
        bound: Bound | None = None,
    ) -> "Certification":
        """Read a record that :meth:`save` wrote. No code from the file is run.

        Parameters
        ----------
        path : str or path-like
            File to read.

        noise : Noise, default=None
            The noise of the record, needed where its class is not one of rs4a's. It must
            be the one that the file states.

        bound : Bound, default=None
            Likewise, the bound.

        Returns
        -------
        certification : Certification
            Equal to the saved one.

        Raises
        ------
        ValueError
            If the file is not a whole record, or states another noise or bound than is
            given.
        """
        arrays, metadata = read_record(path, _ARRAYS, _OPTIONAL_ARRAYS)
        inference = metadata.get("inference")  # which format 1 did not have
        reach, box = arrays.pop("reach", None), as_box(metadata.get("box"))
        return cls(
            **arrays,
            noise=_stated("noise", metadata["noise"], noise),
            bound=metadata["bound"] and _stated("bound", metadata["bound"], bound),
            dim=metadata["dim"],
            alpha=metadata["alpha"],
            norm=float(metadata["norm"]),
            seconds=metadata["seconds"],
            adaptive=metadata.get("adaptive", False),
            inference=inference and from_json(inference, {"Inference": Inference}),
            net_digest=metadata.get("net_digest"),
            box=box and replace(box, reach=reach),
            runs=tuple(metadata.get("runs", ())),
            index=_read_index(metadata.get("index")),
        )


def _different(runs: Iterable[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Each run once: parts of one record have the same."""
    different: list[dict[str, Any]] = []
    for run in runs:
        if run not in different:
            different.append(run)
    return tuple(different)


def _joined_index(parts: list[pd.Index | None]) -> pd.Index | None:
    """The index of all inputs, if it is known of all."""
    known = [part for part in parts if part is not None]
    return known[0].append(known[1:]) if len(known) == len(parts) else None


def _plain_index(index: pd.Index | None) -> dict[str, Any] | None:
    """An index of whole numbers or strings as JSON can hold it; None for any other."""
    if index is None or isinstance(index, pd.MultiIndex):
        return None
    values = index.tolist()
    kinds = {type(value) for value in values}
    if (kinds - {int} and kinds - {str}) or not isinstance(index.name, str | None):
        return None
    return {"values": values, "name": index.name}


def _read_index(stated: dict[str, Any] | None) -> pd.Index | None:
    return None if stated is None else pd.Index(stated["values"], name=stated["name"])


def _stated(name: str, stated: dict[str, Any], given: Any) -> Any:
    """What a file states, or the same as an object that was given: of a user's class."""
    known = _KNOWN[name]
    if given is None:
        return from_json(stated, known)
    if stated["class"] in known:  # with the parameters that an older file did not have
        stated = to_json(from_json(stated, known))
    if to_json(given) != stated:
        params = ", ".join(f"{key}={value!r}" for key, value in stated["params"].items())
        raise ValueError(
            f"{name} must be what the record states, {stated['class']}({params}), got "
            f"{given}."
        )
    return given


def _check_tokens(tokens: ArrayLike, n: int) -> NDArray[np.uint64]:
    values = np.asarray(tokens)
    if values.shape != (n,) or values.dtype != np.uint64:
        raise ValueError(
            f"tokens must be an array of uint64, of shape ({n},), got dtype "
            f"{values.dtype} and shape {values.shape}."
        )
    if n >= _FEW_TOKENS and values.max() < _SMALL_TOKEN:
        raise ValueError(
            "tokens must be uniform on all of [0, 2^64), as rng.integers(2**64, "
            f"dtype=np.uint64) draws them, got numbers up to {values.max()}."
        )
    return values


def _to_uniforms(tokens: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Numbers in (0, 1), from the first 53 bits."""
    return ((tokens >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _one_vote_each(labels: ArrayLike | None, classes: NDArray, n: int) -> NDArray[np.int64]:
    """Selection votes that choose the labels."""
    chosen = np.asarray(labels)
    is_label = chosen[..., np.newaxis] == classes
    if chosen.shape != (n,) or not is_label.any(axis=1).all():
        raise ValueError(
            f"labels must be an array of shape ({n},) with entries in "
            f"{classes.tolist()}, got {labels!r}."
        )
    return is_label.astype(np.int64)


def _refuse_same_votes(counts: NDArray[np.int64], selection_counts: ArrayLike) -> None:
    """Refuse votes that were given twice; a few inputs' may be alike by chance."""
    are_split = counts.max(axis=1, initial=0) < counts.sum(axis=1)
    if are_split.sum() >= _TOO_MANY and np.array_equal(counts, selection_counts):
        raise ValueError(
            "selection_counts must be other votes than counts, independent of them, got "
            "the same numbers. A class that is read off the estimation votes has no "
            "certificate: let some votes choose it, and give the others as counts."
        )


def _check_counts(name: str, counts: ArrayLike) -> NDArray[np.int64]:
    values = np.asarray(counts)
    if values.ndim != 2 or values.dtype.kind not in "iu" or (values < 0).any():
        raise ValueError(
            f"{name} must be an array of whole numbers of at least 0, of shape "
            f"(n, n_classes), got dtype {values.dtype} and shape {values.shape}."
        )
    return values.astype(np.int64)
