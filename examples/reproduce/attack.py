"""Attack test images of a run, as the paper did, and count what falls.

    python examples/reproduce/attack.py --noise Uniform --sigma 0.5 --dataset-skip 20

takes the net of train.py, or with ``--checkpoint`` a released one, attacks its soft votes
by projected gradient descent in the norm of ``--norm`` and writes ``attack.json``: at each
radius the accuracy under attack, which no certified accuracy may exceed but by chance.
Images are attacked in parts: an interrupted run goes on with the part that was not saved.
"""

import json
import sys

import joblib
import numpy as np
from common import (
    NORMS,
    add_certification_options,
    add_checkpoint_option,
    add_run_options,
    load,
    load_classifier,
    parser,
    save_json,
    weights_of,
)
from tqdm.auto import tqdm

from rs4a.attacks import PGD
from rs4a.metrics import attack_score


def attack_in_parts(clf, attack, X, y, path, args):
    """Accuracy under attack of every part; those that were saved are not attacked again."""
    options = {name: str(value) for name, value in vars(args).items()}
    run = {"options": options, "weights": joblib.hash(weights_of(clf))}
    saved = json.loads(path.read_text()) if path.exists() else {}
    parts = saved["parts"] if run.items() <= saved.items() else []
    for start in tqdm(range(len(parts) * args.part, len(X), args.part), unit="part"):
        rows = slice(start, start + args.part)
        images = np.asarray(X[rows])
        scores = attack_score(clf, images, y[rows], attack=attack, radius=args.radii)
        parts.append({"images": len(images), "accuracy": scores.tolist()})
        save_json(path, {**run, "parts": parts})
    return parts


def main():
    """Attack one net."""
    options = parser(__doc__)
    add_run_options(options)
    add_certification_options(options)
    add_checkpoint_option(options)
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--attack-samples", type=int, default=128)
    args = options.parse_args()
    clf, folder = load_classifier(args)
    folder.mkdir(parents=True, exist_ok=True)
    attack = PGD(
        norm=NORMS[args.norm], steps=args.steps, n_samples=args.attack_samples,
        box=(0, 1), random_state=args.seed,
    )  # fmt: skip
    X, y = load(args, "test", args.dataset_skip)
    try:
        parts = attack_in_parts(clf, attack, X, y, folder / "attack.json", args)
    except KeyboardInterrupt:
        sys.exit("Interrupted: run the same command to go on.")
    weights = [part["images"] for part in parts]
    accuracy = np.average([part["accuracy"] for part in parts], axis=0, weights=weights)
    print(f"{clf.noise_}: accuracy under attack, {args.norm} radius")
    for radius, score in zip(args.radii, accuracy, strict=True):
        print(f"  {radius:4g}  {score:.1%}")


if __name__ == "__main__":
    main()
