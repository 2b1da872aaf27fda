"""Trainings that continue after an interruption."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback, Checkpoint, LoadInitState, PrintLog
from skorch.history import History

from rs4a.nets.fingerprint import digest_of_values
from rs4a.nets.modules import own_state
from rs4a.nets.outputs import net_device
from rs4a.utils.describe import describe
from rs4a.utils.files import seal, unseal, whole_file
from rs4a.utils.user_warnings import warn_user

#: Parameters of a net that may differ between a training and its continuation.
_FREE_PARAMS = {
    "verbose", "device", "callbacks", "callbacks__print_log", "_params_to_validate"
}  # fmt: skip
#: Inputs by which a training is recognised.
_N_KNOWN = 100
#: Number of the format of files.
_FORMAT = 2


class ResumeTraining(Callback):
    """Save a training after every epoch, and continue from the saved state.

    The file holds weights, optimizers, learning-rate schedules, the history and the state
    of the random generators: a training that continues after an interruption ends with
    the weights of an uninterrupted one, where torch repeats its results. An interruption
    is Ctrl-C, an error or a kill; run the same program again. A training that the file
    holds completely takes no time.

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
        In training, if the file is of another training, for example of other data,
        parameters or noise, or is no such file, or other callbacks come after this one.

    Notes
    -----
    It must be the last of the net's callbacks, so that the state includes the work of the
    other callbacks at the end of an epoch. Numbers and weights that these keep are saved,
    for example the patience of early stopping. The file does not hold other state of a net
    of your own, such as a scaler of gradients, nor the state of a loader that has its own
    generator or persistent workers.

    A training is recognised by its parameters and callbacks, its initial weights, the
    state of torch's and numpy's generators, so the seed, its targets and some of its
    inputs; of a Dataset, whose inputs may be augmented, by the targets. Of a parameter that
    cannot be described, such as a generator, only the class is compared.

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
        """Restore the saved state, if this training was begun before.

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
        some = np.linspace(0, len(X) - 1, _N_KNOWN).astype(int)
        rows = X[np.unique(some)] if isinstance(X, np.ndarray) else None
        known = _parts_of_training(net, y) | {
            "inputs": (len(X), rows), "sample_weight": getattr(X, "weights", None)
        }  # fmt: skip
        described = {name: _text_and_digest(value) for name, value in known.items()}
        self._begin(net, described, self._load())

    def _begin(
        self, net: Any, training: dict[str, list[str]], state: dict[str, Any] | None
    ) -> None:
        self.training_ = training
        self.max_epochs_ = net.max_epochs
        self.before_ = len(net.history)
        self.begin_ = _generator_states()
        self.pending_: dict[str, Any] | None = None
        if state is not None:
            self._check_same(state["training"])
            _restore(net, state)
            self.before_, self.begin_ = state["before"], state["begin"]
            # skorch draws the split into training and validation data now, as it did then.
            _set_generators(self.begin_)
            self.pending_ = state["generators"]
            # skorch counts epochs from here, not from the begin of the history.
            done = len(net.history) - self.before_
            net.max_epochs = max(self.max_epochs_ - done, 0)
        self.complete_ = self._is_complete(net)

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
            "format": _FORMAT,
            "training": self.training_,
            "before": self.before_,
            "begin": self.begin_,
            "parts": {name: _state_of(part) for name, part in _parts(net).items()},
            "fixed": [k for k, each in _parameters(net) if not each.requires_grad],
            "history": json.dumps(net.history.to_list(), default=float),
            "callbacks": {name: _saved_of(each) for name, each in _callbacks(net)},
            "generators": _generator_states(),
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
        own = [each for _, each in net.callbacks_].index(self)
        later = net.callbacks_[own + 1 :]
        after = [name for name, each in later if not isinstance(each, PrintLog)]
        if after:
            raise ValueError(
                "ResumeTraining must be the last of the net's callbacks, got after it: "
                f"{', '.join(after)}."
            )

    def _load(self) -> dict[str, Any] | None:
        if not Path(self.path).exists():
            return None
        try:
            body = unseal(Path(self.path).read_bytes())
            if body is None:  # torch would not notice
                raise ValueError("damaged")
            state: dict[str, Any] = torch.load(
                io.BytesIO(body), map_location="cpu", weights_only=True
            )
            if state["format"] != _FORMAT:
                raise ValueError("another format")
        except Exception as error:  # a damaged file fails in many ways
            raise ValueError(
                f"{self.path} is no whole state of a training, as ResumeTraining saves it: "
                f"{type(error).__name__} in reading it. Delete it to train anew."
            ) from error
        return state

    def _check_same(self, saved: dict[str, list[str]]) -> None:
        now, nothing = self.training_, ["None", ""]
        pairs = [(k, saved.get(k, nothing), now.get(k, nothing)) for k in {*saved, *now}]
        differs = sorted(f"{k} was {a[0]}, is {b[0]}" for k, a, b in pairs if a[1] != b[1])
        if differs:
            raise ValueError(
                f"{self.path} is the state of another training: {'; '.join(differs)}. Give "
                "another path, or delete it to train anew."
            )


class KeptTraining(ResumeTraining):
    """ResumeTraining into a file in a folder, whose name tells which training it is.

    It does not fail: it replaces a damaged file, and where it cannot write, the training
    continues with a warning.

    Parameters
    ----------
    path : Path
        File of the state. Its folder need not exist yet.
    """

    #: Callbacks whose files would be those of another training.
    _WITH_FILES = (ResumeTraining, Checkpoint, LoadInitState)

    @classmethod
    def of(cls, folder: Path | None, net: Any, X: Any, y: Any) -> "KeptTraining | None":
        """Callback that keeps a training, or None where it cannot be kept.

        Parameters
        ----------
        folder : Path or None
            Folder of trainings.

        net : skorch.NeuralNet
            Net that is to be trained.

        X : ndarray or Dataset
            Inputs.

        y : array-like
            Targets.

        Returns
        -------
        callback : KeptTraining or None
            None where there is no folder, where inputs are not an array, and where a
            callback of the net has files already.

        Warns
        -----
        CertificationWarning
            If something that the training depends on cannot be described.
        """
        in_memory = isinstance(getattr(X, "dataset", X), np.ndarray)
        has_files = any(isinstance(each, cls._WITH_FILES) for _, each in net.callbacks_)
        if folder is None or has_files or not in_memory:
            return None
        try:
            key = describe(_parts_of_training(net, y), X)
        except ValueError as error:
            warn_user(
                f"memory does not keep this training: {error} It could not be told from "
                "others."
            )
            return None
        return cls(folder / f"{key}.pt")

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Restore the kept state, if this training was begun before.

        Parameters
        ----------
        net : skorch.NeuralNet
            Net that is to be trained.

        X, y : object
            Not used.

        **kwargs : dict
            Not used.
        """
        self.writes_ = True
        state = None
        try:
            state = self._load()
        except ValueError:
            warn_user(f"{self.path} is damaged: the net is trained anew.")
        self._begin(net, {"name": [Path(self.path).stem] * 2}, state)

    def on_epoch_end(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Keep the training.

        Parameters
        ----------
        net : skorch.NeuralNet
            Net that is being trained.

        *args, **kwargs : tuple and dict
            Not used.
        """
        if not self.writes_:
            return
        try:
            super().on_epoch_end(net)
        except (OSError, RuntimeError) as error:  # torch's writer has errors of its own
            self.writes_ = False
            warn_user(f"memory cannot be written to ({error}): the training is not kept.")


# Parts that tell trainings apart


def _parts_of_training(net: Any, y: Any) -> dict[str, Any]:
    """All that a training depends on besides the inputs, by names for people."""
    smoothing = getattr(net, "smoothing_", None)
    modules = [getattr(net, f"{name}_") for name in (*net._modules, *net._criteria)]
    begun = [getattr(net, f"{name}_").state_dict().get("state") for name in net._optimizers]
    states = _generator_states()
    if net_device(net).type != "cuda":
        del states["cuda"]
    return {
        **{k: v for k, v in net.get_params(deep=False).items() if k not in _FREE_PARAMS},
        **{f"callback {k}": (type(v), v.get_params()) for k, v in _callbacks(net)},
        "noise": getattr(smoothing, "noise", None),
        "objective": getattr(smoothing, "objective", None),
        "epochs before": (getattr(smoothing, "epochs_before", 0), len(net.history)),
        "class of the net": type(net),
        "generators (so the seed)": states,
        "targets": None if y is None else np.asarray(y),
        "initial weights (so architecture or seed)": (modules, begun, own_state(net)),
    }


def _text_and_digest(value: Any) -> list[str]:
    """Text for people, and a digest that is the same for equal values in every process."""
    digest = digest_of_values(value, getattr(value, "__module__", None))
    text = " ".join(repr(value).split())[:80]
    is_short = isinstance(value, bool | int | float | str | None)
    return [text if is_short else f"{text} ({digest:.8})", digest]


def _callbacks(net: Any) -> Iterator[tuple[str, Any]]:
    """Callbacks of a net that may matter to its training."""
    for name, each in net.callbacks_:
        if not isinstance(each, PrintLog | ResumeTraining):
            yield name, each


# State of a training


def _parts(net: Any) -> dict[str, Any]:
    """Modules, criteria and optimizers of a net, and its learning-rate schedules."""
    names = (*net._modules, *net._criteria, *net._optimizers)
    schedules = {
        f"schedule {name}": each.lr_scheduler_
        for name, each in net.callbacks_
        if getattr(each, "lr_scheduler_", None) is not None
    }
    return {name: getattr(net, f"{name}_") for name in names} | schedules


def _parameters(net: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    for name in net._modules:
        yield from getattr(net, f"{name}_").named_parameters(prefix=name)


def _restore(net: Any, state: dict[str, Any]) -> None:
    for name, part in _parts(net).items():
        part.load_state_dict(state["parts"][name])
    for name, weights in _parameters(net):
        weights.requires_grad_(name not in state["fixed"])
    net.history = History(json.loads(state["history"]))
    for name, each in _callbacks(net):
        for attribute, value in state["callbacks"][name].items():
            if attribute in vars(each) and _is_saved(attribute, value):
                setattr(each, attribute, value)


def _state_of(part: Any) -> Any:
    state = part.state_dict()
    return state if isinstance(part, torch.nn.Module) else _without_numpy(state)


def _without_numpy(value: Any) -> Any:
    """State with Python's numbers for those of numpy, which a safe reader refuses."""
    if isinstance(value, dict):
        return type(value)((k, _without_numpy(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return type(value)(_without_numpy(each) for each in value)
    return value.item() if isinstance(value, np.generic) else value


def _saved_of(callback: Any) -> dict[str, Any]:
    """Numbers and weights that a callback keeps from epoch to epoch."""
    return {
        name: float(value) if isinstance(value, np.floating) else value
        for name, value in vars(callback).items()
        if _is_saved(name, value)
    }


def _is_saved(name: str, value: Any) -> bool:
    is_weights = isinstance(value, dict) and all(
        isinstance(each, torch.Tensor) for each in value.values()
    )
    is_number = isinstance(value, bool | int | float | np.floating)
    return name.endswith("_") and (is_number or is_weights)


def _generator_states() -> dict[str, Any]:
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
