"""Results and classifiers come back from files, and broken files do not."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier

from rs4a import Certification, SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.networks import make_network
from rs4a.noises import ExpInf, Gaussian, Laplace, Uniform, make_noise
from rs4a.records import BoundRecord, read_results, write_results
from rs4a.utils.params import to_json

SHARES = np.array([[0.75, 0.25, 0.0], [0.0, 0.0, 1.0], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])
BOUNDS = np.array([0.8, 0.999924, 0.9, 0.4])
Y = [0, 1, 2, 0]


def certification(n=3, noise=None):
    votes = np.array([[990, 10], [700, 300], [20, 980]])[:n]
    return Certification(
        np.array(["cat", "dog"]), votes, votes, noise or Uniform(sigma=0.5), dim=64
    )


def published(parent, name="cifar_uniform_0.5", dtype=np.float32, **arrays):
    """A folder as the paper's code writes it."""
    folder = parent / name
    folder.mkdir()
    contents = {
        "preds": SHARES.astype(dtype),
        "labels": np.array(Y, dtype=dtype),
        "prob_lb": BOUNDS.astype(dtype),
        "radius_l1": np.full(4, 99.0, dtype=dtype),  # must not be believed
    }
    for stem, array in {**contents, **arrays}.items():
        if array is not None:
            np.save(folder / f"{stem}.npy", array)
    return folder


# Own results


@pytest.mark.parametrize("y", [["cat", "dog", "dog"], torch.tensor([0, 1, 1])])
def test_own_results_come_back(tmp_path, y):
    written = certification()
    write_results(tmp_path / "a/b", written, y)
    record, labels = read_results(tmp_path / "a/b")
    assert repr(record) == repr(written)
    np.testing.assert_array_equal(record.counts, written.counts)
    np.testing.assert_array_equal(labels, np.asarray(y))
    assert sorted(path.name for path in (tmp_path / "a/b").iterdir()) == [
        "certification.npz",
        "labels.npy",
    ]


def test_objects_are_stored_as_strings(tmp_path):
    write_results(tmp_path, certification(), np.array(["cat", "dog", "dog"], dtype=object))
    assert read_results(tmp_path)[1].tolist() == ["cat", "dog", "dog"]


def test_norm_of_own_results(tmp_path):
    write_results(tmp_path, certification(), [0, 1, 1])
    record, _ = read_results(tmp_path, norm=2, dim=64)
    np.testing.assert_array_equal(record.radius(), certification().radius(2))
    with pytest.raises(ValueError, match="dim must be the record's own, 64"):
        read_results(tmp_path, dim=65)


def test_noise_of_another_class(tmp_path):
    class Own(Uniform):
        pass

    write_results(tmp_path, certification(noise=Own(sigma=0.5)), [0, 1, 1])
    with pytest.raises(ValueError, match="'Own'"):
        read_results(tmp_path)
    record, _ = read_results(tmp_path, noise=Own(sigma=0.5))
    assert isinstance(record.noise, Own)


def test_a_record_keeps_its_noise(tmp_path):
    write_results(tmp_path, certification(), [0, 1, 1])
    same, _ = read_results(tmp_path, noise=Uniform(sigma=0.5))
    np.testing.assert_array_equal(same.radius(), certification().radius())
    for noise in (Gaussian(sigma=100.0), Uniform(sigma=0.75), Gaussian(sigma=0.5)):
        with pytest.raises(ValueError, match=r"noise must be .* Uniform\(.*sigma=0.5\)"):
            read_results(tmp_path, noise=noise)


class Own(Uniform):
    """A user's noise."""


class OwnBound(ClopperPearson):
    """A user's bound."""


def test_objects_of_own_classes_must_be_what_a_record_states(tmp_path):
    path = tmp_path / "record"
    certification(noise=Own(sigma=0.5)).recompute(bound=OwnBound(n=1000)).save(path)
    given = {"noise": Own(sigma=0.5), "bound": OwnBound(n=1000)}
    loaded = Certification.load(path, **given)
    assert (type(loaded.noise), type(loaded.bound)) == (Own, OwnBound)
    for name, wrong in (
        ("noise", Own(sigma=5.0)),
        ("noise", Uniform(sigma=0.5)),
        ("bound", OwnBound(n=2000)),
        ("bound", ClopperPearson(n=1000)),
    ):
        with pytest.raises(ValueError, match=f"{name} must be the record's own, Own"):
            Certification.load(path, **{**given, name: wrong})


def test_bound_of_a_record_that_an_older_version_wrote(tmp_path):
    path = tmp_path / "record"
    certification().save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    metadata = json.loads(str(arrays.pop("metadata")))
    del metadata["bound"]["params"]["runner_up"]
    with path.open("wb") as file:
        np.savez(file, metadata=json.dumps(metadata), **arrays)
    assert not Certification.load(path, bound=ClopperPearson()).bound.runner_up
    with pytest.raises(ValueError, match="bound must be the record's own"):
        Certification.load(path, bound=ClopperPearson(runner_up=True))


@pytest.mark.parametrize("y", [[0, 1], [[0, 1, 1]], [None, 1, 1]])
def test_wrong_labels_write_nothing(tmp_path, y):
    message = "y must (be a list of numbers or strings|have shape)"
    with pytest.raises(ValueError, match=message):
        write_results(tmp_path / "new", certification(), y)
    assert not (tmp_path / "new").exists()


def test_only_certifications_are_written(tmp_path):
    record, y = read_results(published(tmp_path))
    with pytest.raises(TypeError, match="got BoundRecord"):
        write_results(tmp_path / "new", record, y)


@pytest.mark.parametrize("fails", ["numpy.save", "rs4a.Certification.save"])
def test_interrupted_write_leaves_no_results(tmp_path, monkeypatch, fails):
    write_results(tmp_path, certification(), [0, 1, 1])

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fails, interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_results(tmp_path, certification(2), [1, 0])
    with pytest.raises(FileNotFoundError, match=r"got no certification\.npz, preds\.npy"):
        read_results(tmp_path)
    write_results(tmp_path, certification(2), [1, 0])
    assert read_results(tmp_path)[1].tolist() == [1, 0]
    assert not list(tmp_path.glob("*.partial"))


def test_own_results_must_fit(tmp_path):
    write_results(tmp_path, certification(), [0, 1, 1])
    np.save(tmp_path / "labels.npy", [0, 1])
    with pytest.raises(ValueError, match=r"labels.npy must have shape \(3,\), got \(2,\)"):
        read_results(tmp_path)
    (tmp_path / "labels.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"got no labels\.npy\."):
        read_results(tmp_path)


# Results of the paper's code


def test_published_results(tmp_path):
    record, y = read_results(published(tmp_path))
    assert isinstance(record, BoundRecord)
    assert str(record.noise) == "Uniform(sigma=0.5)"
    assert (record.dim, record.alpha, record.norm) == (3072, 0.001, 1.0)
    assert y.tolist() == Y
    assert y.dtype == np.int64
    assert record.labels.tolist() == [0, 2, 0, 0]
    np.testing.assert_array_equal(record.proba, SHARES)
    expected = Uniform(sigma=0.5).radius(record.prob_lower, norm=1, dim=3072)
    np.testing.assert_array_equal(record.radius(), expected)


def test_radii_are_never_above_what_was_proved(tmp_path):
    record, _ = read_results(published(tmp_path))
    certain = [0, 1, 3]
    assert (record.prob_lower[certain] <= BOUNDS[certain]).all()
    np.testing.assert_allclose(record.prob_lower[certain], BOUNDS[certain], atol=2e-7)
    assert np.float64(np.float32(0.8)) > 0.8  # so the saved bound itself proves too much


def test_every_float32_is_taken_one_step_down(tmp_path):
    bounds = np.array([0.0, 0.5, 1.0, 0.75], dtype=np.float32)
    shares = np.eye(4, dtype=np.float32)
    record, _ = read_results(published(tmp_path, preds=shares, prob_lb=bounds))
    assert record.prob_lower[0] == 0.0
    below = [0.5 - 2.0**-25, 1.0 - 2.0**-24, 0.75 - 2.0**-24]
    assert record.prob_lower[1:].tolist() == below


def test_float64_bounds_are_kept(tmp_path):
    record, _ = read_results(published(tmp_path, dtype=np.float64))
    np.testing.assert_array_equal(record.prob_lower[[0, 1, 3]], BOUNDS[[0, 1, 3]])


def test_a_bound_of_an_unknown_class_counts_as_0(tmp_path):
    record, _ = read_results(published(tmp_path))
    assert record.prob_lower[2] == 0.0  # classes 0 and 2 got half of the votes each
    assert record.abstained.tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("name", "noise", "dim"),
    [
        ("svhn_laplace_025", Laplace(sigma=0.25), 3072),
        ("ds-imagenet_gaussian_1.0", Gaussian(sigma=1.0), 3072),
        ("mnist_uniform_1.5", Uniform(sigma=1.5), 784),
        ("fashion_uniform_1.5", Uniform(sigma=1.5), 784),
        ("imagenet_uniform_3.5", Uniform(sigma=3.5), 150528),
    ],
)
def test_noise_and_dim_by_the_folder_s_name(tmp_path, name, noise, dim):
    record, _ = read_results(published(tmp_path, name))
    assert (str(record.noise), record.dim) == (str(noise), dim)


def test_noise_and_dim_can_be_given(tmp_path):
    noise = ExpInf(k=10, sigma=0.5)
    folder = published(tmp_path, "anything")
    record, _ = read_results(folder, noise=noise, dim=12, norm=math.inf)
    assert (str(record.noise), record.dim, record.norm) == (str(noise), 12, math.inf)
    with pytest.raises(ValueError, match="noise and dim must both be given"):
        read_results(folder, noise=noise)


def test_noise_that_a_name_does_not_say_wholly(tmp_path):
    folder = published(tmp_path, "cifar_expinf_0.5")
    with pytest.raises(ValueError, match=r"ExpInf noise takes j, k, sigma, got sigma"):
        read_results(folder)
    record, _ = read_results(folder, noise=ExpInf(k=10, sigma=0.5))
    assert record.dim == 3072


def test_unknown_noise(tmp_path):
    with pytest.raises(ValueError, match="noise and dim must both be given"):
        read_results(published(tmp_path, "cifar_brown_0.5"))


@pytest.mark.parametrize("name", ["preds", "labels", "prob_lb"])
def test_missing_files_are_named(tmp_path, name):
    folder = published(tmp_path, **{name: None})
    with pytest.raises(
        FileNotFoundError, match=rf"got no certification\.npz, {name}\.npy\."
    ):
        read_results(folder)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"preds": SHARES[:3]}, r"labels.npy must have shape \(3,\).* got \(4,\)"),
        ({"preds": SHARES[0]}, r"preds.npy must have shape \(n, n_classes\), got \(3,\)"),
        ({"labels": np.zeros(3)}, r"labels.npy must have shape \(4,\).* got \(3,\)"),
        ({"labels": np.full(4, 0.5)}, "labels.npy must hold whole numbers up to 2"),
        ({"labels": np.full(4, 3.0)}, "labels.npy must hold whole numbers up to 2"),
        ({"prob_lb": BOUNDS[:2]}, r"prob_lb.npy must have shape \(4,\).* got \(2,\)"),
        ({"prob_lb": np.float32(BOUNDS) + 0.1}, "prob_lb.npy must hold probabilities"),
        ({"prob_lb": BOUNDS - 1.0}, "prob_lb.npy must hold probabilities"),
        ({"prob_lb": BOUNDS * np.nan}, "prob_lb.npy must hold probabilities"),
        ({"prob_lb": np.ones(4, dtype=int)}, "prob_lb.npy must hold probabilities"),
        ({"preds": SHARES * 1.5}, "proba must be a probability"),
        ({"labels": np.array([0, 1, 2, None])}, "labels.npy is not a whole array"),
    ],
)
def test_wrong_files(tmp_path, arrays, match):
    with pytest.raises(ValueError, match=match):
        read_results(published(tmp_path, **arrays))


def test_damaged_files(tmp_path):
    path = published(tmp_path) / "prob_lb.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"prob_lb\.npy is not a whole array"):
        read_results(path.parent)


# Noises by name


def test_make_noise():
    noise = make_noise("EXPINF", sigma=0.5, k=3, j=1)
    assert noise.get_params() == {"sigma": 0.5, "k": 3, "j": 1, "lambd": None}
    assert str(make_noise("uniformball", lambd=2.0)) == "UniformBall(lambd=2.0)"
    assert str(make_noise("Gaussian", sigma=0.25)) == "Gaussian(sigma=0.25)"
    exact = make_noise("uniform", sigma=0.5, exact=True, levels=16)
    assert str(exact) == "Uniform(exact=True, levels=16, sigma=0.5)"


@pytest.mark.parametrize(
    ("name", "params", "match"),
    [
        ("Noise", {"sigma": 1.0}, "got the name 'Noise'"),
        ("os", {}, "got the name 'os'"),
        ("pareto", {"sigma": 1.0}, "Pareto noise takes a, sigma, got sigma"),
        ("uniform", {"sigma": 1.0, "k": 2}, "Uniform noise takes sigma, got k, sigma"),
        ("uniform", {"sigma": 1.0, "exact": True}, "takes exact, levels, sigma, got exact"),
    ],
)
def test_make_noise_refuses(name, params, match):
    with pytest.raises(ValueError, match=match):
        make_noise(name, **params)


# Classifiers


def small_net(**kwargs):
    torch.manual_seed(0)
    options = {"module__name": "MLP", "module__dataset": "digits", "module__hidden": (32,)}
    return NeuralNetClassifier(
        make_network, verbose=0, **{**options, **kwargs}
    ).initialize()


def save_params(net, path):
    net.save_params(f_params=path, use_safetensors=True)


def save_as_0_1_0(net, path, classes=None, metadata=None):
    """A file of weights with the header that save_checkpoint of version 0.1.0 wrote."""
    labels = list(range(10)) if classes is None else classes
    network = {**net.get_params_for("module"), "input_shape": (1, 8, 8), "n_classes": 10}
    header = {"format": 1, "network": network, "classes": labels, "user": metadata or {}}
    save_file(net.module_.state_dict(), path, metadata={"rs4a": json.dumps(header)})


@pytest.mark.parametrize("classes", [None, list("klmnopqrst")])
def test_classifier_from_checkpoint_votes_as_one_that_was_fitted(tmp_path, digits, classes):
    net = small_net(classes=classes)
    path = tmp_path / "digits_uniform_050.safetensors"
    if classes is None:
        save_params(net, path)
    else:
        save_as_0_1_0(net, path, classes)
    X, y = digits[1][:40], digits[3][:40]
    y = y if classes is None else np.array(classes)[y]
    params = {"bound": ClopperPearson(n=200), "random_state": 3}
    fitted = SmoothedClassifier(FrozenEstimator(net), noise=Uniform(sigma=0.5), **params)
    fitted.fit(X, y)
    restored = SmoothedClassifier.from_checkpoint(path, **params)
    one, other = fitted.certify(X), restored.certify(X)
    np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_array_equal(one.selection_counts, other.selection_counts)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert str(one.noise) == str(other.noise)
    for name in ("input_shape_", "unit_range_", "n_features_in_"):
        assert getattr(fitted, name) == getattr(restored, name)
    assert len(set(one.labels.tolist())) > 1


def test_noise_of_a_checkpoint(tmp_path):
    # Given, else in the metadata of version 0.1.0, else in the name.
    path = tmp_path / "digits_uniform_050.safetensors"
    metadata = {"noise": to_json(ExpInf(k=10, sigma=0.25))}
    save_as_0_1_0(small_net(), path, metadata=metadata)
    assert (
        str(SmoothedClassifier.from_checkpoint(path).noise_) == "ExpInf(k=10, sigma=0.25)"
    )
    laplace = Laplace(sigma=1.0)
    assert SmoothedClassifier.from_checkpoint(path, noise=laplace).noise_.sigma == 1.0
    save_as_0_1_0(small_net(), path, metadata={"noise": "Laplace", "sigma": 0.75})
    assert str(SmoothedClassifier.from_checkpoint(path).noise_) == "Laplace(sigma=0.75)"
    for save in (save_as_0_1_0, save_params):
        save(small_net(), path)
        assert str(SmoothedClassifier.from_checkpoint(path).noise_) == "Uniform(sigma=0.5)"


def test_noise_that_is_not_known(tmp_path):
    path = tmp_path / "net.safetensors"
    for save in (save_as_0_1_0, save_params):
        save(small_net(), path)
        with pytest.raises(ValueError, match="path must say"):
            SmoothedClassifier.from_checkpoint(path)
    save_as_0_1_0(small_net(), path, metadata={"noise": {"class": "os", "params": {}}})
    with pytest.raises(ValueError, match="names the class 'os'"):
        SmoothedClassifier.from_checkpoint(path)


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"class": "Uniform"},
        {"class": ["Uniform"], "params": {"sigma": 0.5}},
        {"class": "Uniform", "params": None},
        {"class": "Uniform", "params": [0.5]},
        {"class": "Uniform", "params": {"sigma": 0.5, "k": 3}},
    ],
)
def test_noise_that_is_no_noise(tmp_path, stored):
    path = tmp_path / "digits_uniform_050.safetensors"
    save_as_0_1_0(small_net(), path, metadata={"noise": stored})
    with pytest.raises(ValueError, match="^The file (must name|names|gives)"):
        SmoothedClassifier.from_checkpoint(path)


@pytest.mark.parametrize("metadata", [{"noise": 5}, {"noise": ["Uniform"], "sigma": 1.0}])
def test_noise_that_is_no_name(tmp_path, metadata):
    path = tmp_path / "digits_uniform_050.safetensors"
    save_as_0_1_0(small_net(), path, metadata=metadata)
    with pytest.raises(ValueError, match="noise must be one of"):
        SmoothedClassifier.from_checkpoint(path)


def test_weights_alone_need_their_shape(tmp_path, digits):
    net = small_net(module__mean=(0.1,), module__std=(0.5,))
    path = tmp_path / "digits_uniform_050.pt"
    torch.save(net.module_.state_dict(), path)
    network = {"name": "MLP", "input_shape": (1, 8, 8)}
    restored = SmoothedClassifier.from_checkpoint(path, network=network, random_state=0)
    assert restored.input_shape_ == (1, 8, 8)
    X = digits[1][:5]
    expected = net.module_(torch.from_numpy(X)).detach()
    got = restored.estimator_.module_(torch.from_numpy(X)).detach()
    assert torch.equal(expected, got)


def test_folders_of_the_paper_s_code_are_not_written_to(tmp_path):
    np.save(tmp_path / "prob_lb.npy", np.array([0.9]))
    with pytest.raises(ValueError, match="must not hold results of the paper's code"):
        write_results(tmp_path, certification(), [0, 1, 1])
    assert [path.name for path in tmp_path.iterdir()] == ["prob_lb.npy"]
