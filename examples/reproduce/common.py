"""What the scripts of this folder share: options, data, net and the folder of a run."""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from skorch.helper import SliceDataset
from torch import nn
from torch.utils.data import ConcatDataset, Subset

import rs4a.objectives
from rs4a import SmoothedClassifier
from rs4a.bounds import ClopperPearson, ConfidenceSequence
from rs4a.callbacks import ResumeTraining
from rs4a.datasets import DATASETS, load_dataset
from rs4a.networks import NETWORKS, make_network
from rs4a.persistence import make_noise

NORMS = {"l1": 1, "l2": 2, "linf": math.inf}
TEST_SETS = [name for name in DATASETS if name != "tiny_images_500k"]
#: Data sets whose training images are shifted and mirrored; they are read as needed.
AUGMENTED = ["cifar10", "svhn", "imagenet", "imagenet32"]
OBJECTIVES = [
    "NoiseAugmentation", "Stability", "Direct", "Consistency", "SmoothAdv", "MACER"
]  # fmt: skip


def parser(description):
    """Options that every script has."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_data_options(options)
    options.add_argument("--noise", default="Uniform", help="or such as ExpInf:k=10,j=100")
    options.add_argument("--sigma", type=float, default=0.5)
    options.add_argument("--runs", default="runs", help="folder of all runs")
    options.add_argument("--name", help="of this run; DATASET_NOISE_SIGMA if not given")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return options


def add_data_options(options):
    """Which images, and from where."""
    options.add_argument("--dataset", default="cifar10", choices=TEST_SETS)
    options.add_argument("--data", help="folder of the data set; see rs4a.datasets")
    options.add_argument("--download", action="store_true", help="fetch missing data")


def add_training_options(options):
    """Net, objective and optimiser; the defaults are the paper's."""
    options.add_argument("--net", default="WideResNet", choices=NETWORKS)
    options.add_argument("--epochs", type=int, default=120)
    options.add_argument("--lr", type=float, default=0.1)
    options.add_argument("--batch-size", type=int, default=64)
    options.add_argument("--workers", type=int, default=0, help="that load images")
    options.add_argument("--train-skip", type=int, default=1, help="use each k-th image")
    options.add_argument(
        "--tiny-images", metavar="FOLDER", help="of 500 000 more images for CIFAR-10"
    )
    options.add_argument("--objective", default="NoiseAugmentation", choices=OBJECTIVES)
    options.add_argument(
        "--objective-params", default={}, type=json.loads, metavar="JSON",
        help='such as {"weight": 6.0}',
    )  # fmt: skip


def add_certification_options(options):
    """Votes and bound; the defaults are the paper's."""
    options.add_argument("--dataset-skip", type=int, default=1, help="take each k-th image")
    options.add_argument("--n0", type=int, default=64, help="selection votes")
    options.add_argument("--n", type=int, default=100_000, help="estimation votes")
    options.add_argument("--alpha", type=float, default=0.001)
    options.add_argument(
        "--sequential", action="store_true",
        help="stop when the radii are decided; --n is then the most votes an image",
    )  # fmt: skip
    options.add_argument("--norm", default="l1", choices=NORMS)
    options.add_argument(
        "--radii", type=float, nargs="+", default=[0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
    )
    options.add_argument("--noise-batch-size", type=int, default=1024)
    options.add_argument(
        "--train-accuracy-skip", type=int, default=20,
        help="training accuracy is that of each k-th image",
    )  # fmt: skip
    options.add_argument("--part", type=int, default=100, help="images saved together")


def noise_from(text, sigma):
    """Noise from an option such as ``ExpInf:k=10,j=100``."""
    name, _, given = text.partition(":")
    params = dict(each.split("=") for each in given.split(",") if each)
    scale = {} if name == "Clean" else {"sigma": sigma}
    return make_noise(name, **scale, **{k: json.loads(v) for k, v in params.items()})


def run_folder(args, noise=None, sigma=None):
    """Folder of one run, named as the paper's code does."""
    noise, sigma = noise or args.noise, args.sigma if sigma is None else sigma
    kind = noise.lower().replace(":", "_").replace(",", "_").replace("=", "")
    return Path(args.runs) / (args.name or f"{args.dataset}_{kind}_{sigma}")


def load(args, split, skip=1, augment=False):
    """Every `skip`-th image and label of a split; large sets as a SliceDataset."""
    lazy = args.dataset in AUGMENTED
    options = {"split": split, "as_arrays": not lazy, "augment": lazy and augment}
    if args.download:
        options["download"] = True
    data = load_dataset(args.dataset, args.data, **options)
    if not lazy:
        X, y = data
        return X[::skip], y[::skip]
    return as_slices([data], skip)


def load_training(args):
    """Training images, shifted and mirrored where that is usual, and more if asked."""
    if args.tiny_images is None:
        return load(args, "train", args.train_skip, augment=True)
    more = load_dataset("tiny_images_500k", args.tiny_images, augment=True)
    data = load_dataset("cifar10", args.data, as_arrays=False, augment=True)
    return as_slices([data, more], args.train_skip)


def as_slices(datasets, skip):
    """Every `skip`-th image of some Datasets, and the labels."""
    y = np.concatenate([each.targets for each in datasets])
    rows = np.arange(0, len(y), skip)
    return SliceDataset(Subset(ConcatDataset(datasets), rows)), y[rows]


def make_net(args, folder=None):
    """Net with the paper's optimiser, which goes on from a folder's last epoch."""
    callbacks = [("rate", LRScheduler("CosineAnnealingLR", T_max=args.epochs))]
    path = None if folder is None else folder / "training.pt"
    callbacks.append(("resume", ResumeTraining(path)))
    return NeuralNetClassifier(
        make_network,
        module__name=args.net,
        module__dataset=args.dataset,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__nesterov=True,
        optimizer__weight_decay=1e-4,
        lr=args.lr,
        max_epochs=args.epochs,
        batch_size=args.batch_size,
        iterator_train__shuffle=True,
        iterator_train__num_workers=args.workers,
        train_split=None,
        callbacks=callbacks,
        device=args.device,
    )


def certification_params(args):
    """Parameters of a SmoothedClassifier that say how it certifies."""
    norm = NORMS[args.norm]
    bound = ClopperPearson(n=args.n)
    if args.sequential:
        bound = ConfidenceSequence(max_n=args.n, radii=args.radii)
    return {
        "bound": bound, "n_selection": args.n0, "alpha": args.alpha, "norm": norm,
        "batch_size": args.noise_batch_size, "random_state": args.seed,
    }  # fmt: skip


def make_classifier(args, folder=None, **params):
    """Classifier that is to be trained."""
    objective = getattr(rs4a.objectives, args.objective)(**args.objective_params)
    noise = noise_from(args.noise, args.sigma)
    return SmoothedClassifier(
        make_net(args, folder), noise=noise, objective=objective,
        **{"random_state": args.seed, **params},
    )  # fmt: skip


def save_json(path, content):
    """Write a file that appears whole or not at all."""
    partial = Path(f"{path}.partial")
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(path)
