"""Tables and figures from certified runs, those of these scripts or of the paper's code.

    python examples/reproduce/analyze.py runs --norm l1 --output figures

reads every folder below ``runs`` that holds results and writes the paper's Table 1 (best
certified accuracy over sigma at each radius, ``table.md`` and ``table.tex``), its figures,
and all numbers as ``accuracies.csv``. With ``--box 0 1`` radii are against attacks that
stay in this range, for noises that have such radii: Uniform, independent Splitting. With
``--propagation-sigma 1.0`` it also draws how far noise of that sigma spreads through the
layers of the nets, on images of ``--dataset``.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from common import NORMS, add_data_options, classifier_file, load
from matplotlib import pyplot as plt

from rs4a import SmoothedClassifier
from rs4a.metrics import (
    AccuracyAgainstSigmaDisplay,
    EnvelopeDisplay,
    NoisePropagationDisplay,
    PredictionDisplay,
    SigmaCurvesDisplay,
    TrainingLossDisplay,
    certified_accuracy_frame,
    certified_accuracy_table,
    format_accuracy_table,
    noise_name,
)
from rs4a.records import read_results

#: Images on which the spread of noise is measured.
N_IMAGES = 20


def read_all(runs):
    """Results by folder; folders without whole results are left out, with a word."""
    results = {}
    for folder in sorted(path for path in runs.iterdir() if path.is_dir()):
        try:
            results[folder] = read_results(folder)
        except (FileNotFoundError, ValueError) as error:
            print(f"{folder} is left out: {error}")
    if not results:
        sys.exit(f"No folder in {runs} holds results: certify.py makes them.")
    return results


def in_box(record, y, box):
    """A result about attacks in a box, where there is such a certificate for its noise."""
    known = record.noise is not None and record.noise.has_box_radius
    return (replace(record, box=box) if known else record), y


def name_of(folder, result):
    """Kind of the noise of a run, and how its net was trained where certify.py wrote it."""
    path = folder / "scores.json"
    return json.loads(path.read_text())["noise"] if path.exists() else noise_name(result[0])


def check_different(folders, names, results):
    """Refuse two runs of which no figure could tell which is which."""
    seen = {}
    for folder, name, (record, _) in zip(folders, names, results, strict=True):
        other = seen.setdefault((name, str(record.noise)), folder)
        if other is not folder:
            sys.exit(
                f"{other} and {folder} are both {name} with {record.noise}: tell them "
                "apart by certify.py --label, or move one of them elsewhere."
            )


def load_json(folders, name):
    """Content of the file of that name in every folder that has one."""
    return {
        folder.name: json.loads((folder / name).read_text())
        for folder in folders
        if (folder / name).exists()
    }


def save(display, path):
    """Write a figure."""
    display.figure_.savefig(path, dpi=130)
    plt.close(display.figure_)
    print(path)


def propagation(folders, images, sigma):
    """Figure of how far noise of one sigma spreads through the nets of the runs."""
    classifiers = [
        SmoothedClassifier.load(classifier_file(folder))
        for folder in folders
        if classifier_file(folder).exists()
    ]
    by_noise = {
        str(each.noise_): each
        for each in classifiers
        if each.noise_.get_params().get("sigma") == sigma
    }
    return NoisePropagationDisplay.from_estimators(by_noise, images, random_state=0)


def main():
    """Analyze all runs of a folder."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("runs", type=Path, help="folder of all runs")
    options.add_argument("--norm", default="l1", choices=NORMS)
    options.add_argument(
        "--radii", type=float, nargs="+", default=[0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
    )
    options.add_argument("--figure-radii", type=float, nargs="+", help="finer, for figures")
    options.add_argument("--propagation-sigma", type=float)
    options.add_argument(
        "--box", type=float, nargs=2, metavar=("LOW", "HIGH"),
        help="range that attacks must respect, and the images do: 0 1",
    )  # fmt: skip
    add_data_options(options)
    options.add_argument("--output", type=Path, default=Path("figures"))
    args = options.parse_args()
    results = read_all(args.runs)
    folders, results = list(results), list(results.values())
    if args.box:
        results = [in_box(record, y, tuple(args.box)) for record, y in results]
    names = [name_of(*pair) for pair in zip(folders, results, strict=True)]
    check_different(folders, names, results)
    norm, out = NORMS[args.norm], args.output
    out.mkdir(parents=True, exist_ok=True)
    named = {"results": results, "names": names, "norm": norm}
    text = format_accuracy_table(
        certified_accuracy_table(**named, radii=args.radii, with_sigma=True)
    )
    print(text.to_markdown())
    (out / "table.md").write_text(text.to_markdown() + "\n")
    (out / "table.tex").write_text(text.to_latex())
    frame = certified_accuracy_frame(**named, radii=args.radii)
    frame.to_csv(out / "accuracies.csv", index=False)
    for kind, file in ((EnvelopeDisplay, "envelope"), (SigmaCurvesDisplay, "per_sigma")):
        save(kind.from_results(**named, radii=args.figure_radii), out / f"{file}.png")
    for target in ("prob_lower", "prob_correct", "radius"):
        display = PredictionDisplay.from_results(**named, target=target)
        save(display, out / f"distribution_{target}.png")
    if scores := load_json(folders, "scores.json"):
        frame = pd.DataFrame.from_dict(scores, orient="index")
        display = AccuracyAgainstSigmaDisplay.from_scores(frame)
        save(display, out / "accuracy_against_sigma.png")
    if histories := load_json(folders, "history.json"):
        save(TrainingLossDisplay.from_histories(histories), out / "training_loss.png")
    if args.propagation_sigma is not None:
        images = np.asarray(load(args, "test")[0][:N_IMAGES])
        display = propagation(folders, images, args.propagation_sigma)
        save(display, out / "noise_propagation.png")


if __name__ == "__main__":
    main()
