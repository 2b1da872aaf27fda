"""Trainings that go on where they were interrupted."""

import io
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from skorch.callbacks import Callback, PrintLog
from skorch.history import History

from rs4a.inputs.arrays import as_array
from rs4a.nets.fingerprint import fingerprint
from rs4a.utils.files import whole_file
from rs4a.utils.sealed import seal, unseal

__all__ = ["ResumeTraining"]

#: Parameters of a net that may differ between a training and the one that goes on with it.
FREE_PARAMS = {"verbose", "device", "callbacks", "callbacks__print_log"}
#: Inputs of which a training is known again.
_N_KNOWN = 100
#: How deep the description of a parameter goes.
_DEPTH = 4
_KEYS = {
    "training", "before", "begin", "parts", "frozen", "history", "callbacks", "generators"
}  # fmt: skip


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
        File of the state, one for each training: in a search, one for each candidate and
        fold. It appears whole or not at all.

    Attributes
    ----------
    complete_ : bool
        Whether the last training reached its last epoch. skorch ends one by Ctrl-C, or by
        early stopping, without an error.

    Raises
    ------
    ValueError
        In training, if the file is of another training, of other data, parameters or
        noise say, or is no such file, or other callbacks come after this one.

    Notes
    -----
    It must be the last of the net's callbacks, so that what the others do at the end of an
    epoch is part of the state. Numbers and weights that they keep are saved, as early
    stopping's patience. What a net of one's own keeps besides modules, criteria and
    optimizers is not, such as a scaler of gradients, nor are a generator of the loader's
    own and workers of it that persist.

    A training is known again by its parameters and callbacks, its initial weights, the
    state of torch's and numpy's generators, so the seed, its targets and some of its
    inputs; of a Dataset, whose inputs may be augmented, by the targets.

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
        self._begin(net, description_of_training(net, X, y))

    def _begin(self, net: Any, training: dict[str, str]) -> None:
        self._check_last(net)
        self.training_ = training
        self.max_epochs_ = net.max_epochs
        self.before_ = len(net.history)
        self.begin_ = generator_states()
        self.pending_: dict[str, Any] | None = None
        if Path(self.path).exists():
            self._go_on(net, self._load())
        self.complete_ = self._is_complete(net)

    def _go_on(self, net: Any, state: dict[str, Any]) -> None:
        self._check_same(state["training"])
        _restore(net, state)
        self.before_, self.begin_ = state["before"], state["begin"]
        # Splits into training and validation data are drawn now, as they were then.
        _set_generators(self.begin_)
        self.pending_ = state["generators"]
        # skorch trains for this many epochs, whatever the history holds.
        done = len(net.history) - self.before_
        net.max_epochs = max(self.max_epochs_ - done, 0)

    def _is_complete(self, net: Any) -> bool:
        return len(net.history) - self.before_ >= self.max_epochs_

    def on_epoch_begin(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Restore the random generators, in the first epoch after an interruption.

        Parameters
        ----------
        net : skorch.NeuralNet
            Net that is being trained.

        *args, **kwargs : tuple and dict
            Not used.
        """
        if self.pending_ is not None:
            _set_generators(self.pending_)
            self.pending_ = None

    def on_epoch_end(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Save the training.

        Parameters
        ----------
        net : skorch.NeuralNet
            Net that is being trained.

        *args, **kwargs : tuple and dict
            Not used.
        """
        Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()
        torch.save(self._state(net), content)
        with whole_file(self.path) as partial, partial.open("wb") as file:
            file.write(seal(content.getbuffer()))
        self.complete_ = self._is_complete(net)

    def _state(self, net: Any) -> dict[str, Any]:
        return {
            "training": self.training_,
            "before": self.before_,
            "begin": self.begin_,
            "parts": {name: _state_of(part) for name, part in _parts(net).items()},
            "frozen": _frozen(net),
            "history": json.dumps(net.history.to_list(), default=float),
            "callbacks": {name: _kept(each) for name, each in other_callbacks(net)},
            "generators": generator_states(),
        }

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
            body = unseal(Path(self.path).read_bytes())
            if body is None:  # which torch would not notice
                raise ValueError("damaged")
            state: dict[str, Any] = torch.load(
                io.BytesIO(body), map_location="cpu", weights_only=True
            )
            if set(state) != _KEYS:
                raise KeyError(f"keys {sorted(state)}")
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


# What a training is


def description_of_training(net: Any, X: Any, y: Any) -> dict[str, str]:
    """What must be the same for a training to go on."""
    known = {
        name: _described(value)
        for name, value in net.get_params(deep=False).items()
        if name not in FREE_PARAMS
    }
    known |= {f"callback {name}": _described(each) for name, each in other_callbacks(net)}
    smoothing = getattr(net, "smoothing_", None)
    if smoothing is not None:
        known["noise"] = _described(smoothing.noise)
        known["objective"] = _described(smoothing.objective)
    known["class of the net"] = f"{type(net).__module__}.{type(net).__qualname__}"
    known["generators (so the seed)"] = str(joblib.hash(_described(generator_states())))
    known["inputs"] = _digest_of_inputs(X)
    known["targets"] = str(joblib.hash(None if y is None else np.asarray(y)))
    if getattr(X, "weights", None) is not None:
        known["sample_weight"] = str(joblib.hash(X.weights))
    known["initial weights (so architecture or seed)"] = fingerprint(net)
    return known


def _described(value: Any, depth: int = _DEPTH) -> str:
    """Text that is the same for equal parameters in every process.

    People read it where a training is refused, and files keep it: other versions of the
    packages, which `utils.description` tells apart, must not change it.
    """
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool | int | float | str | bytes | None):
        return repr(value)
    if isinstance(value, np.ndarray | torch.Tensor):
        return str(joblib.hash(as_array(value)))
    if callable(value) and hasattr(value, "__qualname__"):
        return _described_by_name(value)
    if isinstance(value, dict):
        items = value
    elif isinstance(value, list | tuple):
        items = dict(enumerate(value))
    elif isinstance(value, partial):
        items = {"func": value.func, "args": value.args, **value.keywords}
    elif isinstance(value, torch.nn.Module):
        items = {k: v for k, v in vars(value).items() if k[0] != "_" and k != "training"}
        items |= {"": value.extra_repr(), **value.state_dict()}
    elif hasattr(value, "__dict__"):
        items = {k: v for k, v in vars(value).items() if k[-1] != "_"}
    else:
        return f"{type(value).__qualname__}({_digest(value)})"
    if not depth:
        return f"{type(value).__qualname__}({_digest(value)})"
    inner = (f"{k}={_described(v, depth - 1)}" for k, v in items.items())
    return f"{type(value).__qualname__}({', '.join(inner)})"


def _digest(value: Any) -> str:
    try:
        return str(joblib.hash(value))
    except Exception as error:  # what cannot be pickled fails in many ways
        raise ValueError(
            "ResumeTraining needs parameters that can be told apart later, got a "
            f"{type(value).__name__}, which cannot be pickled."
        ) from error


def _described_by_name(value: Any) -> str:
    """Name of a class or function; those that share one differ by their code."""
    name = f"{value.__module__}.{value.__qualname__}"
    code = getattr(value, "__code__", None)
    if code is None or "<" not in name:
        return name
    constants = [each for each in code.co_consts if not hasattr(each, "co_code")]
    return f"{name}:{joblib.hash([code.co_code, code.co_names, constants])}"


def _digest_of_inputs(X: Any) -> str:
    """Number of the inputs, and a digest of some of them if they are an array."""
    if not isinstance(X, np.ndarray):
        return f"{len(X)}"
    rows = np.unique(np.linspace(0, len(X) - 1, _N_KNOWN).astype(int))
    return f"{len(X)}, {joblib.hash(X[rows])}"


def other_callbacks(net: Any) -> list[tuple[str, Any]]:
    """Callbacks of a net that may matter to its training."""
    return [
        (name, each)
        for name, each in net.callbacks_
        if not isinstance(each, PrintLog | ResumeTraining)
    ]


# Its state


def _parts(net: Any) -> dict[str, Any]:
    """Modules, criteria and optimizers of a net, and its learning-rate schedules."""
    names = (*net._modules, *net._criteria, *net._optimizers)
    schedules = {
        f"schedule {name}": each.lr_scheduler_
        for name, each in net.callbacks_
        if getattr(each, "lr_scheduler_", None) is not None
    }
    return {name: getattr(net, f"{name}_") for name in names} | schedules


def _restore(net: Any, state: dict[str, Any]) -> None:
    for name, part in _parts(net).items():
        part.load_state_dict(state["parts"][name])
    for name in net._modules:
        for parameter, weights in getattr(net, f"{name}_").named_parameters():
            weights.requires_grad_(parameter not in state["frozen"][name])
    net.history = History(json.loads(state["history"]))
    for name, each in other_callbacks(net):
        for attribute, value in state["callbacks"][name].items():
            if attribute in vars(each) and _is_kept(attribute, value):
                setattr(each, attribute, value)


def _state_of(part: Any) -> Any:
    state = part.state_dict()
    return state if isinstance(part, torch.nn.Module) else _without_numpy(state)


def _frozen(net: Any) -> dict[str, list[str]]:
    """Names of the parameters, by module, that are not trained at present."""
    return {
        name: [
            parameter
            for parameter, weights in getattr(net, f"{name}_").named_parameters()
            if not weights.requires_grad
        ]
        for name in net._modules
    }


def _without_numpy(value: Any) -> Any:
    """State with numpy's numbers, which a safe reader refuses, as Python's."""
    if isinstance(value, dict):
        return type(value)((k, _without_numpy(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return type(value)(_without_numpy(each) for each in value)
    return value.item() if isinstance(value, np.generic) else value


def _kept(callback: Any) -> dict[str, Any]:
    """What a callback keeps from epoch to epoch, as far as it is numbers and weights."""
    return {
        name: float(value) if isinstance(value, np.floating) else value
        for name, value in vars(callback).items()
        if _is_kept(name, value)
    }


def _is_kept(name: str, value: Any) -> bool:
    is_weights = isinstance(value, dict) and all(
        isinstance(each, torch.Tensor) for each in value.values()
    )
    is_number = isinstance(value, bool | int | float | np.floating)
    return name.endswith("_") and (is_number or is_weights)


def generator_states() -> dict[str, Any]:
    """State of torch's and numpy's global random generators."""
    algorithm, keys, *position = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [algorithm, torch.from_numpy(np.array(keys, dtype=np.int64)), *position],
    }


def _set_generators(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    algorithm, keys, *position = state["numpy"]
    np.random.set_state((algorithm, keys.numpy().astype(np.uint32), *position))  # noqa: NPY002
