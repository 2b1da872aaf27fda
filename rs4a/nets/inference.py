"""How a trained net is run when it votes: precision, layout, compilation."""

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import StrOptions
from torch import nn

__all__ = ["Inference", "optimized"]


class Inference(BaseEstimator):
    """How a trained net is run when it votes: a parameter object, as a noise is.

    Votes are by far the longest part of a certification, and a trained net can give them
    faster. The gain of each setting depends on the net and the device; by default the net
    runs unchanged. A net that runs in another way is another classifier, if only by the
    last bits of its outputs: certificates hold for the classifier that ran.

    Parameters
    ----------
    dtype : {"bfloat16", "float16"} or None, default=None
        Precision of matrix products and convolutions, by :class:`torch.autocast`; None
        keeps the net's own. The noise is added in float32 before. "float16" needs a
        GPU: on a CPU it is tens of times slower than float32.

    channels_last : bool, default=False
        Whether weights and inputs with 4 axes have their channels last in memory. A net
        that takes a `view` of its activations has to `reshape` them instead.

    compile : bool, default=False
        Whether :func:`torch.compile` makes kernels for the net: for every shape of batch
        in its first forward pass, in seconds to minutes, and only for the first eight
        shapes of a class of nets. It needs a C++ compiler, or Triton on a GPU.

    Examples
    --------
    >>> from rs4a import Inference
    >>> Inference(dtype="bfloat16", channels_last=True)
    Inference(channels_last=True, dtype='bfloat16')
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "dtype": [StrOptions({"bfloat16", "float16"}), None],
        "channels_last": ["boolean"],
        "compile": ["boolean"],
    }
    #: Parameters of 0.1.0 that files may state.
    _former_params: ClassVar[frozenset[str]] = frozenset({"fold_batch_norm"})

    def __init__(
        self,
        dtype: str | None = None,
        channels_last: bool = False,
        compile: bool = False,  # noqa: A002 (as torch names it)
    ):
        self.dtype = dtype
        self.channels_last = channels_last
        self.compile = compile


def optimized(
    module: nn.Module, inference: Inference | None, device: torch.device
) -> nn.Module:
    """Return a module to run instead of `module` where it votes.

    The compiler gets the net with its final layout. Autocast goes around the compiled net:
    the compiler takes this state of the thread into account.

    Parameters
    ----------
    module : torch.nn.Module
        Trained net, in evaluation mode; it stays as it is. The result shares its weights,
        or copies all of them for another layout: after training, ask for a new module.

    inference : Inference or None
        How to run it. None: unchanged.

    device : torch.device
        Where the net computes.

    Returns
    -------
    optimized : torch.nn.Module
        Function of a batch of inputs, in evaluation mode; `module` itself if there is
        nothing to change. Outputs have the dtype that autocast gives them, half
        precision for a linear layer, so that its user sees how coarse they are.

    Raises
    ------
    ValueError
        If a parameter of `inference` is invalid, the device cannot compute in `dtype`, or
        the module is in training mode.
    """
    inference = Inference() if inference is None else inference
    inference._validate_params()
    if not any(inference.get_params().values()):
        return module
    _check_evaluating(module)
    _check_dtype(inference.dtype, torch.device(device))
    if inference.channels_last:
        module = copy.deepcopy(module).to(memory_format=torch.channels_last)
    if inference.compile:
        # A shape has its own static kernels, whichever shapes came before it. Modes of
        # torch.compile that time kernels against each other could choose others in the
        # next run; those with CUDA graphs overwrite the outputs that they returned last.
        compiled: Any = torch.compile(module, dynamic=False, mode="default")
        module = compiled
    if inference.dtype is None and not inference.channels_last:
        return module
    return _Runner(module, inference, torch.device(device).type)


class _Runner(nn.Module):
    """A module, its inputs in the memory format that it has, and under autocast."""

    def __init__(self, module: nn.Module, inference: Inference, device_type: str):
        super().__init__()
        self.module = module
        self.training = False
        self._channels_last = inference.channels_last
        self._device_type = device_type
        self._dtype = getattr(torch, inference.dtype) if inference.dtype else None

    def forward(self, X: torch.Tensor) -> Any:
        if self._channels_last and X.ndim == 4:
            X = X.contiguous(memory_format=torch.channels_last)
        autocast: AbstractContextManager[Any] = nullcontext()  # the caller's, if any
        if self._dtype is not None:
            autocast = torch.autocast(self._device_type, dtype=self._dtype)
        with autocast:
            return self.module(X)


def _check_evaluating(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if part.training:
            where = f"its layer {name}" if name else "it"
            raise ValueError(
                f"The net must be in evaluation mode to be optimized for voting, but "
                f"{where} is in training mode. Call eval() first."
            )


def _check_dtype(dtype: str | None, device: torch.device) -> None:
    if dtype is None:
        return
    if not torch.amp.is_autocast_available(device.type):
        raise ValueError(f"dtype must be None on the device {device}, got {dtype!r}.")
    if dtype == "float16" and device.type == "cpu":
        raise ValueError(
            "dtype must be 'bfloat16' or None on a CPU, got 'float16': CPUs convolve in it "
            "tens of times more slowly than in float32."
        )
