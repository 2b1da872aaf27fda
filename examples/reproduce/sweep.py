"""Train and certify a grid of noises and sigmas by GridSearchCV: the paper's Table 1.

    python examples/reproduce/sweep.py --noises Gaussian Laplace Uniform \
        --sigmas 0.15 0.25 0.5 0.75 1.0 1.25

With ``--objectives NoiseAugmentation Stability`` every net is trained in several ways.
Each cell leaves a folder as train.py and certify.py do, and analyze.py makes tables and
figures of them. An interrupted sweep goes on where it stopped: within a training after its
last whole epoch, within a certification after its last part.
"""

import argparse
import sys

import numpy as np
import torch
from certify import certify_run, objective_of
from common import (
    OBJECTIVES,
    add_certification_options,
    add_training_options,
    callbacks,
    certification_params,
    known_noise,
    load,
    load_training,
    make_classifier,
    make_objective,
    noise_from,
    parser,
    run_folder,
)
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from skorch.helper import SliceDataset
from torch.utils.data import ConcatDataset
from train import is_complete, save_run


def cells(args):
    """Grid of one point each: noise, sigma, objective, and where its training is kept."""
    return [
        {
            "noise": [noise_from(noise, sigma)],
            "objective": [make_objective(args, objective)],
            "estimator__callbacks": [
                callbacks(args, cell_folder(args, noise, sigma, objective))
            ],
        }
        for noise in args.noises
        for objective in args.objectives or [args.objective]
        for sigma in args.sigmas
    ]


def cell_folder(args, noise, sigma, objective):
    """Folder of a run, named by its objective too where there are several."""
    folder = run_folder(args, noise, sigma)
    if args.objectives is None or objective == "NoiseAugmentation":
        return folder
    return folder.with_name(f"{folder.name}_{objective.lower()}")


class Certified:
    """Scorer that saves the classifier, certifies the test images and saves the record."""

    def __init__(self, args):
        self.args = args

    def __call__(self, clf, X, y):
        """Certified accuracy by radius."""
        folder = dict(clf.estimator.callbacks)["resume"].path.parent
        if not is_complete(clf):
            raise KeyboardInterrupt  # which skorch takes for the end of a training
        objective = type(clf.objective).__name__
        save_run(
            clf, folder, argparse.Namespace(**{**vars(self.args), "objective": objective})
        )
        scores = certify_run(clf, X, y, folder, self.args, objective_of(folder))
        accuracy = scores["certified_accuracy"]
        return {f"r={radius}": score for radius, score in accuracy.items()}


def joined(train, test):
    """Training and test data in one, and the split that parts them again."""
    (X, y), (X_test, y_test) = train, test
    if isinstance(X, SliceDataset):
        both = SliceDataset(ConcatDataset([X.dataset, X_test.dataset]))
    else:
        both = np.concatenate([X, X_test])
    fold = np.repeat([-1, 0], [len(y), len(y_test)])
    return both, np.concatenate([y, y_test]), PredefinedSplit(fold)


def main():
    """Run the grid."""
    options = parser(__doc__)
    add_training_options(options)
    add_certification_options(options)
    noises = ["Gaussian", "Laplace", "Uniform"]
    options.add_argument("--noises", nargs="+", type=known_noise, default=noises)
    options.add_argument(
        "--sigmas", nargs="+", type=float, default=[0.15, 0.25, 0.5, 0.75, 1.0, 1.25]
    )
    options.add_argument(
        "--objectives", nargs="+", choices=OBJECTIVES,
        help="several, each with its usual parameters, in place of --objective",
    )  # fmt: skip
    options.add_argument("--jobs", type=int, default=1, help="cells at a time")
    args = options.parse_args()
    if args.jobs > 1:
        torch.set_num_threads(1)
    X, y, split = joined(load_training(args), load(args, "test", args.dataset_skip))
    search = GridSearchCV(
        make_classifier(args, None, **certification_params(args)),
        cells(args),
        scoring=Certified(args),
        cv=split,
        refit=False,
        n_jobs=args.jobs,
        error_score="raise",
    )
    try:
        search.fit(X, y)
    except KeyboardInterrupt:
        sys.exit("Interrupted: run the same command to go on.")
    scores = [search.cv_results_[f"mean_test_r={radius}"] for radius in args.radii]
    for cell, *row in zip(search.cv_results_["params"], *scores, strict=True):
        kind = type(cell["objective"]).__name__ if args.objectives else ""
        print(cell["noise"], kind, " ".join(f"{score:6.1%}" for score in row))


if __name__ == "__main__":
    main()
