"""Attack test images of a certified run, as the paper did, and count what falls.

    python examples/reproduce/attack.py --noise Uniform --sigma 0.5 --dataset-skip 20

takes the net of train.py, attacks its soft votes by projected gradient descent in the norm
of ``--norm`` and writes ``attack.json``: at each radius the accuracy under attack, which no
certified accuracy may exceed but by chance. Images are attacked in parts: an interrupted
run goes on with the part that was not saved.
"""

import json

import numpy as np
from common import (
    NORMS,
    add_certification_options,
    certification_params,
    load,
    parser,
    run_folder,
    save_json,
)
from tqdm.auto import tqdm

from rs4a.attacks import PGD
from rs4a.metrics import attack_score
from rs4a.persistence import classifier_from_checkpoint


def main():
    """Attack one net."""
    options = parser(__doc__)
    add_certification_options(options)
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--attack-samples", type=int, default=128)
    args = options.parse_args()
    folder = run_folder(args)
    clf = classifier_from_checkpoint(
        folder / "net.safetensors", device=args.device, **certification_params(args)
    )
    attack = PGD(
        norm=NORMS[args.norm], steps=args.steps, n_samples=args.attack_samples,
        box=(0, 1), random_state=args.seed,
    )  # fmt: skip
    X, y = load(args, "test", args.dataset_skip)
    path = folder / "attack.json"
    settings = {"options": {k: v for k, v in vars(args).items() if k != "device"}}
    saved = json.loads(path.read_text()) if path.exists() else {}
    parts = saved["parts"] if saved.get("options") == settings["options"] else []
    for start in tqdm(range(len(parts) * args.part, len(X), args.part), unit="part"):
        rows = slice(start, start + args.part)
        scores = attack_score(
            clf, np.asarray(X[rows]), y[rows], attack=attack, radius=args.radii
        )
        parts.append({"images": len(y[rows]), "accuracy": scores.tolist()})
        save_json(path, {**settings, "parts": parts})
    weights = [part["images"] for part in parts]
    accuracy = np.average([part["accuracy"] for part in parts], axis=0, weights=weights)
    print(f"{clf.noise_}: accuracy under attack, {args.norm} radius")
    for radius, score in zip(args.radii, accuracy, strict=True):
        print(f"  {radius:4g}  {score:.1%}")


if __name__ == "__main__":
    main()
