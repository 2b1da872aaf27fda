"""Votes depend on the seed and the input alone, and the net is left as it was."""

import copy
import pickle
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ClassVar

import cloudpickle
import numpy as np
import pytest
import torch
from conftest import Threshold, frozen
from skorch import NeuralNetClassifier
from torch import nn

from rs4a import CertificationWarning, Inference, SmoothedClassifier
from rs4a.nets.outputs import check_outputs, evaluating
from rs4a.noises import Exp2, Gaussian, Laplace, Uniform
from rs4a.noises.streams import stream_keys
from rs4a.voting import blocks as sampling
from rs4a.voting.batch_independence import ChangeDetector
from rs4a.voting.blocks import Phase, Requests
from rs4a.voting.voters import Voters

NOISES = [Gaussian(sigma=0.5), Laplace(sigma=0.5), Uniform(sigma=0.5)]


def votes(net, X, *, n_votes=700, phase=Phase.ESTIMATION, seed=0, progress=None, **who):
    """700 votes are more than a block, and no multiple of one."""
    with voters(net, **who) as opened:
        return opened.fixed(
            X, stream_keys(X, seed), n_votes=n_votes, phase=phase, progress=progress
        )


def voters(net, noise=NOISES[0], **options):
    return Voters(
        net, noise, **{"inference": None, "n_classes": 10, "batch_size": 1024, **options}
    )


@pytest.fixture(scope="module")
def net(fitted):
    return fitted["Gaussian"].estimator_


@pytest.fixture(scope="module")
def X(digits):
    return digits[1][:12]


@pytest.fixture(scope="module")
def expected(net, X):
    return votes(net, X)


def test_every_vote_is_counted(expected):
    assert expected.dtype == np.int64
    np.testing.assert_array_equal(expected.sum(axis=1), 700)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 100, 5000])
def test_batch_size_does_not_matter(net, X, expected, batch_size):
    np.testing.assert_array_equal(votes(net, X, batch_size=batch_size), expected)


def test_order_and_subset_do_not_matter(net, X, expected):
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_array_equal(votes(net, X[order]), expected[order])
    np.testing.assert_array_equal(votes(net, X[3:5]), expected[3:5])
    np.testing.assert_array_equal(votes(net, X[7:8]), expected[7:8])


@contextmanager
def threads(n):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("n_threads", [2, 3, 5])
@pytest.mark.parametrize("batch_size", [7, 1024])
def test_threads_do_not_matter(net, X, expected, n_threads, batch_size):
    with threads(n_threads):
        np.testing.assert_array_equal(votes(net, X, batch_size=batch_size), expected)
        assert torch.get_num_threads() == n_threads


class Remembers(nn.Module):
    """Keeps what it saw, and answers from it a moment later."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, X):
        self.seen = X
        time.sleep(0.001)
        margin = self.seen.flatten(1)[:, 0]
        return torch.stack([margin, -margin], dim=1)


def test_threads_do_not_share_a_modules_state():
    net = frozen(Remembers, [0, 1]).estimator
    inputs = np.random.default_rng(0).random((20, 6), dtype=np.float32) - 0.5
    expected = votes(net, inputs, n_classes=2, batch_size=256)
    with threads(4):
        for _ in range(3):
            counts = votes(net, inputs, n_classes=2, batch_size=256)
            np.testing.assert_array_equal(counts, expected)


class Uncopiable(nn.Linear):
    def __init__(self):
        super().__init__(6, 2)
        self.lock = threading.Lock()


def test_a_net_that_cannot_be_copied_votes_in_one_thread():
    net = frozen(Uncopiable, [0, 1]).estimator
    inputs = np.random.default_rng(0).random((3, 6), dtype=np.float32)
    expected = votes(net, inputs, n_classes=2)
    with threads(3):
        np.testing.assert_array_equal(votes(net, inputs, n_classes=2), expected)


@pytest.mark.parametrize(
    "error", [ValueError("of the net"), KeyboardInterrupt("of the user")], ids=repr
)
def test_an_error_in_a_thread_ends_all_of_them(error):
    net = frozen(Broken, [0, 1], module__output=error).estimator
    inputs = np.zeros((50, 4), dtype=np.float32)
    with threads(4), pytest.raises(type(error), match="of the"):
        votes(net, inputs, n_classes=2, n_votes=10_000)


class FailsOnce(Threshold):
    """Has one input that it cannot take; counts the passes after it."""

    passes: ClassVar[list[int]] = []

    def forward(self, X):
        if len(self.passes) == 3:
            self.passes.append(len(X))
            raise ValueError("of the net")
        self.passes.append(len(X))
        return super().forward(X)


def test_an_error_is_not_kept_until_the_end():
    FailsOnce.passes.clear()
    net = frozen(FailsOnce, [0, 1]).estimator
    inputs = np.zeros((50, 4), dtype=np.float32)
    with threads(2), pytest.raises(ValueError, match="of the net"):
        votes(net, inputs, n_classes=2, n_votes=20_000, batch_size=128)
    assert len(FailsOnce.passes) < 1000  # of 15 625


# Changes of the net


class Turns(nn.Linear):
    """Answers otherwise from its third pass on."""

    def __init__(self):
        super().__init__(6, 2)
        self.passes = 0

    def forward(self, X):
        self.passes += 1
        return super().forward(X) * (1.0 if self.passes < 3 else -1.0)


INPUTS = np.random.default_rng(0).random((3, 6), dtype=np.float32)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("module", [Turns, Remembers])
def test_a_detector_notices_other_answers_and_changes_no_vote(module, n_threads):
    net = frozen(module, [0, 1]).estimator
    detector = ChangeDetector(INPUTS, NOISES[0])
    options = {"n_classes": 2, "batch_size": 256}
    with threads(n_threads):
        counts = votes(net, INPUTS, detector=detector, **options)
        if module is Remembers:
            np.testing.assert_array_equal(counts, votes(net, INPUTS, **options))
    assert detector.changed == (module is Turns)


def test_copies_share_a_detector_and_other_processes_have_none():
    watched = voters(
        frozen(Turns, [0, 1]).estimator, detector=ChangeDetector(INPUTS, NOISES[0])
    )
    assert copy.copy(watched).detector is watched.detector
    assert pickle.loads(cloudpickle.dumps(watched)).detector is None


def test_after_an_error_the_net_is_not_asked():
    net = frozen(FailsOnce, [0, 1]).estimator
    FailsOnce.passes.clear()
    detector = ChangeDetector(INPUTS, NOISES[0])
    with pytest.raises(ValueError, match="of the net"):
        votes(net, INPUTS, n_classes=2, batch_size=64, detector=detector)
    assert len(FailsOnce.passes) == 4


# Votes on request


def requested(net, X, rows, starts, stops, **who):
    requests = Requests(*(np.array(part) for part in (rows, starts, stops)))
    with voters(net, **who) as opened:
        return opened.requested(X, stream_keys(X, 0), requests=requests)


@pytest.mark.parametrize("noise", [*NOISES, Exp2(sigma=0.5, j=30)], ids=str)
def test_votes_may_be_drawn_in_parts(net, X, noise):
    """Whatever the cuts, also amid a block."""
    whole = requested(net, X, [3], [0], [3000], noise=noise)
    for cuts in ([0, 3000], [0, 1, 33, 500, 1000, 2999, 3000], [0, 1024, 3000]):
        parts = requested(
            net, X, [3] * (len(cuts) - 1), cuts[:-1], cuts[1:], noise=noise, batch_size=100
        )
        np.testing.assert_array_equal(parts.sum(axis=1), np.diff(cuts))
        np.testing.assert_array_equal(parts.sum(axis=0), whole[0])


def test_each_vote_comes_once(net, X):
    """Votes number i to i + 1 are 0 or 1, and together what they are at once."""
    singles = requested(net, X, [0] * 200, range(200), range(1, 201))
    assert (singles.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(
        singles.sum(axis=0), requested(net, X, [0], [0], [200])[0]
    )


def test_requests_of_many_inputs_depend_on_nothing_else(net, X):
    rows, starts, stops = [5, 2, 5, 9], [0, 100, 64, 0], [64, 900, 96, 1]
    together = requested(net, X, rows, starts, stops, batch_size=50)
    for i, request in enumerate(zip(rows, starts, stops, strict=True)):
        alone = requested(net, X, *([part] for part in request))
        np.testing.assert_array_equal(together[i], alone[0])
    with threads(3):
        again = requested(net, X, rows, starts, stops)
    np.testing.assert_array_equal(together, again)


def test_nothing_requested(net, X):
    assert requested(net, X, [], [], []).shape == (0, 10)


def test_keys_differ_by_input_and_seed(X):
    keys = np.concatenate([stream_keys(X, 0), stream_keys(X, 1)])
    assert len(np.unique(keys)) == keys.size
    assert (keys[:, 1] % 2 == 1).all()
    np.testing.assert_array_equal(stream_keys(X, -1), stream_keys(X, 2**64 - 1))
    others = stream_keys(X, 0, purpose=b"another")
    assert not np.isin(others, keys).any()
    np.testing.assert_array_equal(stream_keys(X, 0, purpose=b""), stream_keys(X, 0))


# Memory, and shapes of batches


class Watched(Gaussian):
    """Notes how much memory its draws go into."""

    seen: ClassVar[list[int]] = []

    def _fill_noise(self, out, generator):
        self.seen.append(out.untyped_storage().nbytes())
        return super()._fill_noise(out, generator)


@pytest.mark.parametrize("n_votes", [2000, 40_000])
def test_memory_is_bounded_by_the_batch(net, X, n_votes):
    Watched.seen.clear()
    votes(net, X[:2], noise=Watched(sigma=0.5), n_votes=n_votes, batch_size=256)
    block = 512  # of 64 pixels each, and room for a batch before it
    assert max(Watched.seen) <= (256 + 2 * block) * 64 * 4


class Small(Threshold):
    """Has memory for 100 inputs at a time."""

    sizes: ClassVar[list[int]] = []

    def forward(self, X):
        if len(X) > 100:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.sizes.append(len(X))
        return super().forward(X)


def test_batches_that_do_not_fit_are_halved():
    inputs = np.random.default_rng(0).random((4, 6), dtype=np.float32)
    expected = votes(frozen(Threshold, [0, 1]).estimator, inputs, n_classes=2)
    net = frozen(Small, [0, 1]).estimator
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        counts = votes(net, inputs, n_classes=2)
    np.testing.assert_array_equal(counts, expected)
    assert "passes of 64" in str(warned[-1].message)
    assert len(warned) == 4  # 1024, 512, 256 and 128 do not fit, and are tried once


def test_what_did_not_fit_is_remembered():
    net = frozen(Small, [0, 1]).estimator
    inputs = np.random.default_rng(0).random((4, 6), dtype=np.float32)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with voters(net, n_classes=2) as opened:
            for _ in range(3):
                opened.fixed(
                    inputs, stream_keys(inputs, 0), n_votes=700, phase=Phase.ESTIMATION
                )
    assert len(warned) == 4


def test_an_input_too_large_for_memory_is_an_error():
    class None_(Threshold):
        def forward(self, X):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    net = frozen(None_, [0, 1]).estimator
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CertificationWarning)
        with pytest.raises(torch.OutOfMemoryError):
            votes(net, np.zeros((1, 3), dtype=np.float32), n_classes=2, batch_size=8)


def test_compiled_nets_get_batches_of_few_shapes(net, X, expected, monkeypatch):
    sizes = []

    def run_and_note(module, inference, device):
        handle = module.register_forward_pre_hook(
            lambda _, args: sizes.append(len(args[0]))
        )
        handles.append(handle)
        return module

    handles = []
    monkeypatch.setattr("rs4a.nets.outputs.optimized", run_and_note)
    counts = votes(net, X[:3], inference=Inference(compile=True), batch_size=300)
    for handle in handles:
        handle.remove()
    np.testing.assert_array_equal(counts, expected[:3])
    assert set(sizes) <= {300, 64}


def test_votes_in_half_precision_do_not_depend_on_the_batch(net, X):
    half = Inference(dtype="bfloat16")
    counts = votes(net, X, inference=half)
    np.testing.assert_array_equal(votes(net, X, inference=half, batch_size=33), counts)
    with threads(2):
        np.testing.assert_array_equal(votes(net, X, inference=half), counts)


@pytest.mark.parametrize("batch_size", [7, 100, 1024])
def test_drawing_ahead_does_not_matter(net, X, expected, batch_size, monkeypatch):
    """As on a GPU."""
    ahead = sampling._ON_CPU._replace(ahead=1)
    monkeypatch.setattr(sampling, "_ON_CPU", ahead)
    np.testing.assert_array_equal(votes(net, X, batch_size=batch_size), expected)


def test_seed_and_phase_matter(net, X, expected):
    assert not np.array_equal(votes(net, X, seed=1), expected)
    assert not np.array_equal(votes(net, X, phase=Phase.SELECTION), expected)


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_forward_passes_are_full(noise):
    """Many inputs with few votes each share batches."""
    sizes = []

    class Recorder(Threshold):
        def forward(self, X):
            sizes.append(len(X))
            return super().forward(X)

    inputs = np.random.default_rng(0).random((50, 6), dtype=np.float32)
    net = frozen(Recorder, [0, 1]).estimator
    votes(net, inputs, noise=noise, n_votes=64, n_classes=2, batch_size=256)
    near_ties_apart = [size for size in sizes if size != 64]
    assert near_ties_apart == [256] * 12 + [128]  # 50 * 64 votes in all


def test_streams_of_inputs_and_blocks_are_independent():
    """No two draws of 30 inputs with several blocks coincide."""
    seen = []

    class Recorder(Threshold):
        def forward(self, X):
            seen.append(X.clone())
            return super().forward(X)

    inputs = np.repeat(np.arange(30, dtype=np.float32), 3).reshape(30, 3)
    net = frozen(Recorder, [0, 1]).estimator
    for phase in Phase:
        votes(net, inputs, n_votes=1100, n_classes=2, phase=phase)
    noisy = torch.cat(seen)
    # Inputs are whole numbers: equal noise would show in the fractions, but for the digits
    # that adding them costs.
    noise = (1e4 * (noisy - noisy.floor())).round()
    assert len(torch.unique(noise, dim=0)) >= 0.999 * 30 * 1100 * 2


def test_frequencies_follow_the_probability():
    """Pooled over inputs, the share of votes is P(e <= t), in every phase."""
    inputs = np.random.default_rng(0).random((200, 3), dtype=np.float32)
    inputs[:, 0] = 0.0
    net = frozen(Threshold, [0, 1], module__t=0.5).estimator
    for phase in Phase:
        counts = votes(net, inputs, n_votes=2000, n_classes=2, phase=phase)
        share = counts[:, 0].sum() / counts.sum()
        assert share == pytest.approx(0.841345, abs=5 * np.sqrt(0.1335 / counts.sum()))
        # Binomial, not less or more: the inputs' counts vary as independent draws do.
        spread = counts[:, 0].var() / (2000 * 0.1335)
        assert 0.6 < spread < 1.5


class Almost(Threshold):
    """Outputs whose last bits depend on the size of the batch, as real nets' do."""

    def forward(self, X):
        wobble = 1e-6 * ((len(X) * 2654435761) % 7 - 3)
        near = torch.where(X[:, :1] > 0, wobble, 1.0)
        return torch.cat([near, torch.zeros_like(near)], dim=1) + 5.0


@pytest.mark.parametrize("batch_size", [7, 64, 1000])
def test_near_ties_do_not_depend_on_the_batch(batch_size):
    inputs = np.zeros((3, 4), dtype=np.float32)
    inputs[:, 1] = range(3)
    net = frozen(Almost, [0, 1]).estimator
    counts = votes(net, inputs, n_classes=2, batch_size=batch_size)
    np.testing.assert_array_equal(counts, votes(net, inputs, n_classes=2, batch_size=333))
    assert counts.sum(axis=1).tolist() == [700] * 3


class Broken(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.output = output

    def forward(self, X):
        if isinstance(self.output, BaseException):
            raise self.output
        return self.output(X)


BAD_OUTPUTS = {
    "NaN": (lambda X: torch.full((len(X), 2), torch.nan), "returned NaN"),
    "one NaN": (
        lambda X: torch.tensor([[torch.nan, 1.0]]).repeat(len(X), 1),
        "returned NaN",
    ),
    "one logit": (lambda X: X[:, :1], "one output per class, at least 2"),
    "flat": (lambda X: X[:, 0], r"tensor of shape \(batch, n_classes\)"),
    "images": (lambda X: X[:, :, None], r"tensor of shape \(batch, n_classes\)"),
    "dict": (lambda X: {"logits": X}, "must return a tensor"),
    "other batch": (lambda X: X[:1, :2], r"tensor of shape \(batch, n_classes\)"),
}


@pytest.mark.parametrize("name", BAD_OUTPUTS)
def test_bad_outputs(name):
    output, message = BAD_OUTPUTS[name]
    net = frozen(Broken, [0, 1], module__output=output).estimator
    with pytest.raises(ValueError, match=message):
        votes(net, np.zeros((3, 4), dtype=np.float32), n_classes=2)


def test_infinite_outputs_are_votes():
    def output(X):
        return torch.tensor([[torch.inf, 0.0], [0.0, -torch.inf]]).repeat(len(X), 1)[
            : len(X)
        ]

    net = frozen(Broken, [0, 1], module__output=output).estimator
    counts = votes(net, np.zeros((3, 4), dtype=np.float32), n_classes=2)
    np.testing.assert_array_equal(counts, [[700, 0]] * 3)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
def test_net_is_left_as_it_was_after_an_error(error):
    net = frozen(Broken, [0, 1], module__output=error).estimator
    net.module_.train()
    net.module_.linear.eval()
    with pytest.raises(type(error)):
        votes(net, np.zeros((3, 4), dtype=np.float32), n_classes=2)
    assert net.module_.training
    assert not net.module_.linear.training


def test_threads_may_share_a_net():
    """Dropout stays off until the last thread is done, and the mode comes back."""
    net = frozen(Noisy, [0, 1]).estimator
    net.module_.train()
    inputs = np.random.default_rng(0).random((40, 4), dtype=np.float32)
    expected = votes(net, inputs, n_classes=2)
    with ThreadPoolExecutor(4) as pool:
        runs = [
            pool.submit(votes, net, inputs[: 10 + 10 * i], n_classes=2) for i in range(4)
        ]
        for i, run in enumerate(runs):
            np.testing.assert_array_equal(run.result(), expected[: 10 + 10 * i])
    assert all(module.training for module in net.module_.modules())


class Noisy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.BatchNorm1d(4), nn.Dropout(0.9), nn.Linear(4, 2))


class TwoModules(NeuralNetClassifier):
    def initialize_module(self):
        super().initialize_module()
        self.head_ = nn.Dropout(0.9)
        return self

    def infer(self, x, **params):
        return self.head_(super().infer(x, **params))


def test_all_modules_of_a_net_are_evaluated():
    net = TwoModules(nn.Linear, module__in_features=4, module__out_features=2).initialize()
    net.head_.train()
    inputs = np.ones((3, 4), dtype=np.float32)
    expected = votes(net, inputs, n_classes=2)
    np.testing.assert_array_equal(votes(net, inputs, n_classes=2), expected)
    assert net.head_.training


class BatchStatistics(nn.Sequential):
    def __init__(self):
        super().__init__(nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2))


def test_nets_that_mix_their_inputs_are_refused():
    clf = SmoothedClassifier(frozen(BatchStatistics, [0, 1]), noise=NOISES[0])
    with pytest.raises(
        ValueError, match="layer 0 normalises by the statistics of its batch"
    ):
        clf.fit(np.zeros((4, 4)), [0, 1, 0, 1])


class Midpoint(nn.Module):
    """Computes in float32, but has a parameter of half precision."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))

    def forward(self, X):
        margin = X.float().flatten(1).mean(1) - 0.501953125
        return torch.stack([-margin, margin], dim=1)


def test_inputs_are_rounded_after_the_noise_and_not_before():
    """Two inputs 0.006 apart in l2; in bfloat16 they would be on either side at once."""
    inputs = np.stack([np.full(3072, 0.5019), np.full(3072, 0.5020)]).astype(np.float32)
    net = frozen(Midpoint, [0, 1]).estimator
    noise = Gaussian(sigma=0.25)
    counts = votes(net, inputs, noise=noise, n_classes=2, n_votes=4000)
    assert (np.abs(counts / 4000 - 0.5) < 0.05).all()


def test_batches_are_no_larger_than_the_votes(net, X, expected):
    np.testing.assert_array_equal(votes(net, X, batch_size=10**12), expected)


def test_evaluation_mode_is_temporary():
    net = frozen(Broken, [0, 1], module__output=None).estimator
    net.module_.train()
    with evaluating(net):
        assert not net.module_.training
        assert not net.module_.linear.training
    assert net.module_.training
    assert net.module_.linear.training


def test_votes_need_no_gradient(net, X):
    grad_modes = []
    handle = net.module_.register_forward_hook(
        lambda *_: grad_modes.append(torch.is_grad_enabled())
    )
    try:
        votes(net, X[:2], n_votes=8)
    finally:
        handle.remove()
    assert grad_modes == [False] * len(grad_modes) != []


def test_double_precision_nets_get_double_inputs(X):
    net = frozen(nn.Linear, [0, 1], module__in_features=4, module__out_features=2).estimator
    net.module_.double()
    counts = votes(net, np.ones((2, 4), dtype=np.float32), n_classes=2)
    np.testing.assert_array_equal(counts.sum(axis=1), 700)


def test_progress_counts_votes(net, X):
    done = []
    votes(net, X, progress=done.append)
    assert sum(done) == 700 * len(X)


def test_outputs_may_come_with_others():
    logits = torch.zeros(5, 3)
    assert check_outputs((logits, "hidden"), 5, 3) is logits
