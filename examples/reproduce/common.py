"""What the scripts of this folder share: options, data, net and the folder of a run."""

import argparse
import json
import math
import sys
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
from rs4a.networks import NETWORKS, make_network, parse_checkpoint_name
from rs4a.networks.dataset_shapes import dataset_shape
from rs4a.noises import make_noise
from rs4a.utils.params import known_classes, to_json

NORMS = {"l1": 1, "l2": 2, "linf": math.inf}
TEST_SETS = [name for name in DATASETS if name != "tiny_images_500k"]
#: Data sets whose training images are shifted and mirrored; they are read as needed.
AUGMENTED = ["cifar10", "svhn", "imagenet", "imagenet32"]
OBJECTIVES = list(known_classes(rs4a.objectives))
#: The paper's multilayer perceptron.
NET_PARAMS = {"MLP": {"hidden": [2048, 512]}}
#: Released files are told apart by their folders.
COMMON_NAMES = ["model_ckpt", "checkpoint", "checkpoint.pth", "net"]


# Options


def parser(description):
    """Options that every script has."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_options(options)
    options.add_argument("--runs", default="runs", help="folder of all runs")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return options


def add_data_options(options):
    """Which images, and from where."""
    options.add_argument("--dataset", default="cifar10", choices=TEST_SETS)
    options.add_argument("--data", help="folder of the data set; see rs4a.datasets")
    options.add_argument("--download", action="store_true", help="fetch missing data")


def add_run_options(options):
    """Which run: its noise, or its name."""
    options.add_argument(
        "--noise", type=known_noise, default=None,
        help="Uniform if not given; or such as ExpInf:k=10,j=100 or Uniform:lambd=1",
    )  # fmt: skip
    options.add_argument("--sigma", type=float, default=0.5)
    options.add_argument("--name", help="of this run; DATASET_NOISE_SIGMA if not given")
    options.add_argument(
        "--label", help="how the net was trained, for tables; the objective if not given"
    )


def add_training_options(options):
    """Net, objective and optimiser; the defaults are the paper's."""
    options.add_argument("--net", default="WideResNet", choices=NETWORKS)
    options.add_argument(
        "--net-params", type=json.loads, metavar="JSON", help='such as {"depth": 28}'
    )
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
    options.add_argument("--part", type=int, default=100, help="images attacked together")


def add_checkpoint_option(options):
    """A net that was not trained here."""
    options.add_argument(
        "--checkpoint", type=Path,
        help="released file to take in place of the run's net; --noise and --sigma count "
        "if --noise is given, else they are told from the file's name",
    )  # fmt: skip


# Noises and runs


def noise_from(text, sigma):
    """Noise from an option such as ``ExpInf:k=10,j=100``."""
    name, _, given = text.partition(":")
    params = dict(each.split("=") for each in given.split(",") if each)
    params = {key: json.loads(value) for key, value in params.items()}
    if "sigma" in params:
        raise ValueError("sigma is given by --sigma or --sigmas.")
    if name != "Clean" and "lambd" not in params:
        params["sigma"] = sigma
    return make_noise(name, **params)


def known_noise(text):
    """Refuse what is no noise, as argparse wants it."""
    try:
        noise_from(text, sigma=1.0)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def run_folder(args, noise=None, sigma=None):
    """Folder of one run, named as the paper's code does."""
    noise = noise or args.noise or "Uniform"
    sigma = args.sigma if sigma is None else sigma
    kind = noise.lower().replace(":", "_").replace(",", "_").replace("=", "")
    name = f"{args.dataset}_{kind}" + ("" if "lambd" in noise else f"_{sigma}")
    return Path(args.runs) / (getattr(args, "name", None) or name)


# Data


def load(args, split, skip=1, augment=False):
    """Every `skip`-th image and label of a split; large sets as a SliceDataset."""
    lazy = args.dataset in AUGMENTED
    data = load_dataset(
        args.dataset, args.data, split=split, download=args.download,
        as_arrays=not lazy, augment=lazy and augment,
    )  # fmt: skip
    if not lazy:
        X, y = data
        return X[::skip], y[::skip]
    return as_slices([data], skip)


def load_training(args):
    """Training images, shifted and mirrored where that is usual, and more if asked."""
    if args.tiny_images is None:
        return load(args, "train", args.train_skip, augment=True)
    if args.dataset != "cifar10":
        sys.exit(f"--tiny-images go with --dataset cifar10, got {args.dataset}.")
    more = load_dataset("tiny_images_500k", args.tiny_images, augment=True)
    data = load_dataset(
        "cifar10", args.data, download=args.download, as_arrays=False, augment=True
    )
    return as_slices([data, more], args.train_skip)


def as_slices(datasets, skip):
    """Every `skip`-th image of some Datasets, and the labels."""
    y = np.concatenate([each.targets for each in datasets])
    rows = np.arange(0, len(y), skip)
    return SliceDataset(Subset(ConcatDataset(datasets), rows)), y[rows]


# Classifiers


def make_net(args, folder=None):
    """Net with the paper's optimiser, which goes on from a folder's last epoch."""
    params = NET_PARAMS.get(args.net, {}) if args.net_params is None else args.net_params
    return NeuralNetClassifier(
        make_network,
        module__name=args.net,
        module__dataset=args.dataset,
        **{f"module__{name}": value for name, value in params.items()},
        classes=list(range(dataset_shape(args.dataset).n_classes)),
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
        callbacks=callbacks(args, folder),
        device=args.device,
    )


def callbacks(args, folder=None):
    """The paper's learning rates, and a training that continues after an interruption."""
    path = None if folder is None else folder / "training.pt"
    return [
        ("rate", LRScheduler("CosineAnnealingLR", T_max=args.epochs)),
        ("resume", ResumeTraining(path)),
    ]


def make_objective(args, name):
    """Objective, with the parameters that were given for the one of --objective."""
    params = args.objective_params if name == args.objective else {}
    return getattr(rs4a.objectives, name)(**params)


def make_classifier(args, noise, folder=None, **params):
    """Classifier that is to be trained."""
    return SmoothedClassifier(
        make_net(args, folder), noise=noise, objective=make_objective(args, args.objective),
        **{"random_state": args.seed, **params},
    )  # fmt: skip


def certification_params(args):
    """Parameters of a SmoothedClassifier that say how it certifies."""
    bound = ClopperPearson(n=args.n)
    if args.sequential:
        bound = ConfidenceSequence(max_n=args.n, radii=args.radii)
    return {
        "bound": bound, "n_selection": args.n0, "alpha": args.alpha,
        "norm": NORMS[args.norm], "batch_size": args.noise_batch_size,
        "random_state": args.seed,
    }  # fmt: skip


def classifier_file(folder):
    """File of the trained classifier of a run."""
    return folder / "classifier.safetensors"


def options_of(folder):
    """Options that a net was trained with, where train.py trained it."""
    path = folder / "options.json"
    return json.loads(path.read_text()) if path.exists() else {}


def load_classifier(args):
    """Classifier of a run or around the net of a released file, and the run's folder."""
    noise = None if args.noise is None else noise_from(args.noise, args.sigma)
    if args.checkpoint is not None:
        args.name = args.name or name_of_file(args.checkpoint)
        check_dataset(args.checkpoint, dataset_of(args.checkpoint), args)
        clf = SmoothedClassifier.from_checkpoint(
            args.checkpoint, noise=noise, device=args.device, **certification_params(args)
        )
        return clf, run_folder(args)
    folder = run_folder(args)
    path = classifier_file(folder)
    if not path.exists():
        sys.exit(f"There is no {path}: train.py makes it.")
    check_dataset(path, options_of(folder)["dataset"], args)
    clf = SmoothedClassifier.load(path, device=args.device)
    if noise is not None and to_json(noise) != to_json(clf.noise):
        sys.exit(f"{path} was trained under {clf.noise}, got {noise}.")
    return clf.set_params(**certification_params(args)), folder


def check_dataset(path, dataset, args):
    """Refuse a net for other images."""
    if dataset not in (None, args.dataset):
        sys.exit(f"{path} is a net for {dataset}, got --dataset {args.dataset}.")


def name_of_file(path):
    """Name of a run from a released file, by its folders where all files have one name."""
    if path.stem not in COMMON_NAMES:
        return path.stem
    parent = path.absolute().parent
    return "_".join(parent.parts[-3:]) if parent.name.startswith("noise_") else parent.name


def dataset_of(path):
    """Data set that the name of a file says; None: not known."""
    try:
        return parse_checkpoint_name(path.absolute())[0]
    except ValueError:
        return None


def weights_of(clf):
    """What the net has learned, as arrays."""
    state = clf.estimator_.module_.state_dict()
    return {name: value.cpu().numpy() for name, value in state.items()}


def save_json(path, content):
    """Write a file that appears whole or not at all."""
    partial = Path(f"{path}.partial")
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(path)
