"""Smoothed classifiers in files: the methods `save`, `load` and `from_checkpoint`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from rs4a.bounds import Bound
from rs4a.nets.outputs import check_is_net, check_net
from rs4a.noises import Noise
from rs4a.objectives import Objective
from rs4a.persistence.checkpoints import net_from_checkpoint
from rs4a.persistence.classifiers import describe, not_in_file, parts_to_give, restore
from rs4a.persistence.files import read_classifier, write_classifier
from rs4a.utils.files import whole_file

#: Errors of a header that `save` did not write.
_MALFORMED = (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError)


class SavedToFiles(BaseEstimator):
    """The methods of a smoothed classifier that write and read files."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted classifier: parameters as JSON, weights as safetensors.

        The file holds no pickle. The file appears whole or not at all, and only after a
        trial reading.

        Parameters
        ----------
        path : str or path-like
            File to write, under exactly this name.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        TypeError
            If the classifier is of a subclass, or if a file cannot hold a parameter or an
            attribute.
        ValueError
            If `load` could not restore the classifier.

        See Also
        --------
        load : Reads the file.

        Notes
        -----
        The file holds the seed of the votes. Certificates hold against an attacker who
        does not know the seed: if the file is public, set `random_state` to a secret number
        before you use the classifier.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklearn.datasets import load_digits
        >>> from rs4a import SmoothedClassifier
        >>> X, y = load_digits(n_class=2, return_X_y=True)
        >>> clf = SmoothedClassifier(random_state=0).fit(X[:50] / 16, y[:50])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "digits.safetensors")
        ...     clf.save(path)
        ...     again = SmoothedClassifier.load(path)
        >>> bool((again.predict(X[50:] / 16) == clf.predict(X[50:] / 16)).all())
        True
        """
        if type(self).__module__.partition(".")[0] != __name__.partition(".")[0]:
            raise TypeError(
                f"classifier must be a SmoothedClassifier, got {type(self).__name__}."
            )
        check_is_fitted(self, "estimator_")
        classifier: Any = self
        check_is_net(
            classifier.estimator_,
            "save, whose files hold no pickle,",
            " joblib.dump writes other classifiers, for readers who trust the file.",
        )
        header, tensors = describe(classifier)
        with whole_file(path) as partial:
            write_classifier(partial, header, tensors)
            try:
                self.load(partial, **parts_to_give(classifier, header))
            except ValueError as error:
                raise ValueError(
                    "The classifier cannot be saved, since it would not come back: "
                    f"{error}{not_in_file(classifier.estimator_)}"
                ) from error

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        estimator: Any = None,
        noise: Noise | None = None,
        objective: Objective | None = None,
        bound: Bound | None = None,
        device: str | torch.device | None = None,
    ) -> Self:
        """Read a classifier that :meth:`save` wrote. No code from the file is run.

        Parameters
        ----------
        path : str or path-like
            File to read.

        estimator : skorch.NeuralNet, default=None
            The net that the classifier was made with, fitted or not. It is needed if its
            module, or another part of it, is not of rs4a, torch or skorch. Module and
            criterion must be those that the file states; parameters of training may
            differ. The net is not changed.

        noise : Noise, default=None
            The noise of the classifier, needed if its class is not of rs4a. It must equal
            the noise that the file states.

        objective : Objective, default=None
            The training objective, under the same conditions.

        bound : Bound, default=None
            The bound, under the same conditions.

        device : str or torch.device, default=None
            Device of the net. None: the device of `estimator`, or else the saved device, or
            "cpu" if this machine does not have it.

        Returns
        -------
        classifier : SmoothedClassifier
            Fitted classifier, which casts the same votes as the saved classifier.

        Raises
        ------
        ValueError
            If the file is not whole, is of a later format, names a class that is not
            given, or states another net, noise, objective or bound than is given.
        TypeError
            If `estimator` is not a skorch net.

        See Also
        --------
        save : Writes the file, and has an example.

        Notes
        -----
        `n_jobs`, `verbose` and `memory` belong to the machine and have their defaults; a
        generator as `random_state` becomes None. `partial_fit` continues the training
        without the states of optimizers and callbacks, which the file does not hold.
        `estimator` is a net without weights, even if the saved classifier continued from
        a fitted net.
        """
        if estimator is not None:
            check_net(estimator)
        given = {"noise": noise, "objective": objective, "bound": bound}
        try:
            header, tensors = read_classifier(Path(path))
            classifier: Self = restore(cls, header, tensors, estimator, given, device)
        except _MALFORMED as error:
            raise ValueError(
                f"{Path(path).name} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        return classifier

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        *,
        noise: Noise | None = None,
        network: Mapping[str, Any] | None = None,
        device: str = "cpu",
        **params: Any,
    ) -> Self:
        """Smoothed classifier around a trained net in a file, ready to certify.

        The result equals ``SmoothedClassifier(FrozenEstimator(net), noise=noise)``,
        fitted on images in [0, 1].

        Parameters
        ----------
        path : str or path-like
            File of weights, as :func:`~rs4a.persistence.load_checkpoint` reads it.

        noise : Noise, default=None
            Smoothing noise. None: the noise in the name of the file, as in
            "cifar_uniform_050.pt", or in the header of a file of version 0.1.0.

        network : dict, default=None
            Further arguments of :func:`~rs4a.persistence.load_checkpoint`, such as ``name``
            or ``input_shape``, for files that do not state them.

        device : str, default="cpu"
            Device of the net.

        **params : dict
            Further parameters of the classifier, such as ``bound``, ``batch_size`` and
            ``random_state``.

        Returns
        -------
        classifier : SmoothedClassifier
            Fitted classifier.

        Raises
        ------
        ValueError
            If the file is not a whole checkpoint, if neither file nor name states the
            noise, or if the file states another template of deterministic splitting.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from skorch import NeuralNetClassifier
        >>> from rs4a import SmoothedClassifier
        >>> from rs4a.networks import make_network
        >>> net = NeuralNetClassifier(
        ...     make_network, module__name="MLP", module__dataset="digits"
        ... ).initialize()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "digits_uniform_050.safetensors")
        ...     net.save_params(f_params=path, use_safetensors=True)
        ...     clf = SmoothedClassifier.from_checkpoint(path, random_state=0)
        >>> clf.noise_, clf.input_shape_
        (Uniform(sigma=0.5), (1, 8, 8))
        """
        net, noise, shape = net_from_checkpoint(path, noise, network, device)
        # `fit` does not train a frozen net: two images state shape and scale. Their values
        # are fractions of 1 on the grid of a noise that has a grid.
        steps = getattr(noise, "levels", 4)
        values = np.round(steps * np.array([0.25, 0.75])) / steps
        X = np.stack([np.full(shape, value, dtype=np.float32) for value in values])
        classifier: Any = cls(FrozenEstimator(net), noise=noise, **params)
        return classifier.fit(X, np.asarray(net.classes)[:2])
