"""Streams of random numbers: wide states, nothing shared, nothing left over."""

import threading

import numpy as np
import pytest
import torch

from rs4a.noises.streams import block_key, generator, stream_keys

CPU = torch.device("cpu")
X = np.arange(12, dtype=np.float32).reshape(4, 3)


def numbers(key):
    return torch.rand(8, generator=generator(key, CPU)).tolist()


def words(key):
    state = generator(key, CPU).get_state().numpy()
    return state[24 : 24 + 8 * 624].view(np.uint64)


def test_blocks_differ_by_input_number_and_seed():
    keys = np.concatenate([stream_keys(X, seed) for seed in (0, 1)])
    drawn = [numbers(block_key(key, number)) for key in keys for number in range(50)]
    assert len({tuple(each) for each in drawn}) == len(drawn)


@pytest.mark.parametrize("bit", [0, 31, 32, 63, 64, 127])
def test_every_bit_of_the_key_changes_the_whole_state(bit):
    """Of a seed torch keeps 32 bits: keys that agree in them must draw other numbers."""
    key = block_key(stream_keys(X, 0)[0], 0)
    one, other = words(key), words(key ^ (1 << bit))
    assert one.max() < 2**32
    assert (one != other).mean() > 0.99
    assert numbers(key) != numbers(key ^ (1 << bit))


def test_a_block_does_not_depend_on_draws_before_it():
    """An odd number of normal draws leaves one over in torch's generator."""
    expected = torch.randn(5, generator=generator(7, CPU))
    torch.randn(3, generator=generator(8, CPU))
    assert torch.equal(torch.randn(5, generator=generator(7, CPU)), expected)


def test_numbers_are_uniform_and_uncorrelated():
    keys = [block_key(key, n) for key in stream_keys(X, 3) for n in range(100)]
    drawn = torch.stack([torch.randn(1000, generator=generator(key, CPU)) for key in keys])
    assert abs(drawn.mean()) < 5 / np.sqrt(drawn.numel())
    assert abs(drawn.var() - 1) < 5 * np.sqrt(2 / drawn.numel())
    correlation = torch.corrcoef(drawn) - torch.eye(len(drawn))
    assert correlation.abs().max() < 5.5 / np.sqrt(1000)


def test_threads_share_no_generator():
    found = []
    thread = threading.Thread(target=lambda: found.append(generator(1, CPU)))
    mine = generator(1, CPU)
    thread.start()
    thread.join()
    assert found[0] is not mine
    assert torch.equal(torch.rand(3, generator=found[0]), torch.rand(3, generator=mine))
