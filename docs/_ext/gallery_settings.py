"""In which order the gallery shows the examples, and what each is told when it runs."""

import tempfile
from pathlib import Path
from typing import Any

#: From the question that most people have to special ones; others follow by name.
ORDER = [
    "plot_tutorial",
    "plot_sigma_sweep",
    "plot_noise_gallery",
    "plot_robust_radii",
    "plot_attack_bounds",
    "plot_scikit_learn_models",
    "plot_sequential_votes",
    "plot_halving_votes",
    "plot_splitting",
    "plot_box_certificates",
    "plot_floating_point",
    "plot_fine_tuning",
    "plot_self_training",
    "plot_own_noise",
]

FIGURES = tempfile.TemporaryDirectory(prefix="rs4a-gallery-")


def place(filename: str) -> tuple[int, str]:
    """Sort key of an example."""
    name = Path(filename).stem
    return ORDER.index(name) if name in ORDER else len(ORDER), name


def arguments(gallery_conf: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
    """Save figures where nothing stays; the gallery takes them from matplotlib."""
    folder = Path(FIGURES.name)
    name = Path(script_vars["src_file"]).stem
    if name == "plot_tutorial":
        return ["--figures", str(folder)]
    return ["--figure", str(folder / f"{name}.png")]
