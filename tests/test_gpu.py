"""The library on a GPU: draws of the right law, votes that nothing else decides."""

import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import Threshold, frozen, make_net
from every import added_noises, quick_objectives
from scipy import stats
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

from rs4a import CertificationWarning, Inference, SmoothedClassifier
from rs4a.attacks import PGD
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.metrics import attack_score, certified_accuracy_score
from rs4a.networks import WideResNet
from rs4a.noises import Clean, Exp2, Gaussian, Splitting, Uniform

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

NOISES = [
    *added_noises(64), Exp2(sigma=0.5, k=100, j=63.9), Clean(),
    Gaussian(sigma=0.5, exact=True, levels=16), Uniform(sigma=0.5, exact=True, levels=16),
    Splitting(sigma=0.5, deterministic=False),
]  # fmt: skip
OBJECTIVES = quick_objectives(n_samples=2, radius=0.3)


def gpu_generator(seed):
    return torch.Generator("cuda").manual_seed(seed)


GAUSSIAN = Gaussian(sigma=0.5)


def certified(net, X, noise=GAUSSIAN, n=20_000, **params):
    clf = SmoothedClassifier(
        net, noise=noise, bound=ClopperPearson(n=n), random_state=0, **params
    )
    return clf.fit(X, np.arange(len(X)) % 2).certify(X)


@pytest.fixture(scope="module")
def small(digits):
    X, X_test, y, y_test = digits
    return X, X_test[:60], y, y_test[:60]


@pytest.fixture(scope="module")
def trained(small):
    """A classifier that was trained on the GPU."""
    X, _, y, _ = small
    clf = SmoothedClassifier(
        make_net(device="cuda"), noise=Gaussian(sigma=0.3), bound=ClopperPearson(n=2000),
        random_state=0,
    )  # fmt: skip
    return clf.fit(X, y)


@pytest.fixture(scope="module")
def wide_resnet():
    torch.manual_seed(0)
    return frozen(WideResNet(16, 1), list(range(10)), device="cuda")


@pytest.mark.parametrize("noise", NOISES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_have_the_law_of_those_on_the_cpu(noise, dtype):
    """Of a coordinate, of the largest one, and of the sum of all."""
    x = torch.full((4000, 64), 0.5, dtype=dtype)
    on_gpu = noise.sample(x.cuda(), gpu_generator(0))
    assert (on_gpu.device.type, on_gpu.dtype) == ("cuda", dtype)
    assert on_gpu.isfinite().all()
    draws = (
        on_gpu.cpu().double(),
        noise.sample(x, torch.Generator().manual_seed(1)).double(),
    )
    for statistic in (
        lambda draw: draw[:, 0], lambda draw: draw[:, -1], lambda draw: draw.sum(dim=1),
        lambda draw: draw.abs().amax(dim=1), lambda draw: draw[:, 1] * draw[:, 2],
    ):  # fmt: skip
        pair = [statistic(draw).numpy() for draw in draws]
        assert stats.ks_2samp(*pair).pvalue > 1e-4


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_draws_are_the_generators(noise):
    x = torch.zeros(10, 64, device="cuda")
    first = noise.sample(x, gpu_generator(3))
    assert torch.equal(noise.sample(x, gpu_generator(3)), first)
    out = torch.empty_like(x)
    assert noise.sample(x, gpu_generator(3), out=out) is out
    assert torch.equal(out, first)
    if not isinstance(noise, Clean):
        assert not torch.equal(noise.sample(x, gpu_generator(4)), first)
        with torch.random.fork_rng():
            torch.cuda.manual_seed(3)
            assert torch.equal(noise.sample(x), first)


@pytest.mark.parametrize("kind", [Gaussian, Uniform])
def test_exact_noise_depends_on_sums_of_integers_alone(kind):
    noise = kind(sigma=0.5, exact=True)
    pixels = torch.arange(256, device="cuda").repeat(2000, 1) / 255
    noisy = noise.sample(pixels, gpu_generator(0)).cpu()
    sums = (noisy.double() * 255).round()
    assert (noisy.double() * 255 - sums).abs().max() < 1e-3
    order = sums.ravel().argsort()
    sums, floats = sums.ravel()[order], noisy.ravel()[order].view(torch.int32)
    same_sum = sums[1:] == sums[:-1]
    assert same_sum.float().mean() > 0.9
    assert torch.equal(same_sum, floats[1:] == floats[:-1])


@pytest.mark.parametrize("noise", NOISES, ids=str)
def test_votes_depend_on_the_input_and_the_seed_alone(noise, small):
    X = small[1][:20]
    net = FrozenEstimator(make_net(device="cuda").fit(*small[::2]))
    expected = certified(net, X, noise, batch_size=1024)
    np.testing.assert_array_equal(expected.counts.sum(axis=1), 20_000)
    order = np.random.default_rng(0).permutation(len(X))
    for other in (
        certified(net, X[order], noise, batch_size=7_000),
        certified(net, X[order], noise, batch_size=100),
        certified(net, X[order], noise, batch_size="auto"),
    ):
        np.testing.assert_array_equal(other.counts, expected.counts[order])
        np.testing.assert_array_equal(other.radius(), expected.radius()[order])
    part = certified(net, X[3:5], noise, batch_size=512)
    np.testing.assert_array_equal(part.counts, expected.counts[3:5])


@pytest.mark.parametrize(
    "inference",
    [
        None,
        Inference(channels_last=True),
        Inference(dtype="bfloat16", channels_last=True),
        Inference(dtype="float16"),
        Inference(dtype="bfloat16", compile=True),
    ],
    ids=str,
)
def test_votes_of_a_residual_net_do_not_depend_on_the_batch(wide_resnet, inference):
    X = np.random.default_rng(0).random((6, 3, 32, 32), dtype=np.float32)
    options = {"inference": inference, "n": 1500}
    expected = certified(wide_resnet, X, batch_size=512, **options)
    np.testing.assert_array_equal(expected.counts.sum(axis=1), 1500)
    other = certified(wide_resnet, X[::-1].copy(), batch_size=300, **options)
    np.testing.assert_array_equal(other.counts, expected.counts[::-1])


def test_stopped_votes_do_not_depend_on_the_batch_or_the_threads(trained, small):
    X = small[1]
    bound = ConfidenceSequence(max_n=5000, radii=[0.1, 0.3])
    expected = copy.copy(trained).set_params(bound=bound).certify(X)
    other = copy.copy(trained).set_params(bound=bound, batch_size=200).certify(X[::-1])
    np.testing.assert_array_equal(other.counts, expected.counts[::-1])
    np.testing.assert_array_equal(other.radius(), expected.radius()[::-1])


def test_frequencies_follow_the_probability():
    net = frozen(Threshold, [0, 1], module__t=0.5, device="cuda")
    clf = SmoothedClassifier(
        net, noise=Gaussian(sigma=0.5), bound=ClopperPearson(n=10_000), random_state=0
    )
    X = np.random.default_rng(0).random((100, 3), dtype=np.float32)
    X[:, 0] = 0.0
    counts = clf.fit(X, np.arange(100) % 2).certify(X).counts
    share = counts[:, 0].sum() / counts.sum()
    assert share == pytest.approx(0.841345, abs=5 * np.sqrt(0.1335 / counts.sum()))
    assert 0.6 < counts[:, 0].var() / (10_000 * 0.1335) < 1.5


def test_certificates_are_as_good_as_on_the_cpu(trained, small):
    _, X, _, y = small
    on_gpu = trained.certify(X)
    assert on_gpu.runs[0]["device"] == "cuda"
    cpu_net = make_net().initialize()
    cpu_net.module_.load_state_dict(
        {name: w.cpu() for name, w in trained.estimator_.module_.state_dict().items()}
    )
    on_cpu = copy.copy(trained)
    on_cpu.estimator_ = cpu_net
    difference = on_gpu.radius() - on_cpu.certify(X).radius()
    assert np.abs(difference).mean() < 0.02
    assert certified_accuracy_score(y, on_gpu, radius=0.2) > 0.8


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_objectives_train_there_and_repeat_themselves(objective, small):
    X, X_test, y, y_test = small

    def fitted():
        return SmoothedClassifier(
            make_net(device="cuda", max_epochs=3), noise=Gaussian(sigma=0.3),
            objective=objective, bound=ClopperPearson(n=200), random_state=0,
        ).fit(X, y)  # fmt: skip

    states = [fitted().estimator_.module_.state_dict() for _ in range(2)]
    assert all(each.is_cuda for each in states[0].values())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5)
    assert fitted().score(X_test, y_test) > 0.5


def test_training_leaves_the_generators_alone(small):
    X, _, y, _ = small
    before = torch.get_rng_state(), torch.cuda.get_rng_state()
    SmoothedClassifier(
        make_net(device="cuda", max_epochs=1), noise=Gaussian(sigma=0.3), random_state=0
    ).fit(X, y)
    after = torch.get_rng_state(), torch.cuda.get_rng_state()
    assert all(map(torch.equal, before, after))


def test_attacks_stay_outside_the_radius(trained, small):
    _, X, _, y = small
    radii = np.array([0.0, 0.2, 0.4])
    certification = trained.certify(X)
    proved = certified_accuracy_score(y, certification, radius=radii)
    attacked = attack_score(trained, X, y, attack=PGD(steps=5, n_samples=8), radius=radii)
    assert (proved <= attacked + 1e-9).all()


def test_inputs_may_be_tensors_there(trained, small):
    X = small[1][:10]
    expected = trained.certify(X)
    other = trained.certify(torch.from_numpy(X).cuda().requires_grad_())
    np.testing.assert_array_equal(other.counts, expected.counts)
    np.testing.assert_array_equal(trained.predict(torch.from_numpy(X).cuda()),
                                  trained.predict(X))  # fmt: skip


def test_saved_and_pickled_classifiers_vote_alike(trained, small, tmp_path):
    X = small[1][:10]
    expected = trained.certify(X).counts
    trained.save(tmp_path / "saved")
    for other in (
        SmoothedClassifier.load(tmp_path / "saved", device="cuda"),
        pickle.loads(pickle.dumps(trained)),
        copy.deepcopy(trained),
    ):
        np.testing.assert_array_equal(other.certify(X).counts, expected)
    on_cpu = SmoothedClassifier.load(tmp_path / "saved", device="cpu")
    assert (on_cpu.certify(X).labels == trained.certify(X).labels).mean() > 0.8


def test_votes_are_found_again_in_memory(trained, small, tmp_path):
    X = small[1][:10]
    clf = copy.copy(trained).set_params(memory=str(tmp_path))
    first, second = clf.certify(X), clf.certify(X)
    np.testing.assert_array_equal(first.counts, second.counts)
    np.testing.assert_array_equal(first.counts, trained.certify(X).counts)


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_workers_share_the_gpu(trained, small, backend):
    import joblib

    X = small[1][:30]
    expected = trained.certify(X).counts
    with joblib.parallel_config(backend=backend, n_jobs=2):
        counts = copy.copy(trained).set_params(n_jobs=2).certify(X).counts
    np.testing.assert_array_equal(counts, expected)


def test_search(small):
    X, _, y, _ = small
    search = GridSearchCV(
        SmoothedClassifier(
            make_net(device="cuda", max_epochs=2), noise=Gaussian(),
            bound=ClopperPearson(n=100), random_state=0,
        ),
        {"noise__sigma": [0.1, 0.5]}, cv=2, error_score="raise",
    )  # fmt: skip
    assert search.fit(X[:400], y[:400]).best_score_ > 0.3


class Hungry(Threshold):
    """Takes a hundredth of the GPU's memory for every 10 inputs."""

    def forward(self, X):
        total = torch.cuda.get_device_properties(0).total_memory
        torch.empty(total // 1000 * len(X), dtype=torch.uint8, device=X.device)
        return super().forward(X)


@pytest.fixture
def little_memory():
    torch.cuda.set_per_process_memory_fraction(0.1)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.usefixtures("little_memory")
def test_batches_that_do_not_fit_are_halved():
    X = np.zeros((3, 4), dtype=np.float32)

    def counts(module):
        net = frozen(module, [0, 1], module__t=0.5, device="cuda")
        return certified(net, X, batch_size=2048).counts

    with pytest.warns(CertificationWarning, match="does not fit into memory"):
        hungry = counts(Hungry)
    np.testing.assert_array_equal(hungry.sum(axis=1), 20_000)
    np.testing.assert_array_equal(hungry, counts(Threshold))
