"""Results that are compared with each other: certifications, true labels and names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import config_context
from sklearn.base import clone

from rs4a.metrics.scores import CertifiedPredictions, check_certified, comparable_labels
from rs4a.noises import Noise

__all__ = ["NamedResult", "Record", "Result", "by_sigma", "check_results", "noise_name"]


class Record(CertifiedPredictions, Protocol):
    """Certified predictions that may know their noise."""

    @property
    def noise(self) -> Noise | None:
        """Smoothing noise; None in a log that was read without a noise."""

    @property
    def dim(self) -> int | None:
        """Number of coordinates of one input."""

    @property
    def box(self) -> Any:
        """Box that inputs and attacks lie in, or None."""

    def __len__(self) -> int: ...


#: A certification and the true labels of its inputs.
Result = tuple[Record, ArrayLike]

_NOT_SHAPE = {"sigma", "lambd", "seed"}


class NamedResult(NamedTuple):
    """A certification, the true labels of its inputs, and what its line is called."""

    name: str
    record: Record
    y_true: NDArray
    sigma: float


def noise_name(record: Record | Noise) -> str:
    """Name of a kind of noise: its class and shape, without its scale and seed.

    Parameters
    ----------
    record : Noise, Certification, BoundRecord or CertificationLog
        The noise, or a record that knows its noise.

    Returns
    -------
    name : str
        As tables and figures have it.

    Raises
    ------
    TypeError
        If the record does not know its noise, as a log that was read without it.

    Examples
    --------
    >>> from rs4a.metrics import noise_name
    >>> from rs4a.noises import ExpInf, Uniform
    >>> noise_name(Uniform(sigma=0.5)), noise_name(ExpInf(k=10, lambd=2.0))
    ('Uniform', 'ExpInf(k=10)')
    """
    noise = record if isinstance(record, Noise) else _known_noise(record)
    dropped = _NOT_SHAPE & set(noise.get_params())
    shape = clone(noise).set_params(**dict.fromkeys(dropped))
    box = getattr(record, "box", None)
    with config_context(print_changed_only=True):
        name = repr(shape).removesuffix("()")
    return name if box is None else f"{name} in {list(box.interval)}"


def check_results(
    results: Iterable[Result], names: Sequence[str] | None = None
) -> list[NamedResult]:
    """Return results with their names; refuse what cannot be compared.

    Parameters
    ----------
    results : iterable of tuple (certification, y_true)
        Certifications, each with the true labels of its inputs.

    names : sequence of str of length n_results, default=None
        Names of their lines. None: the kinds of their noise.

    Returns
    -------
    named : list of NamedResult
        In the same order.

    Raises
    ------
    TypeError
        If a certification does not know its noise.
    ValueError
        If there is none, the inputs are not the same, or there is not a name for each.
    """
    pairs = list(results)
    if not pairs:
        raise ValueError("results must hold at least one certification, got none.")
    if names is None:
        names = [noise_name(record) for record, _ in pairs]
    elif isinstance(names, str) or len(names) != len(pairs):
        raise ValueError(
            f"names must be a list with one for each of the {len(pairs)} results, got "
            f"{names!r}."
        )
    named = [
        NamedResult(name, record, _labels(record, y), _sigma(record))
        for name, (record, y) in zip(names, pairs, strict=True)
    ]
    _refuse_other_inputs(named)
    return named


def by_sigma(results: Iterable[NamedResult]) -> dict[float, list[NamedResult]]:
    """Results by the sigma of their noise, the smallest first."""
    groups: dict[float, list[NamedResult]] = {}
    for result in results:
        groups.setdefault(result.sigma, []).append(result)
    return dict(sorted(groups.items()))


def _known_noise(record: Record) -> Noise:
    noise: Noise | None = getattr(record, "noise", None)
    if noise is None:
        raise TypeError(
            "results must be pairs (certification, y_true) whose certification knows its "
            f"noise, got {type(record).__name__} without it. Read a log with noise= and "
            "dim=: Certification.from_tsv(path, noise=Gaussian(sigma=0.25), dim=3072)."
        )
    return noise


def _sigma(record: Record) -> float:
    """Sigma of the noise of a record; rounded, so that one given as lambd is the same."""
    noise = _known_noise(record)
    assert record.dim is not None  # a log with a noise has it
    return float(f"{noise.std(record.dim):.10g}")


def _labels(record: Record, y: ArrayLike) -> NDArray:
    check_certified(record)
    return comparable_labels("y_true", y, record.labels, len(record))


def _refuse_other_inputs(results: list[NamedResult]) -> None:
    """Refuse labels that differ: so do the inputs, and no comparison would be fair."""
    first, *others = results
    for other in others:
        if not np.array_equal(first.y_true, other.y_true):
            raise ValueError(
                "results must be of the same inputs, in the same order, to be compared: "
                f"the {len(other.y_true)} true labels of {other.name} at sigma="
                f"{other.sigma:g} are not the {len(first.y_true)} of {first.name} at "
                f"sigma={first.sigma:g}."
            )
