"""Streams of random numbers: one for each block of noise, by its key.

The generator of a block depends on the seed of the caller, the bytes of the input, the
phase of the votes and the position of the block, and on nothing else.
"""

import hashlib
import threading
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

#: Number of this way to draw: a memory folder does not return votes of another way.
STREAMS = 2

#: For each thread a generator, its state after `manual_seed`, and the words of the state.
_THREAD = threading.local()
#: The state of torch's CPU generator: 24 bytes of header, and the 624 words of 32 bits of a
#: Mersenne Twister, each in 8 bytes. After `manual_seed` no word is used yet.
_HEADER, _N_WORDS = 24, 624


def stream_keys(
    X: NDArray[np.float32], seed: int, *, purpose: bytes = b""
) -> NDArray[np.uint64]:
    """Keys of the noise of every input, from its bytes and a seed.

    Parameters
    ----------
    X : ndarray of shape (n, ...), float32
        Inputs.

    seed : int
        Any int of at most 64 bits.

    purpose : bytes, default=b""
        At most 16 bytes. Noise of different purposes is independent for all seeds: a net
        that was chosen under some noise must be certified under other noise.

    Returns
    -------
    keys : ndarray of shape (n, 3), uint64
        The first seed of an input, the odd step between its seeds, and a number that noise
        does not use.
    """
    key = (seed % 2**64).to_bytes(8, "little")
    digests = (
        hashlib.blake2b(
            np.ascontiguousarray(x, dtype=np.float32).tobytes(),
            key=key,
            person=purpose,
            digest_size=24,
        ).digest()
        for x in X
    )
    keys = np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 3).astype(np.uint64)
    keys[:, 1] |= np.uint64(1)
    return keys


def block_key(key: NDArray[np.uint64], number: int) -> int:
    """Key of one block of an input.

    Parameters
    ----------
    key : ndarray of shape (3,), uint64
        Key of the input, from `stream_keys`.

    number : int
        Number of the block, from 0 on.

    Returns
    -------
    block_key : int
        128 bits. The upper half distinguishes inputs. The lower half is a seed; the odd
        step makes the seeds of one input distinct.
    """
    first, step = int(key[0]), int(key[1])
    return (step << 64) | (first + number * step) % 2**64


def generator(key: int, device: torch.device) -> torch.Generator:
    """Generator of the random numbers of a block.

    Parameters
    ----------
    key : int
        From `block_key`.

    device : torch.device
        Device that draws.

    Returns
    -------
    generator : torch.Generator
        On a CPU it is the thread's own one, until the next call. SHAKE-128 of the key gives
        its whole state of 19 968 bits: `manual_seed` keeps 32 bits of a seed, so that
        blocks of different inputs could coincide. Other devices keep 64 bits of a seed.
    """
    if device.type != "cpu":
        return torch.Generator(device).manual_seed(key % 2**64)
    if not hasattr(_THREAD, "generator"):
        _THREAD.generator = torch.Generator().manual_seed(0)
        _THREAD.state = _THREAD.generator.get_state()
        _THREAD.words = _THREAD.state.numpy()[_HEADER : _HEADER + 8 * _N_WORDS].view("<u8")
    digest = hashlib.shake_128(key.to_bytes(16, "little")).digest(4 * _N_WORDS)
    _THREAD.words[:] = np.frombuffer(digest, dtype="<u4")
    return cast(torch.Generator, _THREAD.generator.set_state(_THREAD.state))
