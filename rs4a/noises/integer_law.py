"""Integers drawn from laws that are known to the last of 64 bits.

A draw is a uniform 64-bit word, and the integer is the number of thresholds that the word
reaches. All arithmetic is on integers, so that the law of the draws is known exactly.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from rs4a.noises.draws import in_parts

#: The first bits of a word, its bucket, decide in most cases.
_BUCKET_BITS, _OTHER_BITS = 16, 48
_HALF, _OTHERS = 2 ** (_BUCKET_BITS - 1), 2**_OTHER_BITS - 1
_UNDECIDED = math.inf
#: Numbers that a CPU works on at once: few calls, and about the size of its cache.
_PART_NUMBERS = 2**19
#: Standard deviations beyond which less than 2^-65 of the mass lies on either side.
_FARTHEST = 9.2
_DIGITS = 40


class IntegerLaw:
    """Law of `first` plus the number of thresholds that a uniform 64-bit word reaches.

    Parameters
    ----------
    first : int
        Smallest integer.

    thresholds : ndarray of shape (k,), int64
        In ascending order. The words range from -2^63 to 2^63 - 1.

    device : torch.device
        Device of the draws.

    Attributes
    ----------
    by_bucket : torch.Tensor of shape (2^16,), float32
        The integer of all words with the same first 16 bits; infinite where a threshold
        lies among these words.

    lowest : torch.Tensor of shape (2^16,), float32
        The integer of the smallest of these words.

    next_rest : torch.Tensor of shape (2^16,), int64
        The other 48 bits of the next threshold, if it lies among these words.

    crowded : torch.Tensor of shape (2^16,), bool
        Whether several thresholds lie among these words.
    """

    def __init__(self, first: int, thresholds: NDArray[np.int64], device: torch.device):
        words = np.arange(-_HALF, _HALF, dtype=np.int64) << _OTHER_BITS
        reached, at_last = (
            np.searchsorted(thresholds, each, side="right")
            for each in (words, words + _OTHERS)
        )
        lowest = (first + reached).astype(np.float32)
        self.first = first
        self.thresholds, self.lowest, self.by_bucket, self.next_rest, self.crowded = (
            torch.from_numpy(each).to(device)
            for each in (
                thresholds,
                lowest,
                np.where(reached == at_last, lowest, np.float32(_UNDECIDED)),
                np.append(thresholds, 0)[reached] & _OTHERS,
                at_last - reached > 1,
            )
        )

    def fill(self, out: Tensor, generator: Generator | None) -> None:
        """Overwrite with draws.

        Parameters
        ----------
        out : torch.Tensor
            Contiguous, in float32, on the device of the law.

        generator : torch.Generator or None
            Source of all randomness.
        """
        start, undecided = 0, []
        for part in in_parts(out, _PART_NUMBERS):
            buckets = self._buckets(len(part), generator)
            torch.index_select(self.by_bucket, 0, buckets, out=part)
            places = _where_undecided(part)
            undecided.append((places + start, buckets.index_select(0, places)))
            start += len(part)
        places, buckets = (torch.cat(each) for each in zip(*undecided, strict=True))
        if len(places):
            out.view(-1).index_copy_(0, places, self._decide(buckets, generator))

    def _buckets(self, size: int, generator: Generator | None) -> Tensor:
        """The first 16 bits of words: four from each number of 64 bits."""
        words = self._words(-(-size // 4), generator)
        return words.view(torch.int16)[:size].to(torch.int32).add_(_HALF)

    def _decide(self, buckets: Tensor, generator: Generator | None) -> Tensor:
        """Integers of words in these buckets; their other 48 bits are drawn here."""
        others = self._words(len(buckets), generator) & _OTHERS
        integers = self.lowest.index_select(0, buckets)
        integers += others >= self.next_rest.index_select(0, buckets)
        crowded = self.crowded.index_select(0, buckets).nonzero()[:, 0]
        words = (buckets[crowded].to(torch.int64) - _HALF) << _OTHER_BITS
        words += others[crowded]
        reached = torch.searchsorted(self.thresholds, words, right=True)
        integers[crowded] = (reached + self.first).to(torch.float32)
        return integers

    def _words(self, size: int, generator: Generator | None) -> Tensor:
        words = torch.empty(size, dtype=torch.int64, device=self.thresholds.device)
        return words.random_(-(2**63), None, generator=generator)


def _where_undecided(part: Tensor) -> Tensor:
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
    support : int
        Less than 2^-64 of the mass lies beyond, both sides together.
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
        Device of the draws.

    Returns
    -------
    law : IntegerLaw
        In steps, from -support to support; its ends hold the mass beyond.
    """
    thresholds = _gaussian_thresholds(sigma, levels)
    return IntegerLaw(-gaussian_support(sigma, levels), thresholds, device)


@lru_cache(maxsize=64)
def _gaussian_thresholds(sigma: float, levels: int) -> NDArray[np.int64]:
    """2^64 P(integer <= i) from i = -support on, rounded down, minus 2^63."""
    import mpmath  # an eighth of the time of `import rs4a`, for exact Gaussian noise alone

    support = gaussian_support(sigma, levels)
    with mpmath.workdps(_DIGITS):
        unit = mpmath.sqrt(2) * mpmath.mpf(sigma) * levels
        tails = [
            int(mpmath.floor(mpmath.ldexp(mpmath.erfc((k + 0.5) / unit), 63)))
            for k in range(support)
        ]
    below_zero = np.array([tail - 2**63 for tail in reversed(tails)], dtype=np.int64)
    # 2^64 (1 - tail) rounded down is the complement of 2^64 tail rounded down.
    return np.concatenate([below_zero, ~below_zero[::-1]])


@lru_cache(maxsize=64)
def uniform_law(support: int, device: torch.device) -> IntegerLaw:
    """Law that is uniform on the integers from -support to support.

    Parameters
    ----------
    support : int
        Largest integer, at least 0.

    device : torch.device
        Device of the draws.

    Returns
    -------
    law : IntegerLaw
        Of 2 support + 1 integers.
    """
    n_values = 2 * support + 1
    thresholds = [(i << 64) // n_values - 2**63 for i in range(1, n_values)]
    return IntegerLaw(-support, np.array(thresholds, dtype=np.int64), device)
