"""Integers drawn from laws that are known to the last one of 64 bits.

A uniform 64-bit word is drawn, and the integer is the number of thresholds that it has
reached. All arithmetic is on integers, so that the law of what is drawn is known exactly.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import mpmath
import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["IntegerLaw", "gaussian_law", "gaussian_support", "in_parts", "uniform_law"]

#: The first bits of a word, its bucket, decide in most cases.
_BUCKET_BITS, _OTHER_BITS = 16, 48
_HALF, _OTHERS = 2 ** (_BUCKET_BITS - 1), 2**_OTHER_BITS - 1
_UNDECIDED = math.inf
#: Numbers that a CPU works on at once: few calls, and nearly what its cache holds.
_PART_NUMBERS = 2**19
#: Standard deviations beyond which there is less than 2^-65 on either side.
_FARTHEST = 9.2
_DIGITS = 40


@dataclass(frozen=True, eq=False)
class IntegerLaw:
    """Law of `first` plus the number of thresholds that a uniform 64-bit word reaches.

    Parameters
    ----------
    first : int
        Smallest integer.

    thresholds : torch.Tensor of shape (k,), int64
        In ascending order. The words are counted from -2^63 to 2^63 - 1.

    by_bucket : torch.Tensor of shape (2^16,), float32
        The integer of all words with the same first 16 bits, infinite where they differ.

    lowest : torch.Tensor of shape (2^16,), float32
        The integer of the smallest of these words.

    next_rest : torch.Tensor of shape (2^16,), int64
        The other 48 bits of the next threshold, if it lies among these words.

    crowded : torch.Tensor of shape (2^16,), bool
        Whether more than one threshold does.
    """

    first: int
    thresholds: torch.Tensor
    by_bucket: torch.Tensor
    lowest: torch.Tensor
    next_rest: torch.Tensor
    crowded: torch.Tensor

    @classmethod
    def from_thresholds(
        cls, first: int, thresholds: NDArray[np.int64], device: torch.device
    ) -> "IntegerLaw":
        """The law, on a device.

        Parameters
        ----------
        first : int
            Smallest integer.

        thresholds : ndarray of shape (k,), int64
            In ascending order.

        device : torch.device
            Where it is drawn from.

        Returns
        -------
        law : IntegerLaw
            With its table.
        """
        first_words = np.arange(-_HALF, _HALF, dtype=np.int64) << _OTHER_BITS
        reached, at_last = (
            np.searchsorted(thresholds, words, side="right")
            for words in (first_words, first_words + _OTHERS)
        )
        lowest = (first + reached).astype(np.float32)
        arrays = (
            thresholds,
            np.where(reached == at_last, lowest, np.float32(_UNDECIDED)),
            lowest,
            np.append(thresholds, 0)[reached] & _OTHERS,
            at_last - reached > 1,
        )
        return cls(first, *(torch.from_numpy(array).to(device) for array in arrays))

    def fill(self, out: torch.Tensor, generator: torch.Generator | None) -> None:
        """Overwrite with draws.

        Parameters
        ----------
        out : torch.Tensor
            Contiguous, in float32, on the device of the law.

        generator : torch.Generator or None
            Source of all randomness.
        """
        flat, start, undecided = out.view(-1), 0, []
        for part in in_parts(out):
            buckets = self._buckets(len(part), generator)
            torch.index_select(self.by_bucket, 0, buckets, out=part)
            places = _where_undecided(part)
            undecided.append((places + start, buckets.index_select(0, places)))
            start += len(part)
        places, buckets = (torch.cat(each) for each in zip(*undecided, strict=True))
        if len(places):
            flat.index_copy_(0, places, self._decide(buckets, generator))

    def _buckets(self, size: int, generator: torch.Generator | None) -> torch.Tensor:
        """The first 16 bits of words: four from each number of 64 bits."""
        words = self._words(-(-size // 4), generator)
        return words.view(torch.int16)[:size].to(torch.int32).add_(_HALF)

    def _decide(
        self, buckets: torch.Tensor, generator: torch.Generator | None
    ) -> torch.Tensor:
        """Integers of words in these buckets, whose other 48 bits are drawn now."""
        others = self._words(len(buckets), generator) & _OTHERS
        integers = self.lowest.index_select(0, buckets)
        integers += others >= self.next_rest.index_select(0, buckets)
        crowded = self.crowded.index_select(0, buckets).nonzero()[:, 0]
        integers[crowded] = self._search(buckets[crowded], others[crowded])
        return integers

    def _search(self, buckets: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        words = ((buckets.to(torch.int64) - _HALF) << _OTHER_BITS) + others
        reached = torch.searchsorted(self.thresholds, words, right=True)
        return (reached + self.first).to(torch.float32)

    def _words(self, size: int, generator: torch.Generator | None) -> torch.Tensor:
        words = torch.empty(size, dtype=torch.int64, device=self.thresholds.device)
        return words.random_(-(2**63), None, generator=generator)


def in_parts(numbers: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Views of what a CPU works on at once; a GPU gets all.

    Parameters
    ----------
    numbers : torch.Tensor
        Contiguous.

    Returns
    -------
    parts : tuple of torch.Tensor
        One-dimensional.
    """
    flat = numbers.view(-1)
    return flat.split(_PART_NUMBERS) if flat.device.type == "cpu" else (flat,)


def _where_undecided(part: torch.Tensor) -> torch.Tensor:
    if part.device.type == "cpu":  # numpy is several times as fast as torch here
        return torch.from_numpy(np.flatnonzero(part.numpy() == _UNDECIDED))
    return (part == _UNDECIDED).nonzero()[:, 0]


def gaussian_support(sigma: float, levels: int) -> int:
    """Largest integer of `gaussian_law`.

    Parameters
    ----------
    sigma : float
        Standard deviation.

    levels : int
        Steps in 1.

    Returns
    -------
    reach : int
        The mass beyond it is less than 2^-64, both sides together.
    """
    return math.ceil(_FARTHEST * sigma * levels)


@lru_cache(maxsize=64)
def gaussian_law(sigma: float, levels: int, device: torch.device) -> IntegerLaw:
    """Law of a Gaussian number, rounded to the nearest multiple of 1 / levels.

    Parameters
    ----------
    sigma : float
        Standard deviation.

    levels : int
        Steps in 1.

    device : torch.device
        Where it is drawn from.

    Returns
    -------
    law : IntegerLaw
        In steps, from -reach to reach; on its edges lies what is beyond.
    """
    reach = gaussian_support(sigma, levels)
    thresholds = _gaussian_thresholds(sigma, levels)
    return IntegerLaw.from_thresholds(-reach, thresholds, device)


@lru_cache(maxsize=64)
def _gaussian_thresholds(sigma: float, levels: int) -> NDArray[np.int64]:
    """2^64 P(integer <= i) from i = -reach on, rounded down, less 2^63."""
    reach = gaussian_support(sigma, levels)
    with mpmath.workdps(_DIGITS):
        unit = mpmath.sqrt(2) * mpmath.mpf(sigma) * levels
        tails = [
            int(mpmath.floor(mpmath.ldexp(mpmath.erfc((k + 0.5) / unit), 63)))
            for k in range(reach)
        ]
    below_zero = np.array([tail - 2**63 for tail in reversed(tails)], dtype=np.int64)
    # 2^64 (1 - tail) rounded down is the complement of 2^64 tail rounded down.
    return np.concatenate([below_zero, ~below_zero[::-1]])


@lru_cache(maxsize=64)
def uniform_law(reach: int, device: torch.device) -> IntegerLaw:
    """Law that is uniform on the integers from -reach to reach.

    Parameters
    ----------
    reach : int
        Largest integer, at least 0.

    device : torch.device
        Where it is drawn from.

    Returns
    -------
    law : IntegerLaw
        Of 2 reach + 1 integers.
    """
    n_values = 2 * reach + 1
    thresholds = [(i << 64) // n_values - 2**63 for i in range(1, n_values)]
    return IntegerLaw.from_thresholds(-reach, np.array(thresholds, dtype=np.int64), device)
