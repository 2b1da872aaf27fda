"""Trainings that go on where they were interrupted."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback, PrintLog
from skorch.history import History

from rs4a.nets import fingerprint

__all__ = ["ResumeTraining"]

#: What may differ between an interrupted training and the one that goes on with it.
_FREE_PARAMS = {"verbose", "device"}


class ResumeTraining(Callback):
    """Save a training after every epoch, and go on from what was saved.

    The file holds weights, optimizers, learning-rate schedules, the history and the state
    of the random generators: a training that was interrupted and goes on ends with the
    weights of one that was not, where torch repeats its results. Interrupted means Ctrl-C,
    an error or a kill; run the same program again. A training that is in the file already
    is complete and takes no time.

    Parameters
    ----------
    path : str or path-like
        File of the state, one for each training. It appears whole or not at all.

    Raises
    ------
    ValueError
        In training, if the file is of another training, of other numbers or noise say, or
        is no such file, or other callbacks come after this one.

    Notes
    -----
    It must be the last of the net's callbacks, so that what the others do at the end of an
    epoch is part of the state. Of the others, numbers that they keep are saved, as early
    stopping does its patience. A program that stops early after Ctrl-C can tell by the
    length of the net's history.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from rs4a import SmoothedClassifier
    >>> from rs4a.callbacks import ResumeTraining
    >>> from rs4a.networks import MLP
    >>> X, y = load_digits(return_X_y=True)
    >>> X = (X / 16).astype("float32")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net = NeuralNetClassifier(
    ...         MLP,
    ...         module__input_shape=(64,),
    ...         module__n_classes=10,
    ...         criterion=nn.CrossEntropyLoss,
    ...         max_epochs=2,
    ...         callbacks=[("resume", ResumeTraining(f"{folder}/training.pt"))],
    ...         verbose=0,
    ...     )
    ...     clf = SmoothedClassifier(net, random_state=0)
    ...     first = clf.fit(X, y).estimator_
    ...     again = clf.fit(X, y).estimator_  # from the file, without training
    >>> len(again.history), again.history[-1, "dur"] == first.history[-1, "dur"]
    (2, True)
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Restore what was saved, if this training was begun before.

        Parameters
        ----------
        net : skorch.NeuralNet
            Net that is to be trained.

        X : array-like or Dataset
            Inputs.

        y : array-like
            Targets.

        **kwargs : dict
            Not used.
        """
        self._check_last(net)
        self.training_ = _describe(net, X)
        self.max_epochs_ = net.max_epochs
        if not Path(self.path).exists():
            return
        state = self._load()
        self._check_same(state["training"])
        _restore(net, state)
        # skorch trains for this many epochs, whatever the history holds.
        net.max_epochs = max(self.max_epochs_ - len(net.history), 0)

    def on_epoch_end(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Save the training.

        Parameters
        ----------
        net : skorch.NeuralNet
            Net that is being trained.

        *args, **kwargs : tuple and dict
            Not used.
        """
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            torch.save({"training": self.training_, **_state(net)}, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def on_train_end(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Give the net its own number of epochs back.

        Parameters
        ----------
        net : skorch.NeuralNet
            Net that was trained.

        *args, **kwargs : tuple and dict
            Not used.
        """
        net.max_epochs = self.max_epochs_

    def _check_last(self, net: Any) -> None:
        names = [name for name, each in net.callbacks_ if not isinstance(each, PrintLog)]
        own = next(name for name, each in net.callbacks_ if each is self)
        after = names[names.index(own) + 1 :]
        if after:
            raise ValueError(
                "ResumeTraining must be the last of the net's callbacks, got after it: "
                f"{', '.join(after)}."
            )

    def _load(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = torch.load(
                self.path, map_location="cpu", weights_only=True
            )
            _ = state["training"]
        except Exception as error:  # a damaged file fails in many ways
            raise ValueError(
                f"{self.path} is no whole state of a training, as ResumeTraining saves it: "
                f"{type(error).__name__} in reading it. Delete it to train anew."
            ) from error
        return state

    def _check_same(self, saved: dict[str, str]) -> None:
        now = self.training_
        differs = sorted(k for k in {*saved, *now} if saved.get(k) != now.get(k))
        if differs:
            raise ValueError(
                f"{self.path} is the state of another training: "
                + "; ".join(
                    f"{name} was {saved.get(name)}, is {now.get(name)}" for name in differs
                )
                + ". Give another path, or delete it to train anew."
            )


def _describe(net: Any, X: Any) -> dict[str, str]:
    """What must be the same for a training to go on."""
    known = {
        name: repr(value)
        for name, value in net.get_params(deep=False).items()
        if isinstance(value, bool | int | float | str | type) and name not in _FREE_PARAMS
    }
    smoothing = getattr(net, "smoothing_", None)
    if smoothing is not None:
        known["noise"] = str(smoothing.noise.get_params())
        known["objective"] = str(smoothing.objective)
    return {
        **known,
        "initial weights": fingerprint(net),  # so the architecture and the seed
        "number of inputs": str(len(X)),
    }


def _parts(net: Any) -> dict[str, Any]:
    """Modules, criteria and optimizers of a net, and its learning-rate schedules."""
    names = (*net._modules, *net._criteria, *net._optimizers)
    schedules = {
        f"schedule {name}": each.lr_scheduler_
        for name, each in net.callbacks_
        if getattr(each, "lr_scheduler_", None) is not None
    }
    return {name: getattr(net, f"{name}_") for name in names} | schedules


def _state(net: Any) -> dict[str, Any]:
    algorithm, keys, *position = np.random.get_state()  # noqa: NPY002
    return {
        "parts": {name: part.state_dict() for name, part in _parts(net).items()},
        "history": json.dumps(net.history.to_list(), default=float),
        "callbacks": {name: _numbers(each) for name, each in net.callbacks_},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "numpy": [algorithm, torch.from_numpy(np.array(keys, dtype=np.int64)), *position],
    }


def _restore(net: Any, state: dict[str, Any]) -> None:
    for name, part in _parts(net).items():
        part.load_state_dict(state["parts"][name])
    net.history = History(json.loads(state["history"]))
    for name, each in net.callbacks_:
        vars(each).update(state["callbacks"].get(name, {}))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    algorithm, keys, *position = state["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), *position))  # noqa: NPY002


def _numbers(callback: Any) -> dict[str, Any]:
    """What a callback keeps from epoch to epoch, as far as it is plain."""
    return {
        name: float(value) if isinstance(value, np.floating) else value
        for name, value in vars(callback).items()
        if name.endswith("_") and isinstance(value, bool | int | float | np.floating)
    }
