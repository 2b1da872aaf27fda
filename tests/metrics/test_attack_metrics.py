"""Accuracy under attack, above what certificates prove; and the figure of both."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Threshold, frozen, make_net
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import TensorDataset

from rs4a import SmoothedClassifier
from rs4a.attacks import PGD
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.metrics import AttackDisplay, attack_score, certified_accuracy_score
from rs4a.metrics.scores import binomial_interval
from rs4a.noises import Clean, ExpInf, Gaussian, Uniform

RADII = [0.0, 0.25, 0.5, 1.0, 2.0, 4.0]


def threshold_classifier(n=2000):
    """The smoothed classifier of a threshold at 0 is that threshold: all is known."""
    clf = SmoothedClassifier(
        frozen(Threshold, [0, 1], criterion=torch.nn.CrossEntropyLoss),
        noise=Gaussian(sigma=0.5), bound=ClopperPearson(n=n), n_selection=2000,
        random_state=0,
    )  # fmt: skip
    X = np.array([[-1.0, 0], [-0.6, 0], [-0.3, 0], [0.2, 0], [0.7, 0], [1.5, 0]])
    return (
        clf.fit(X, [0, 0, 0, 1, 1, 1]),
        X.astype(np.float32),
        np.array([0, 0, 0, 1, 1, 0]),
    )


def test_inputs_are_lost_beyond_their_distance_from_the_boundary():
    """The last input is wrong from the start; the distances are 1, 0.6, 0.3, 0.2, 0.7."""
    clf, X, y = threshold_classifier(n=20_000)
    attack = PGD(norm=2, n_samples=256, random_state=0)
    radii = [0.0, 0.15, 0.25, 0.35, 0.65, 0.75, 1.1]
    scores = attack_score(clf, X, y, attack=attack, radius=radii, bound=clf.bound)
    np.testing.assert_allclose(scores * 6, [5, 5, 4, 3, 2, 1, 0])


@pytest.mark.parametrize(
    ("noise", "norm"), [("Gaussian", 2), ("Uniform", 1), ("Laplace", np.inf)]
)
def test_score_lies_above_certified_accuracy(fitted, digits, noise, norm):
    clf, X, y = fitted[noise], digits[1][:60], digits[3][:60]
    attack = PGD(norm=norm, steps=10, n_samples=16, box=(0, 1), random_state=0)
    certified = certified_accuracy_score(y, clf.certify(X), radius=RADII, norm=norm)
    attacked = attack_score(clf, X, y, attack=attack, radius=RADII)
    assert (attacked >= certified).all()
    assert (np.diff(attacked) <= 0).all()
    assert attacked[-1] < attacked[0] - 0.1  # the attack does something


def test_shape_and_order_of_radii_are_the_caller_s(fitted, digits):
    clf, X, y = fitted["Uniform"], digits[1][:20], digits[3][:20]
    attack = PGD(steps=5, n_samples=8, random_state=0)
    ordered = attack_score(clf, X, y, attack=attack, radius=[0.5, 2.0])
    one = attack_score(clf, X, y, attack=attack, radius=2.0)
    assert isinstance(one, float)
    mixed = attack_score(clf, X, y, attack=attack, radius=[2.0, 0.5, 2.0])
    np.testing.assert_array_equal(mixed, ordered[[1, 0, 1]])
    assert one >= ordered[1]  # fewer tries on the way


def test_abstentions_are_not_lost():
    """So few votes certify nothing: an attack that cannot be proved counts for nothing."""
    clf, X, y = threshold_classifier(n=9)
    attack = PGD(norm=2, random_state=0)
    with pytest.warns(UserWarning, match="certifies nothing"):
        score = attack_score(clf, X, y, attack=attack, radius=5.0, bound=clf.bound)
    assert score == 1.0
    assert attack_score(clf, X, y, attack=attack, radius=5.0) == 0.0


def test_judging_takes_few_votes_and_leaves_the_classifier_as_it_is(monkeypatch):
    clf, X, y = threshold_classifier(n=10**6)
    votes, certify = [], SmoothedClassifier.certify

    def counted(self, X):
        record = certify(self, X)
        votes.extend(record.n_votes)
        return record

    monkeypatch.setattr(SmoothedClassifier, "certify", counted)
    before = clf.get_params()
    attack_score(clf, X, y, attack=PGD(norm=2, random_state=0), radius=5.0)
    assert clf.get_params() == before
    assert max(votes) <= 1000
    assert np.median(votes) < 200


def test_an_input_that_is_lost_stays_lost_and_is_not_attacked_again():
    clf, X, y = threshold_classifier()
    calls = []

    class Once:
        norm = 2.0

        def perturb(self, classifier, X, y, *, radius):
            """Turns the first input, at the smallest distance only."""
            calls.append(len(X))
            moved = np.array(X)
            if len(calls) == 1:
                moved[0, 0] = -moved[0, 0]
            return moved

    scores = attack_score(clf, X[:5], y[:5], attack=Once(), radius=[1.0, 2.0, 3.0])
    np.testing.assert_allclose(scores, [0.8, 0.8, 0.8])
    assert calls == [5, 4, 4]


def test_searches_frames_and_tensors(digits):
    X, X_test, y, y_test = digits
    X, X_test = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
    names = [f"pixel {i}" for i in range(64)]
    clf = SmoothedClassifier(
        make_net(max_epochs=3), noise=Uniform(sigma=0.2), random_state=0,
        bound=ConfidenceSequence(max_n=500),
    )  # fmt: skip
    search = GridSearchCV(clf, {"alpha": [0.01]}, cv=2).fit(
        pd.DataFrame(X[:300], columns=names), y[:300]
    )
    attack = PGD(steps=3, n_samples=4, random_state=0)
    frame = pd.DataFrame(X_test[:10], columns=names)
    assert 0 <= attack_score(search, frame, y_test[:10], attack=attack, radius=1.0) <= 1
    clf.fit(X[:300], y[:300])
    tensor, labels = torch.from_numpy(X_test[:10]), torch.from_numpy(y_test[:10])
    assert 0 <= attack_score(clf, tensor, labels, attack=attack, radius=1.0) <= 1


def test_inputs_of_a_dataset(fitted, digits):
    clf, X, y = fitted["Uniform"], digits[1][:20], digits[3][:20]
    dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    attack = PGD(norm=1, steps=3, n_samples=4, random_state=0)
    expected = attack_score(clf, X, y, attack=attack, radius=[0.0, 3.0])
    assert expected[1] < expected[0]
    got = attack_score(clf, dataset, y, attack=attack, radius=[0.0, 3.0])
    np.testing.assert_array_equal(got, expected)
    display = AttackDisplay.from_estimator(clf, dataset, y, attack=attack, radii=[3.0])
    np.testing.assert_array_equal(display.attacked, expected)


def test_what_has_no_meaning_is_refused(fitted, digits):
    clf, X, y = fitted["Uniform"], digits[1][:5], digits[3][:5]
    for radius in (-1.0, np.nan, np.inf, [0.5, -1]):
        with pytest.raises(ValueError, match="radius must be finite and at least 0"):
            attack_score(clf, X, y, attack=PGD(), radius=radius)
    pipeline = make_pipeline(StandardScaler(), clf)
    with pytest.raises(ValueError, match="Pipeline"):
        attack_score(pipeline, X, y, attack=PGD(), radius=1.0)


# The figure


def test_display_draws_both_bounds(fitted, digits):
    clf, X, y = fitted["Uniform"], digits[1][:30], digits[3][:30]
    attack = PGD(norm=1, steps=5, n_samples=8, random_state=0)
    display = AttackDisplay.from_estimator(clf, X, y, attack=attack, radii=[0.5, 0.25, 2.0])
    np.testing.assert_array_equal(display.radii, [0.0, 0.25, 0.5, 2.0])
    assert (display.attacked >= display.certified).all()
    certified = certified_accuracy_score(y, clf.certify(X), radius=display.radii, norm=1)
    np.testing.assert_array_equal(display.certified, certified)
    lower, upper = display.lines_
    np.testing.assert_array_equal(lower.get_ydata(), display.certified)
    np.testing.assert_array_equal(upper.get_ydata(), display.attacked)
    assert lower.get_linestyle() != upper.get_linestyle()
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["certified accuracy", "accuracy under attack", "not known"]
    assert display.ax_.get_xlabel() == "l1 radius"
    assert display.n_inputs == 30


def corners(band):
    return {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}


def test_bands_of_both_accuracies():
    radii, certified = np.array([0.0, 0.5, 1.0]), np.array([0.6, 0.4, 0.0])
    attacked = np.array([0.8, 0.6, 0.0])
    display = AttackDisplay(radii, certified, attacked, norm=2, n_inputs=10)
    lower, upper = display.plot(confidence=0.9).bands_
    low, high = (
        set(zip(radii, e, strict=True)) for e in binomial_interval(certified, 10, 0.9)
    )
    # Certificates end, whatever the inputs are; that an attack turns them all is chance.
    assert corners(lower) >= {end for end in low | high if end[0] < 1.0}
    assert max(radius for radius, _ in corners(lower)) == 0.5
    low, high = binomial_interval(attacked, 10, 0.9)
    assert corners(upper) >= {*zip(radii, low, strict=True), *zip(radii, high, strict=True)}
    # What an attack leaves at a radius holds beyond it, what is certified holds before.
    assert corners(upper) >= {(0.5, high[0]), (1.0, high[1])}
    assert (0.0, binomial_interval(0.4, 10, 0.9)[1]) in corners(lower)
    assert display.plot(confidence=None).bands_ == []
    assert AttackDisplay(radii, certified, attacked).plot().bands_ == []
    plt.close("all")


def test_display_takes_the_norm_of_the_attack(fitted, digits):
    clf, X, y = fitted["Uniform"], digits[1][:5], digits[3][:5]
    attack = PGD(norm=2, steps=2, n_samples=2, random_state=0)
    assert AttackDisplay.from_estimator(clf, X, y, attack=attack, radii=[1]).norm == 2
    own = PGD(steps=2, n_samples=2, random_state=0)
    assert AttackDisplay.from_estimator(clf, X, y, attack=own, radii=[1]).norm == 1
    with pytest.raises(ValueError, match="norm must be that of the attack, l2, got 1"):
        AttackDisplay.from_estimator(clf, X, y, attack=attack, radii=[1], norm=1)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize(
    "noise", [Uniform(sigma=0.5), Gaussian(sigma=0.5), ExpInf(sigma=0.5), Clean()], ids=str
)
def test_wrong_labels_are_lost_in_any_norm_and_dimension(noise, norm):
    """A small radius in one norm may be out of reach in another: it must not count."""
    net = frozen(Threshold, [0, 1], criterion=torch.nn.CrossEntropyLoss, module__t=100.0)
    X, y = np.zeros((4, 3072), dtype=np.float32), np.array([1, 1, 1, 0])
    clf = SmoothedClassifier(net, noise=noise, norm=norm, random_state=0).fit(X, y)
    attack = PGD(norm=norm, steps=1, n_samples=1, random_state=0)
    assert attack_score(clf, X, y, attack=attack, radius=0.0) == 0.25


def test_labels_are_compared_with_their_own_kind(fitted, digits):
    clf, X, y = fitted["Uniform"], digits[1][:5], digits[3][:5]
    with pytest.raises(ValueError, match="y must have labels as the certification"):
        attack_score(clf, X, y.astype(str), attack=PGD(), radius=0.5)
    with pytest.raises(ValueError, match="y must have 5 entries"):
        attack_score(clf, X, y[:4], attack=PGD(), radius=0.5)
    with pytest.raises(NotFittedError):
        attack_score(SmoothedClassifier(), X, y, attack=PGD(), radius=0.5)


def test_bad_radii_are_refused_before_anything_is_certified(digits):
    with pytest.raises(ValueError, match="radius must be finite"):
        AttackDisplay.from_estimator(
            SmoothedClassifier(), digits[1], digits[3], attack=PGD(), radii=[-1]
        )
    with pytest.raises(ValueError, match="confidence must be"):
        AttackDisplay.from_estimator(
            SmoothedClassifier(),
            digits[1],
            digits[3],
            attack=PGD(),
            radii=[1],
            confidence=2,
        )


def test_the_attack_is_in_the_classifier_s_norm():
    """An attack without a norm takes the classifier's, whatever judges its success."""
    clf, X, y = threshold_classifier()
    clf.set_params(norm=np.inf)
    seen = []

    class Spy:
        norm = None

        def perturb(self, classifier, X, y, *, radius):
            seen.append(classifier.norm)
            return np.array(X)

    attack_score(clf, X, y, attack=Spy(), radius=1.0)
    assert seen == [np.inf]
    assert AttackDisplay.from_estimator(clf, X, y, attack=PGD(), radii=[0.1]).norm == np.inf


def test_names_of_columns_in_frames_of_polars():
    polars = pytest.importorskip("polars")
    X, y = load_iris(return_X_y=True)
    frame = polars.DataFrame((X / 8).astype("float32"), schema=list("abcd"))
    clf = SmoothedClassifier(noise=Gaussian(sigma=0.1), random_state=0)
    clf.set_params(bound=ClopperPearson(n=100)).fit(frame, y)
    attack = PGD(norm=2, steps=2, random_state=0)
    score = attack_score(clf, frame[:20], y[:20], attack=attack, radius=[0.0, 0.05])
    pandas = pd.DataFrame(frame.to_numpy(), columns=list("abcd"))
    expected = attack_score(clf, pandas[:20], y[:20], attack=attack, radius=[0.0, 0.05])
    np.testing.assert_array_equal(score, expected)
