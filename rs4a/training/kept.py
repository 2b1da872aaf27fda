"""Trainings that are kept in a folder, found again by all that they depend on."""

from pathlib import Path
from typing import Any

from rs4a.nets.outputs import net_device
from rs4a.training.resume import (
    FREE_PARAMS,
    ResumeTraining,
    description_of_training,
    generator_states,
    other_callbacks,
)
from rs4a.utils.describe import describe
from rs4a.utils.user_warnings import warn_user

__all__ = ["KeptTraining"]


class KeptTraining(ResumeTraining):
    """ResumeTraining into a folder, where files are named by the trainings themselves.

    It does not fail: a file that is damaged is replaced, and where nothing can be written
    the training goes on, with a warning. A training that cannot be told from others, since
    something that it depends on has no description, is done and not kept, with a warning.

    Parameters
    ----------
    folder : Path
        It need not exist yet.
    """

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.folder = folder

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Restore what was kept, if this training was begun before.

        Parameters
        ----------
        net : skorch.NeuralNet
            Net that is to be trained.

        X : ndarray
            Inputs.

        y : array-like
            Targets.

        **kwargs : dict
            Not used.
        """
        try:
            key = _training_key(net, X, y)
            described = description_of_training(net, X, y)
        except ValueError as error:
            self._keep_nothing(net)
            warn_user(
                f"memory does not keep this training: {error} It could not be told from "
                "others."
            )
            return
        self.path = self.folder / f"{key}.pt"
        self.writes_ = True
        if self._is_damaged():
            warn_user(f"{self.path} is damaged: the net is trained anew.")
            self.path = self.folder / f"{key}.anew.pt"
        self._begin(net, described)
        self.path = self.folder / f"{key}.pt"

    def _keep_nothing(self, net: Any) -> None:
        self.writes_ = self.complete_ = False
        self.pending_ = None
        self.max_epochs_ = net.max_epochs

    def _is_damaged(self) -> bool:
        try:
            return Path(self.path).exists() and not self._load()
        except ValueError:
            return True

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


def _training_key(net: Any, X: Any, y: Any) -> str:
    smoothing = net.smoothing_
    params = {
        name: value
        for name, value in net.get_params(deep=False).items()
        if name not in FREE_PARAMS
    }
    plain_class = type(net).__mro__[1]  # without what the training adds
    modules = [getattr(net, f"{name}_") for name in (*net._modules, *net._criteria)]
    callbacks = [
        (name, type(each), each.get_params() if hasattr(each, "get_params") else vars(each))
        for name, each in other_callbacks(net)
    ]
    states, on_cuda = generator_states(), net_device(net).type == "cuda"
    generators = {name: each for name, each in states.items() if name != "cuda" or on_cuda}
    begun = smoothing.noise, smoothing.objective, smoothing.epochs_before, len(net.history)
    return describe(plain_class, params, modules, callbacks, generators, *begun, X, y)
