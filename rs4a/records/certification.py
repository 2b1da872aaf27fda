"""The record of votes and of their certificates: its text and its files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from html import escape
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from rs4a.bounds import Bound, ClopperPearson
from rs4a.noises import Noise
from rs4a.records.files import read_certification, write_certification
from rs4a.records.log import CertificationLog, log_of
from rs4a.records.reading import Reading
from rs4a.records.summary import summarize
from rs4a.records.votes import check_counts, selection_votes
from rs4a.utils.arrays import plain_labels
from rs4a.utils.checks import check_norm


@dataclass(frozen=True, eq=False, repr=False)
class Certification(Reading):
    """Votes on a batch of inputs, and the certificates that they prove.

    The record keeps the votes. Labels, probabilities, radii and abstentions are derived
    from them, so that another norm or alpha costs no sampling.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Labels of the columns of the counts.

    selection_counts : ndarray of shape (n, n_classes), int64
        Votes that chose the class of every input.

    counts : ndarray of shape (n, n_classes), int64
        Estimation votes, independent of the selection votes, that bound the probability
        of that class.

    noise : Noise
        Noise under which the votes were drawn.

    dim : int
        Number of coordinates of one input.

    bound : Bound, default=None
        Bound on the probability of the label. None: ``ClopperPearson()``.

    alpha : float, default=0.001
        Probability with which each single certificate may be wrong.

    norm : {1, 2, inf}, default=None
        Norm of the adversary, unless a method gets another norm. None: the noise's own.

    seconds : float, default=0.0
        Time that the votes took.

    adaptive : bool, default=False
        Whether the votes may have decided when their drawing stopped. Then a bound must
        hold at any time.

    tokens : ndarray of shape (n,), uint64, default=None
        One pseudorandom number per input and seed. Randomised bounds use the numbers, and
        `certify` recognises by them the inputs whose votes it continues.

    inference : Inference, default=None
        How the net was run.

    net_digest : str, default=None
        Digest of the weights and buffers of the net.

    box : tuple of two floats or rs4a.records.Box, default=None
        Smallest and largest value of a coordinate, if they bound inputs and attacks. Radii
        are then larger, and hold within the box only. A Box may hold the reach of each
        input as well. For Uniform noise and independent Splitting.

    runs : tuple of dict, default=()
        Facts about the runs that drew the votes; see `report`.

    index : pandas.Index of length n, default=None
        Names of the inputs, from the index of a DataFrame; `to_frame` states them.
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
        Upper confidence bound on the probability of every other class: the rest that
        `prob_lower` leaves, unless the bound has ``runner_up=True``.

    abstained : ndarray of shape (n,), bool
        Where `prob_lower` is at most 1/2, or, with ``runner_up=True``, at most
        `prob_runner_up`: the label has no certificate. False under deterministic noise.

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

    @property
    def _conclusions(self) -> str:
        how = f"bound={self.bound}, alpha={self.alpha}"
        return ", deterministic" if self.deterministic else f", {how}"

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, votes={int(self.n_votes.sum())})"

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.summary())}</pre>"

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
            True labels. None: the text states no accuracy, as `print` does.

        radii : array-like of shape (n_radii,), default=None
            Distances at which certified accuracy is stated, in units of X. None: five,
            from 0 to where certificates end.

        norm : {1, 2, inf}, default=None
            Norm of the adversary. None: the record's own.

        sample_weight : array-like of shape (n,), default=None
            Weights of the inputs in certified accuracy. None: all have the same weight.

        average : {"micro", "macro"}, default="micro"
            Whether certified accuracy is the mean over inputs, or over classes.

        Returns
        -------
        summary : str
            Some lines. If `y_true` holds several classes, each has a row; of more than
            20 classes, the 20 with the lowest certified accuracy have a row.

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
        estimation votes: 2000, 1000 per input
        abstained: 1 of 2
        l1 radius: median 0.412, largest 0.824
        certified accuracy, with its 95% interval over inputs:
          l1 radius 0: 50.0% (1.2% to 98.8%)
          l1 radius 0.5: 50.0% (1.2% to 98.8%)
        """
        return summarize(self, y_true, radii, norm, sample_weight, average)

    def to_tsv(
        self, path: str | os.PathLike[str], y_true: ArrayLike, norm: float | None = None
    ) -> None:
        """Write a log in the format of Cohen et al. 2019.

        Parameters
        ----------
        path : str or path-like
            File to write: tab-separated idx, label, predict (-1 for an abstention),
            radius, correct and time (seconds per input); norm, which is not part of the
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
        norm = self.norm if norm is None else check_norm(norm)
        log_of(self, y_true, norm).to_tsv(path)

    from_tsv = staticmethod(CertificationLog.from_tsv)

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
            If the noise or bound is of a user's class with the name of a class of rs4a.
        """
        write_certification(path, self)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        noise: Noise | None = None,
        bound: Bound | None = None,
    ) -> Self:
        """Read a record that :meth:`save` wrote. No code from the file is run.

        Parameters
        ----------
        path : str or path-like
            File to read.

        noise : Noise, default=None
            The noise of the record, which must be the noise that the file states. Needed
            if its class is not one of rs4a's.

        bound : Bound, default=None
            Likewise, the bound.

        Returns
        -------
        certification : Certification
            Equal to the saved one.

        Raises
        ------
        ValueError
            If the file is not a whole record, or states another noise or bound than the
            given one.
        """
        return cls(**read_certification(path, noise=noise, bound=bound))

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
            Classes that selection votes chose. Give exactly one of `selection_counts` and
            `labels`: the estimation votes must not choose the class that they certify.
            With deterministic noise, all views vote, and neither is needed.

        classes : array-like of shape (n_classes,), default=None
            Labels of the columns. None: 0, 1, ...

        bound : Bound, default=None
            Bound on the probability of the label. None: ``ClopperPearson()``.

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
            Smallest and largest value of a coordinate, if they bound inputs and attacks.
            ``recompute(box=..., X=X)`` uses the inputs as well.

        Returns
        -------
        certification : Certification
            The record.

        Raises
        ------
        ValueError
            If not exactly one of `selection_counts` and `labels` is given, the selection
            votes are the estimation votes, or an argument is not as described.

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
            adaptive = bound.anytime
            totals = np.unique(counts.sum(axis=1))
            if len(totals) > 1 and not (adaptive or noise.deterministic):
                raise ValueError(
                    f"counts have from {totals[0]} to {totals[-1]} votes per input, but "
                    f"bound={bound} needs numbers that were fixed beforehand: confirm "
                    "this by adaptive=False, or use ConfidenceSequence."
                )
        drawn: dict[str, Any] = {"adaptive": adaptive, "tokens": tokens, "box": box}
        return cls(columns, selection, counts, noise, dim, bound, alpha, norm, **drawn)
