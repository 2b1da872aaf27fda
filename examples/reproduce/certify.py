"""Certify test images with a trained net, as the paper did.

    python examples/reproduce/certify.py --noise Uniform --sigma 0.5

takes ``runs/cifar10_uniform_0.5/classifier.safetensors`` from train.py, or with
``--checkpoint`` one of the files that the paper's authors or Cohen et al. released, and
leaves ``certification.npz`` and ``labels.npy``, which `rs4a.records.read_results` opens,
and ``scores.json``. With ``--sequential`` votes stop when the radii are decided. Finished
votes are kept in the folder ``memory``: an interrupted run goes on with what is missing.
"""

import sys
import warnings

import numpy as np
from common import (
    add_certification_options,
    add_checkpoint_option,
    add_run_options,
    load,
    load_classifier,
    options_of,
    parser,
    save_json,
)

from rs4a import CertificationWarning
from rs4a.metrics import abstention_rate, certified_accuracy_score, noise_name
from rs4a.records import write_results


def certify_images(clf, X, folder):
    """Record of all images; what was drawn before an interruption is not drawn again."""
    clf.set_params(memory=str(folder / "memory"), verbose=1)
    with warnings.catch_warnings():  # what is interrupted shall not count as done
        warnings.filterwarnings("error", "certify was interrupted")
        return clf.certify(X)


def certify_run(clf, X, y, folder, args, label=None):
    """Certify and save; return what is worth telling."""
    record = certify_images(clf, X, folder)
    (folder / "scores.json").unlink(missing_ok=True)  # of other results
    write_results(folder, record, y)
    accuracy = certified_accuracy_score(y, record, radius=args.radii)
    X_train, y_train = load(args, "train", args.train_accuracy_skip)
    scores = {
        "noise": ", ".join(filter(None, [noise_name(record), label])),
        "sigma": clf.noise_.std(record.dim),
        "train_accuracy": clf.score(X_train, y_train),
        "test_accuracy": float(np.mean(record.labels == y)),
        "abstention_rate": abstention_rate(y, record),
        "votes_per_image": float(record.n_votes.mean()),
        "report": record.report,
        "certified_accuracy": dict(zip(map(str, args.radii), accuracy, strict=True)),
    }
    save_json(folder / "scores.json", scores)
    return scores


def objective_of(folder):
    """Objective of the run's net, where it is not the usual one."""
    objective = options_of(folder).get("objective", "NoiseAugmentation")
    return None if objective == "NoiseAugmentation" else objective


def main():
    """Certify with one net."""
    options = parser(__doc__)
    add_run_options(options)
    add_certification_options(options)
    add_checkpoint_option(options)
    args = options.parse_args()
    clf, folder = load_classifier(args)
    X, y = load(args, "test", args.dataset_skip)
    try:
        scores = certify_run(clf, X, y, folder, args, args.label or objective_of(folder))
    except (KeyboardInterrupt, CertificationWarning):
        sys.exit("Interrupted: run the same command to go on.")
    votes = scores["votes_per_image"]
    print(f"{clf.noise_}: {votes:.0f} votes an image, {args.norm} radius")
    for radius, score in scores["certified_accuracy"].items():
        print(f"  {radius:>5}  {score:.1%}")


if __name__ == "__main__":
    main()
