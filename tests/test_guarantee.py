"""What is proven, in words: who reads them signs for them."""

import pytest
from sklearn.ensemble import RandomForestClassifier

from rs4a import SmoothedClassifier
from rs4a.noises import Gaussian, Splitting, Uniform
from rs4a.records.guarantee import guarantee_in_words


@pytest.mark.parametrize(
    ("alpha", "words"),
    [
        (0.001, "at least 0.999 over"),
        (0.05, "at least 0.95 over"),
        (0.0013, "at least 0.9987 over"),
        (1e-10, "at least 1 - 1e-10 over"),  # which is not 1
        (1e-300, "at least 1 - 1e-300 over"),
    ],
)
def test_probability(alpha, words):
    sentence = guarantee_in_words(Uniform(sigma=1.0), alpha=alpha, norm=1)
    assert f"with probability {words} the noise, for each input separately." in sentence


def test_norm_and_box():
    plain = guarantee_in_words(Gaussian(sigma=1.0), alpha=0.1, norm=2)
    assert "by less than its certified radius, in l2 norm, alters the answer" in plain
    boxed = guarantee_in_words(Uniform(sigma=1.0), alpha=0.1, norm=1, box=(0, 0.5))
    assert "change of an input that leaves it in [0, 0.5] by less than" in boxed
    exact = Uniform(sigma=1.0, exact=True, levels=16)
    both = guarantee_in_words(exact, alpha=0.1, norm=1, box=(0, 1))
    assert "input that leaves it in [0, 1] and on multiples of 1/16 by less" in both


def test_nothing_is_left_to_chance_under_deterministic_noise():
    noise = Splitting(sigma=1.0, deterministic=True)
    words = guarantee_in_words(noise, alpha=0.001, norm=1)
    assert "probability" not in words
    assert "input that leaves it on multiples of 1/255 by less than" in words
    assert "all views of the noise vote" in words


@pytest.mark.parametrize("base", [None, RandomForestClassifier()])
def test_html_of_a_classifier(base):
    html = SmoothedClassifier(base, noise=Uniform(sigma=0.5), norm=2)._repr_html_()
    assert html.startswith(
        "<div><p>Certificates under Uniform(sigma=0.5) state: No change of an input by"
    )
    assert "probability at least 0.999" in html
    assert "sk-toggleable" in html  # scikit-learn's diagram
    assert (
        SmoothedClassifier()
        ._repr_html_()
        .startswith("<div><p>Certificates under Gaussian(sigma=0.25) state: ")
    )
    bundle = SmoothedClassifier()._repr_mimebundle_()
    assert "probability at least" in bundle["text/html"]


def test_html_of_a_fitted_classifier_is_of_the_noise_of_the_fit(fitted):
    clf = fitted["Uniform"]
    before = clf.noise
    try:
        clf.set_params(noise=Gaussian(sigma=7.0))
        assert clf._repr_html_().startswith(
            "<div><p>Certificates under Uniform(sigma=0.3) state: "
        )
    finally:
        clf.set_params(noise=before)


@pytest.mark.parametrize(
    "params",
    [
        {"noise": "gaussian"},
        {"norm": 3},
        {"alpha": "small"},
        {"box": 1},
        {"box": (0,)},
        {"box": {}},
    ],
)
def test_html_of_bad_parameters_raises_nothing(params):
    """As a repr: `fit` refuses them."""
    assert "sk-toggleable" in SmoothedClassifier(**params)._repr_html_()


def test_boxes_are_stated_to_their_last_digit():
    words = guarantee_in_words(Uniform(sigma=1.0), alpha=0.1, norm=1, box=(0, 0.9999999))
    assert "in [0, 0.9999999] by" in words
