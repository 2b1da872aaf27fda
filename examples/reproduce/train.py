"""Train a net under noise, as the paper did, into the folder of a run.

    python examples/reproduce/train.py --noise Uniform --sigma 0.5

leaves ``runs/cifar10_uniform_0.5`` with ``net.safetensors`` (weights, and what the net and
the noise are) and ``history.json`` (the loss of every epoch). An interrupted training goes
on after its last whole epoch when the same command is run again.
"""

import sys

from common import (
    add_training_options,
    load_training,
    make_classifier,
    parser,
    run_folder,
    save_json,
)

from rs4a.networks import save_checkpoint
from rs4a.utils.params import to_json


def save_net(clf, folder):
    """Keep a trained net; it is whole when the file is there."""
    save_json(folder / "history.json", clf.estimator_.history.to_list())
    save_checkpoint(
        clf.estimator_, folder / "net.safetensors", metadata={"noise": to_json(clf.noise_)}
    )


def main():
    """Train one net, unless that was done before."""
    options = parser(__doc__)
    add_training_options(options)
    args = options.parse_args()
    folder = run_folder(args)
    if (folder / "net.safetensors").exists():
        print(f"{folder} holds a trained net already.")
        return
    clf = make_classifier(args, folder).fit(*load_training(args))
    done = len(clf.estimator_.history)
    if done < args.epochs:  # skorch ends an interrupted training without an error
        sys.exit(f"Interrupted after {done} epochs: run the same command to go on.")
    save_net(clf, folder)
    print(f"Saved in {folder}")


if __name__ == "__main__":
    main()
