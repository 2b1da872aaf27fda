"""Train a net under noise, as the paper did, into the folder of a run.

    python examples/reproduce/train.py --noise Uniform --sigma 0.5

leaves ``runs/cifar10_uniform_0.5`` with ``net.safetensors`` (weights, and what the net, the
noise and the options are) and ``history.json`` (the loss of every epoch). An interrupted
training goes on after its last whole epoch when the same command is run again.
"""

import sys

from common import (
    add_run_options,
    add_training_options,
    load_training,
    make_classifier,
    noise_from,
    parser,
    run_folder,
    save_json,
)
from sklearn.base import clone

from rs4a.persistence import read_checkpoint_metadata, save_checkpoint
from rs4a.utils.params import to_json

#: Options that say what is trained.
TRAINED = [
    "dataset", "net", "net_params", "epochs", "lr", "batch_size", "train_skip",
    "tiny_images", "objective", "objective_params", "seed",
]  # fmt: skip


def is_complete(clf):
    """Whether a training came to its end; skorch ends an interrupted one without error."""
    return dict(clf.estimator_.callbacks_)["resume"].complete_


def training_options(args):
    """What must be the same for a net to count as trained."""
    return {name: getattr(args, name) for name in TRAINED}


def save_net(clf, folder, args):
    """Keep a trained net; it is whole when the file is there."""
    save_json(folder / "history.json", clf.estimator_.history.to_list())
    metadata = {"noise": to_json(clf.noise_), "options": training_options(args)}
    save_checkpoint(clf.estimator_, folder / "net.safetensors", metadata=metadata)


def check_same(path, noise, args):
    """Refuse a trained net of other options."""
    before = read_checkpoint_metadata(path)
    was = {**before.get("options", {}), "noise": before.get("noise")}
    now = {**training_options(args), "noise": to_json(as_trained(noise, before))}
    differs = [name for name in now if was.get(name) != now[name]]
    if differs:
        changes = "; ".join(
            f"{name} was {was.get(name)}, is {now[name]}" for name in differs
        )
        sys.exit(f"{path} was trained otherwise: {changes}. Give another --name.")


def as_trained(noise, metadata):
    """The noise, with the template of a trained net if it names none itself."""
    stored = metadata.get("noise", {})
    if noise.deterministic and noise.seed is None and stored.get("class") == "Splitting":
        return clone(noise).set_params(seed=stored["params"]["seed"])
    return noise


def main():
    """Train one net, unless that was done before."""
    options = parser(__doc__)
    add_run_options(options)
    add_training_options(options)
    args = options.parse_args()
    folder = run_folder(args)
    noise = noise_from(args.noise or "Uniform", args.sigma)
    if (folder / "net.safetensors").exists():
        check_same(folder / "net.safetensors", noise, args)
        print(f"{folder} holds a trained net already.")
        return
    clf = make_classifier(args, noise, folder).fit(*load_training(args))
    if not is_complete(clf):
        sys.exit("Interrupted: run the same command to go on.")
    save_net(clf, folder, args)
    print(f"Saved in {folder}")


if __name__ == "__main__":
    main()
