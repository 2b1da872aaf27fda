"""Certified accuracy after every epoch, and what skorch's callbacks make of it."""

import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import make_net
from sklearn.base import clone
from skorch.callbacks import Checkpoint, EarlyStopping, EpochScoring
from skorch.dataset import Dataset, ValidSplit
from skorch.utils import noop

from rs4a import CertificationWarning, SmoothedClassifier
from rs4a.bounds import ClopperPearson
from rs4a.callbacks import _evenly, certified_epoch_scoring
from rs4a.metrics import certified_accuracy_score
from rs4a.noises import Gaussian, Uniform
from rs4a.noises.streams import stream_keys
from rs4a.objectives import Stability


@pytest.fixture(scope="module")
def small(digits):
    return digits[0][:500], digits[2][:500]


def classifier(*callbacks, noise=None, **kwargs):
    net = make_net(
        train_split=ValidSplit(5, stratified=True), callbacks=list(callbacks), **kwargs
    )
    return SmoothedClassifier(net, noise=noise or Uniform(sigma=0.3), random_state=0)


def test_history_has_the_certified_accuracy_of_every_epoch(small):
    scoring = certified_epoch_scoring(radius=0.1, norm=1, n_images=50)
    net = classifier(("certified", scoring), max_epochs=4).fit(*small).estimator_
    scores = np.array(net.history[:, "certified_accuracy"])
    assert scores[-1] > scores[0]
    assert scores[-1] > 0.5
    np.testing.assert_allclose(scores * 50, np.rint(scores * 50), atol=1e-9)
    assert net.history[0, "certified_accuracy_best"]


def test_score_is_the_certified_accuracy_of_the_validation_images(small):
    """All validation images, certified by the classifier itself: the same but for luck."""
    radius = 0.2
    scoring = certified_epoch_scoring(radius=radius, n_images=10**6, n_votes=2000)
    clf = classifier(("certified", scoring), max_epochs=6).fit(*small)
    net = clf.estimator_
    _, valid = net.train_split(Dataset(*small), small[1])
    X, y = small[0][valid.indices], small[1][valid.indices]
    certification = clf.set_params(bound=ClopperPearson(n=2000)).certify(X)
    expected = certified_accuracy_score(y, certification, radius=radius)
    assert net.history[-1, "certified_accuracy"] == pytest.approx(expected, abs=0.03)
    assert 0.2 < expected < 1


def test_certificates_are_by_other_votes(small, monkeypatch):
    """Else the net whose certificates are luckiest would be kept."""
    keys = []

    def noted(X, seed, *, purpose):
        keys.append((X, stream_keys(X, seed, purpose=purpose)))
        return keys[-1][1]

    monkeypatch.setattr("rs4a.certify.stream_keys", noted)
    scoring = certified_epoch_scoring(radius=0.2, n_images=20)
    classifier(("certified", scoring), max_epochs=2).fit(*small)
    (X, first), (_, second) = keys
    np.testing.assert_array_equal(first, second)
    for seed in range(10):
        assert not np.isin(first, stream_keys(X, seed)).any()


def test_images_are_at_even_distances(small):
    """Sorted data would else show one class only."""
    X, y = small
    order = np.argsort(y, kind="stable")
    images, targets = _evenly(X[order], y[order], 20)
    assert len(images) == 20
    assert set(targets) == set(range(10))


def test_datasets_are_indexed(small):
    """skorch hands its own Dataset over where it cannot unpack it."""
    images, targets = _evenly(Dataset(*small), None, 7)
    expected, labels = _evenly(*small, 7)
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(targets, labels)


def test_nets_that_train_by_themselves_are_refused(small):
    net = make_net(
        train_split=ValidSplit(5),
        callbacks=[("certified", certified_epoch_scoring(radius=0.1))],
    )
    with pytest.raises(ValueError, match="trained under noise, by a SmoothedClassifier"):
        net.fit(small[0], small[1].astype(np.int64))


def test_early_stopping_monitors_it(small, tmp_path):
    """The best epoch's weights come back, and training ends soon after."""
    stop = EarlyStopping(
        "certified_accuracy", lower_is_better=False, patience=3, load_best=True, sink=noop
    )
    clf = classifier(
        ("certified", certified_epoch_scoring(radius=0.2, n_images=60)),
        ("stop", stop),
        ("save", Checkpoint("certified_accuracy_best", dirname=tmp_path)),
        max_epochs=60,
        lr=0.03,
    ).fit(*small)
    history = clf.estimator_.history
    scores = np.array(history[:, "certified_accuracy"])
    assert len(history) < 60
    assert scores.argmax() == len(scores) - 4
    saved = torch.load(tmp_path / "params.pt", weights_only=True)
    for name, value in clf.estimator_.module_.state_dict().items():
        assert torch.equal(saved[name], value)


def test_it_changes_nothing_of_the_training(small):
    nets = [
        classifier(*callbacks, max_epochs=2).fit(*small).estimator_
        for callbacks in ([], [("certified", certified_epoch_scoring(radius=0.1))])
    ]
    weights = [net.module_.layers[0].weight for net in nets]
    assert torch.equal(*weights)


@pytest.mark.parametrize("noise", [Gaussian(sigma=0.2), Uniform(sigma=0.2)], ids=str)
def test_noise_is_that_of_the_training(small, noise):
    """The noise need not be repeated, so that a search over noises takes one callback."""
    scoring = certified_epoch_scoring(radius=0.1, n_images=30)
    clf = classifier(("certified", scoring), noise=noise, max_epochs=5)
    clf.set_params(objective=Stability(weight=1.0))
    assert clf.fit(*small).estimator_.history[-1, "certified_accuracy"] > 0.4


def test_callback_copies_and_pickles():
    scoring = certified_epoch_scoring(radius=0.5, norm=2, name="certified")
    for each in (
        copy.deepcopy(scoring),
        pickle.loads(pickle.dumps(scoring)),
        clone(scoring),
    ):
        assert isinstance(each, EpochScoring)
        assert each.name == "certified"
        assert each.scoring.radius == 0.5


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"radius": -1.0}, "radius must be a float in the range .* got -1.0"),
        ({"radius": float("nan")}, "radius must be a float in the range .* got nan"),
        ({"radius": "0.5"}, "radius must be a float in the range .* got '0.5'"),
        ({"radius": 0.5, "norm": 3}, "norm must be 1, 2 or inf"),
        ({"radius": 0.5, "n_images": 0}, "n_images == 0, must be >= 1"),
        ({"radius": 0.5, "n_votes": 0}, "parameter of ClopperPearson must be an int"),
        ({"radius": 0.5, "n_votes": 9}, "n_votes must be enough .* got 9"),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        certified_epoch_scoring(**kwargs)


def test_radius_out_of_reach_warns(small):
    """Early stopping by a constant 0 would keep the first epoch's weights."""
    scoring = certified_epoch_scoring(radius=0.52, norm=1, n_images=10, n_votes=100)
    clf = classifier(("certified", scoring), max_epochs=1)  # lambda = 0.52
    with pytest.warns(CertificationWarning, match="gives 0 in every epoch"):
        clf.fit(*small)
