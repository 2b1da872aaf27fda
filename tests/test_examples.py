"""The tutorial runs, and shows what its text says."""

import re
import runpy
import sys
from pathlib import Path

from matplotlib import pyplot as plt

EXAMPLES = Path(__file__).parents[1] / "examples"


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


def test_floating_point(monkeypatch, tmp_path):
    figure = tmp_path / "floating_point.png"
    monkeypatch.setattr(sys, "argv", ["plot_floating_point.py", "--figure", str(figure)])
    names = runpy.run_path(str(EXAMPLES / "plot_floating_point.py"), run_name="__main__")
    plt.close("all")
    assert figure.stat().st_size > 0
    plain, exact = (names["certifications"][name] for name in ("plain", "exact"))
    assert names["distance"] == 0.5
    # Each of the two plain certificates covers the other input, with another class.
    assert plain.labels.tolist() == [1, 0]
    assert (plain.radius() > 0.5).all()
    assert exact.labels.tolist() == [0, 0]
    assert (exact.counts == [10_000, 0]).all()
    assert names["contradiction"] == {"plain": True, "exact": False}
