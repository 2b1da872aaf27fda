"""Examples that are cheap run, and show what their texts say.

The others run when the documentation is built.
"""

import re
import runpy
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest
from matplotlib import pyplot as plt

from rs4a.metrics import certified_accuracy_score
from rs4a.testing import AdditiveNoiseContract

pytestmark = pytest.mark.pages
EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def run_example(tmp_path_factory):
    """Runs an example, checks that it saves its figure, and returns its names."""

    def run(name):
        figure = tmp_path_factory.mktemp("figures") / f"{name}.png"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [f"plot_{name}.py", "--figure", str(figure)])
            names = runpy.run_path(str(EXAMPLES / f"plot_{name}.py"), run_name="__main__")
        plt.close("all")
        assert figure.stat().st_size > 0
        return names

    return run


def test_tutorial(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["plot_tutorial.py", "--figures", str(tmp_path)])
    names = runpy.run_path(str(EXAMPLES / "plot_tutorial.py"), run_name="__main__")
    plt.close("all")
    figures = {path.name for path in tmp_path.iterdir()}
    assert figures == {
        "tutorial_noise.png", "tutorial_radii.png", "tutorial_certified_accuracy.png"
    }  # fmt: skip
    printed = capsys.readouterr().out
    measured = re.findall(r"sigma measured ([\d.]+)", printed)
    assert all(0.98 < float(sigma) < 1.02 for sigma in measured)
    assert len(measured) == 3
    # Uniform noise has the largest l1 radii at moderate probabilities, Laplace near 1.
    gaussian, laplace, uniform = (
        noise.radius([0.6, 0.999], norm=1, dim=names["dim"]) for noise in names["noises"]
    )
    assert uniform[0] > max(gaussian[0], laplace[0])
    assert laplace[1] > max(gaussian[1], uniform[1])
    labels = names["y_test"][: names["n_test"]]
    for certification in names["certifications"].values():
        certified = certification.radius() >= 0.45
        assert (certified & (certification.labels == labels)).mean() > 0.6


def test_floating_point(run_example):
    names = run_example("floating_point")
    plain, exact = (names["certifications"][name] for name in ("plain", "exact"))
    assert names["distance"] == 0.5
    # Each of the two plain certificates covers the other input, with another class.
    assert plain.labels.tolist() == [1, 0]
    assert (plain.radius() > 0.5).all()
    assert exact.labels.tolist() == [0, 0]
    assert (exact.counts == [10_000, 0]).all()
    assert names["contradiction"] == {"plain": True, "exact": False}


def test_noise_gallery(run_example):
    names = run_example("noise_gallery")
    table = names["table"]
    splitting = table.index.str.startswith("Splitting")
    assert (table["changed by"][~splitting] - names["SIGMA"]).abs().max() < 0.01
    assert (table["changed by"][splitting] < 0.8 * names["SIGMA"]).all()
    # Noise of one norm is nearly the independent noise of that norm.
    for norm, independent, radial in [
        ("l1", "Uniform()", ["ExpInf(k=1)", "PowInf(a=55296)"]),
        ("l2", "Gaussian()", ["Exp2(k=2)", "Pow2(a=27648, k=2)"]),
        ("l1", "Laplace()", ["Exp1(k=1)"]),
    ]:
        np.testing.assert_allclose(
            table[norm][radial], table[norm][independent], rtol=0.001
        )


def test_box_certificates(run_example):
    names = run_example("box_certificates")
    plain, in_box = names["plain"], names["in_box"]
    assert (plain.counts == in_box.counts).all()
    assert (in_box.radius() >= plain.radius()).all()
    assert 1.1 < names["gain"].max() < 1.386
    inside = (plain.radius() > 0) & ~names["beyond"]
    assert names["gain"][inside].max() == 1.0
    assert plain.radius().max() < names["lambd"] < in_box.radius().max()


def test_sequential_votes(run_example):
    names = run_example("sequential_votes")
    assert names["equal"] > 5 * names["total"]
    fixed, sequential = (
        certified_accuracy_score(names["y_test"], names[record], radius=names["RADII"])
        for record in ("fixed", "sequential")
    )
    assert (sequential >= fixed - 0.03).all()
    # Those that take most votes are those just above a probability that is needed.
    doubtful = names["share"][names["sequential"].n_votes > 8000]
    above = doubtful[:, np.newaxis] - names["needed"]
    assert (((above > 0) & (above < 0.05)).any(axis=1)).all()


def test_splitting(run_example):
    names = run_example("splitting")
    uniform, independent, deterministic = names["certifications"].values()
    assert deterministic.alpha == 0
    assert not deterministic.abstained.any()
    assert (deterministic.n_votes == 55).all()
    scores = [
        certified_accuracy_score(names["y_test"], record, radius=1.5)
        for record in (uniform, independent, deterministic)
    ]
    assert scores[0] + 0.1 < scores[1] < scores[2] - 0.1


def test_scikit_learn_models(run_example):
    names = run_example("scikit_learn_models")
    boosting, forest, perceptron = (
        certified_accuracy_score(names["y_test"], record, radius=[0.05, 0.4, 0.6])
        for record in names["certifications"].values()
    )
    assert (boosting[1:] > forest[1:]).all()
    assert (forest[1:] > perceptron[1:] + 0.03).all()
    assert np.ptp([boosting[0], forest[0], perceptron[0]]) < 0.07


@pytest.fixture(scope="module")
def own_noise(run_example):
    return run_example("own_noise")


def test_own_noise(own_noise):
    table = {
        type(noise).__name__: noise.radius([0.6, 0.75, 0.91, 0.92, 0.947, 0.99], 1, 64)
        for noise in own_noise["noises"]
    }
    assert (table["Cosine"][:3] < table["Uniform"][:3]).all()
    assert (table["Cosine"][:3] > table["Gaussian"][:3]).all()
    for other in ("Uniform", "Gaussian", "Laplace"):
        assert (table["Cosine"][3:5] > table[other][3:5]).all()
    assert table["Cosine"][5] < min(table["Gaussian"][5], table["Laplace"][5])


def test_radius_of_own_noise(own_noise):
    noise = own_noise["Cosine"](lambd=1.0)
    near = 2.0 ** -np.arange(2, 54)
    probabilities = np.concatenate([np.linspace(0.5, 1, 101), 1 - near, 0.5 + near])
    radii = noise.radius(probabilities, norm=1, dim=64)
    with mpmath.workdps(60):
        for probability, radius in zip(probabilities, radii, strict=True):
            true = 2 / mpmath.pi * mpmath.asin(2 * mpmath.mpf(float(probability)) - 1)
            assert true * (1 - mpmath.mpf(2) ** -45) <= radius <= true


class TestOwnNoise(AdditiveNoiseContract):
    @pytest.fixture
    def noise(self, own_noise, monkeypatch):
        kind = own_noise["Cosine"]
        monkeypatch.setattr(sys.modules["__main__"], "Cosine", kind, raising=False)
        return kind(sigma=0.5)  # which pickle finds where the class says it is
