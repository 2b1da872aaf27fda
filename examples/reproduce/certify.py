"""Certify test images with a trained net, as the paper did.

    python examples/reproduce/certify.py --noise Uniform --sigma 0.5

takes ``runs/cifar10_uniform_0.5/net.safetensors`` from train.py, or with ``--checkpoint``
one of the files that the paper's authors or Cohen et al. released (noise and sigma are
told from its name), and leaves ``certification.npz`` and ``labels.npy``, which
`rs4a.persistence.read_results` opens, and ``scores.json``. With ``--sequential`` votes stop
when the radii are decided. Images are saved in parts: an interrupted run goes on with the
part that was not saved.
"""

import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
from common import (
    add_certification_options,
    certification_params,
    load,
    parser,
    run_folder,
    save_json,
)
from tqdm.auto import tqdm

from rs4a import Certification, CertificationWarning
from rs4a.metrics import abstention_rate, certified_accuracy_score
from rs4a.persistence import classifier_from_checkpoint, write_results


def certify_in_parts(clf, X, folder, size):
    """Record of all images; parts that were saved before are not drawn again."""
    weights = {k: v.cpu().numpy() for k, v in clf.estimator_.module_.state_dict().items()}
    settings = [str(clf.noise_), str(clf.bound), clf.alpha, clf.n_selection, clf.norm]
    settings += [clf.random_state, weights]
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    records = []
    for start in tqdm(range(0, len(X), size), unit="part", desc=str(folder)):
        images = np.asarray(X[start : start + size])
        path = folder / "parts" / f"{joblib.hash([settings, images])}.npz"
        if not path.exists():
            with warnings.catch_warnings():  # what is interrupted shall not count as done
                warnings.filterwarnings("error", "certify was interrupted")
                clf.certify(images).save(path)
        records.append(Certification.load(path))
    return Certification.concatenate(records)


def certify_run(clf, X, y, folder, args):
    """Certify, save and return the certified accuracy at every radius."""
    record = certify_in_parts(clf, X, folder, args.part)
    write_results(folder, record, y)
    scores = certified_accuracy_score(y, record, radius=args.radii)
    return dict(zip(args.radii, scores, strict=True))


def save_scores(clf, accuracy, folder, args):
    """Accuracy of the smoothed classifier on training and test images, for figures."""
    record = Certification.load(folder / "certification.npz")
    y = np.load(folder / "labels.npy")
    X_train, y_train = load(args, "train", args.train_accuracy_skip)
    scores = {
        "noise": type(clf.noise_).__name__,
        "sigma": clf.noise_.get_params().get("sigma"),
        "train_accuracy": clf.score(X_train, y_train),
        "test_accuracy": float(np.mean(record.labels == y)),
        "abstention_rate": abstention_rate(y, record),
        "votes_per_image": float(record.n_votes.mean()),
        "seconds": record.seconds,
        "certified_accuracy": {f"{radius:g}": score for radius, score in accuracy.items()},
    }
    save_json(folder / "scores.json", scores)
    return scores


def main():
    """Certify with one net."""
    options = parser(__doc__)
    add_certification_options(options)
    options.add_argument("--checkpoint", help="released file to take in place of the run's")
    args = options.parse_args()
    if args.checkpoint and not args.name:
        args.name = Path(args.checkpoint).stem
    folder = run_folder(args)
    clf = classifier_from_checkpoint(
        args.checkpoint or folder / "net.safetensors",
        device=args.device,
        **certification_params(args),
    )
    X, y = load(args, "test", args.dataset_skip)
    try:
        accuracy = certify_run(clf, X, y, folder, args)
    except (KeyboardInterrupt, CertificationWarning):
        sys.exit("Interrupted: run the same command to go on.")
    votes = save_scores(clf, accuracy, folder, args)["votes_per_image"]
    print(f"{clf.noise_}: {votes:.0f} votes an image, {args.norm} radius")
    for radius, score in accuracy.items():
        print(f"  {radius:4g}  {score:.1%}")


if __name__ == "__main__":
    main()
