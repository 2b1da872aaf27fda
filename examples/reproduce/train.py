"""Train a net under noise, as the paper did, into the folder of a run.

    python examples/reproduce/train.py --noise Uniform --sigma 0.5

leaves ``runs/cifar10_uniform_0.5`` with ``classifier.safetensors``, which
`SmoothedClassifier.load` reads, ``options.json`` (what was trained) and ``history.json``
(the loss of every epoch). After an interruption, repeat the command: the training continues
after its last whole epoch.
"""

import sys

from common import (
    add_run_options,
    add_training_options,
    classifier_file,
    load_training,
    make_classifier,
    noise_from,
    options_of,
    parser,
    run_folder,
    save_json,
)
from sklearn.base import clone

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


def save_run(clf, folder, args):
    """Keep a trained classifier; the run is complete when its file is there."""
    save_json(folder / "history.json", clf.estimator_.history.to_list())
    options = {**training_options(args), "noise": to_json(clf.noise_)}
    save_json(folder / "options.json", options)
    for net in (clf.estimator, clf.estimator_):
        kept = [each for each in net.callbacks if each[0] != "resume"]
        net.set_params(callbacks=kept)  # a file holds no ResumeTraining
    clf.save(classifier_file(folder))


def check_same(folder, noise, args):
    """Refuse a trained net of other options."""
    was = options_of(folder)
    now = {**training_options(args), "noise": to_json(as_trained(noise, was["noise"]))}
    differs = [name for name in now if was.get(name) != now[name]]
    if differs:
        changes = "; ".join(
            f"{name} was {was.get(name)}, is {now[name]}" for name in differs
        )
        sys.exit(f"{folder} was trained otherwise: {changes}. Give another --name.")


def as_trained(noise, stored):
    """The noise, with the template of a trained net if it names none itself."""
    if noise.deterministic and noise.seed is None and stored["class"] == "Splitting":
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
    if classifier_file(folder).exists():
        check_same(folder, noise, args)
        print(f"{folder} holds a trained net already.")
        return
    clf = make_classifier(args, noise, folder).fit(*load_training(args))
    if not is_complete(clf):
        sys.exit("Interrupted: run the same command to go on.")
    save_run(clf, folder, args)
    print(f"Saved in {folder}")


if __name__ == "__main__":
    main()
