"""Training any skorch net under noise: the one place that changes skorch's behaviour.

While a net trains, its class is a subclass of the user's own. The subclass expands every
batch into noisy copies and hands their outputs to the objective. The user's `train_step`,
`get_loss`, callbacks and checkpoints run as they are. Afterwards, also after an error
or Ctrl-C, the class is the user's again.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet

from rs4a.nets.fingerprint import remember_noise
from rs4a.nets.outputs import check_loss, probe
from rs4a.noises import Noise
from rs4a.objectives import Objective
from rs4a.training.noisy_net import training_under_noise
from rs4a.training.resume import KeptTraining


def train(
    net: NeuralNet,
    X: Any,
    y: NDArray[np.int64],
    *,
    noise: Noise,
    objective: Objective,
    n_classes: int,
    seed: int,
    epochs_before: int = 0,
    folder: Path | None = None,
    translate: Callable[[Any], Any] | None = None,
) -> NeuralNet:
    """Train a net under noise; start anew unless it is initialised.

    Parameters
    ----------
    net : skorch.NeuralNet
        Net that is trained in place.

    X : ndarray of shape (n, ...), float32, or Dataset
        Inputs. The items of a Dataset are pairs of an input, a tensor in float32, and its
        target, or a pair of target and weight.

    y : ndarray of shape (n,), int64
        Indices of the net's outputs.

    noise : Noise
        Smoothing noise, drawn afresh for every batch on the net's device.

    objective : Objective
        Training objective.

    n_classes : int
        Number of classes, of which `y` may lack some.

    seed : int
        Seed of weights, order of batches and noise. torch's and numpy's global
        generators are as before afterwards.

    epochs_before : int, default=0
        Epochs of the net's history that a warm-up ignores.

    folder : Path, default=None
        Where trainings on arrays are kept, to continue or to be found again. None: nowhere.

    translate : callable, default=None
        Takes a data set from the net's `train_split`, for example of skorch's
        `predefined_split`, and gives it with indices of outputs as targets. None:
        its targets are such indices.

    Returns
    -------
    net : skorch.NeuralNet
        The same net.

    Raises
    ------
    ValueError
        If the net cannot take `X`, does not have one output per class, or has logits
        where its criterion takes probabilities.

    Notes
    -----
    Ctrl-C ends the training early and keeps the weights so far, as in skorch.
    """
    with training_seed(seed, _cuda_devices(net)):
        _check_trainable(net)
        if not net.initialized_:
            net.initialize()
        first = X[:8] if isinstance(X, np.ndarray) else X[0][0].numpy()[np.newaxis]
        check_loss(net, probe(net, first, n_classes))
        with training_under_noise(net, noise, objective, epochs_before, translate):
            keeper = KeptTraining.of(folder, net, X, y)
            with _with_callback(net, keeper):
                net.partial_fit(X, y)
    remember_noise(net, noise)
    return net


def _check_trainable(net: NeuralNet) -> None:
    """Refuse copies of TorchScript, whose weights are no leaves that an optimizer takes."""
    module = getattr(net, "module_", net.module)
    if isinstance(module, torch.nn.Module) and not all(
        each.is_leaf for each in module.parameters()
    ):
        raise TypeError(
            "estimator must have a module that can be copied and trained, got a "
            f"{type(module).__name__} whose weights are no leaves, as those of TorchScript "
            "after copying. Give the net the module that was scripted or traced, or a "
            "function that makes it; or use a trained one in a FrozenEstimator."
        )


@contextmanager
def _with_callback(net: NeuralNet, callback: KeptTraining | None) -> Iterator[None]:
    """Let a net have one callback more, unless it is None."""
    if callback is None:
        yield
        return
    callbacks, max_epochs = list(net.callbacks_), net.max_epochs
    net.callbacks_ = [*callbacks, ("memory", callback.initialize())]
    try:
        yield
    finally:
        net.callbacks_, net.max_epochs = callbacks, max_epochs


# Seeds of torch's global generators

# torch's default generators are global: two trainings in threads would share them.
_TRAINING_LOCK = threading.RLock()


@contextmanager
def training_seed(seed: int, cuda_devices: Sequence[int] = ()) -> Iterator[None]:
    """Seed the global generators: torch's, and numpy's, which skorch's splits read.

    Only one training at a time; afterwards the generators are as before.

    Parameters
    ----------
    seed : int
        Any seed of at most 63 bits.

    cuda_devices : sequence of int, default=()
        CUDA devices whose generators are seeded and restored, too.
    """
    with _TRAINING_LOCK, torch.random.fork_rng(cuda_devices):
        numpy_state = np.random.get_state()  # noqa: NPY002
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002


def _cuda_devices(net: NeuralNet) -> list[int]:
    """CUDA devices whose generators a net's training uses."""
    usual = "cuda" if torch.cuda.is_available() else "cpu"  # the choice of accelerate
    device = torch.device(net.device or usual)
    if device.type != "cuda":
        return []
    return [torch.cuda.current_device() if device.index is None else device.index]
