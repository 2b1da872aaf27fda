"""How a trained net is run when it votes: precision, layout, folding, compilation."""

import contextlib
import copy
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import StrOptions
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["Inference", "optimized"]

#: Convolutions and the normalisations that can be folded into them; subclasses may
#: compute something else.
_FOLDABLE: dict[type[_ConvNd], type[_BatchNorm]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}

#: torch.fx patches torch.nn.Module while it traces, and two at a time never mend it.
_TRACING_LOCK = threading.Lock()


class Inference(BaseEstimator):
    """How a trained net is run when it votes: a parameter object, as a noise is.

    Votes are by far the longest part of a certification, and a net that is no longer
    trained can give them faster. What each setting gains depends on the net and the
    device; by default the net is run as it is. A net that is run otherwise is another
    classifier, if only by the last bits of its outputs: certificates hold for the
    classifier that is run so.

    Parameters
    ----------
    dtype : {"bfloat16", "float16"} or None, default=None
        Precision of matrix products and convolutions, by :class:`torch.autocast`; None
        leaves the net's own. The noise is added in float32 before. "float16" needs a
        GPU: on a CPU it is tens of times slower than float32.

    channels_last : bool, default=False
        Whether weights and inputs with 4 axes have their channels last in memory. A net
        that takes a `view` of its activations has to `reshape` them instead.

    compile : bool, default=False
        Whether :func:`torch.compile` makes kernels for the net: for every shape of batch
        in its first forward pass, seconds to minutes, and for the first eight shapes of
        a class of nets only. It needs a C++ compiler, or Triton on a GPU.

    fold_batch_norm : bool, default=False
        Whether batch normalisations that directly follow a convolution are folded into
        its weights.

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
        "fold_batch_norm": ["boolean"],
    }

    def __init__(
        self,
        dtype: str | None = None,
        channels_last: bool = False,
        compile: bool = False,  # noqa: A002 (as torch names it)
        fold_batch_norm: bool = False,
    ):
        self.dtype = dtype
        self.channels_last = channels_last
        self.compile = compile
        self.fold_batch_norm = fold_batch_norm


def optimized(
    module: nn.Module, inference: Inference | None, device: torch.device
) -> nn.Module:
    """Return a module to run instead of `module` where it votes.

    Folding comes first, since it makes the weights that are then laid out; the compiler
    gets the net with its final weights and layout; autocast goes around all of it, as a
    state of the thread that the compiler takes into account.

    Parameters
    ----------
    module : torch.nn.Module
        Trained net, in evaluation mode; it is left as it is. Weights that need no other
        values or layout are shared with it, the others are copied: after training, ask
        for a new module.

    inference : Inference or None
        How to run it; None: as it is.

    device : torch.device
        Where the net computes.

    Returns
    -------
    optimized : torch.nn.Module
        Function of a batch of inputs, in evaluation mode; `module` itself if there is
        nothing to change. Outputs have the dtype that autocast gives them, half
        precision for a linear layer, so that their user sees how coarse they are.

    Raises
    ------
    ValueError
        If a parameter of `inference` is invalid, the device cannot compute in `dtype`,
        the module is in training mode, or it cannot be traced for folding.
    """
    inference = Inference() if inference is None else inference
    inference._validate_params()
    if not any(inference.get_params().values()):
        return module
    _check_evaluating(module)
    _check_dtype(inference.dtype, torch.device(device))
    with torch.no_grad():
        if inference.fold_batch_norm:
            module = _folded(module)
        if inference.channels_last:
            module = copy.deepcopy(module).to(memory_format=torch.channels_last)
    if inference.compile:
        module = _compiled(module)
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
        with self._autocast():
            return self.module(X)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._dtype is None:
            return contextlib.nullcontext()  # not a disabled one: a caller may have its own
        return torch.autocast(self._device_type, dtype=self._dtype)


def _compiled(module: nn.Module) -> nn.Module:
    """Compiled module; nothing is compiled before its first forward pass.

    A shape has its own static kernels, whichever shapes came before it. The modes of
    torch.compile that time kernels against each other could choose others in the next
    run, those with CUDA graphs overwrite the outputs that they returned last.
    """
    compiled: Any = torch.compile(module, dynamic=False, mode="default")
    return compiled


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


# Folding. torch.fx.experimental.optimization.fuse does the same but for a convolution that
# is called twice: it changes both calls, though one be without normalisation
# (pytorch/pytorch#104593). Here every call that is folded has a convolution of its own.


class _OneInput(nn.Module):
    """A module as a function of one input: it keeps its hooks and its other defaults."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        self.training = False

    def forward(self, X: torch.Tensor) -> Any:
        return self.module(X)


class _Tracer(fx.Tracer):
    """Tracer of one thread: the forward passes of others go on meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(
        self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def _folded(module: nn.Module) -> nn.Module:
    """Module with batch normalisations folded into the convolutions before them."""
    traced = _traced(module)
    parts = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        pair = _conv_and_norm(node, parts)
        if pair is None:
            continue
        conv, norm = pair
        conv_node = node.args[0]
        conv_node.target = f"folded_{conv_node.name}"
        traced.add_module(conv_node.target, fuse_conv_bn_eval(conv, norm))
        node.replace_all_uses_with(conv_node)
        traced.graph.erase_node(node)
    return fx.GraphModule(traced, traced.graph).eval()  # with the parts it uses, no others


def _traced(module: nn.Module) -> fx.GraphModule:
    try:
        with _TRACING_LOCK:
            tracer = _Tracer()
            graph = tracer.trace(_OneInput(module))
        return fx.GraphModule(tracer.root, graph)
    except Exception as error:  # whatever the net's own code makes of a symbolic input
        raise ValueError(
            f"fold_batch_norm must be False for {type(module).__name__}, got True: "
            f"torch.fx cannot trace it: {error}"
        ) from error


def _conv_and_norm(
    node: fx.Node, parts: dict[str, nn.Module]
) -> tuple[_ConvNd, _BatchNorm] | None:
    """Convolution and normalisation if `node` normalises a convolution's only use."""
    before = node.args[0] if len(node.args) == 1 else None
    if not isinstance(before, fx.Node) or len(before.users) > 1:
        return None
    conv, norm = _called(before, parts), _called(node, parts)
    if not isinstance(conv, _ConvNd) or not isinstance(norm, _BatchNorm):
        return None
    known = _FOLDABLE.get(type(conv)) is type(norm) and norm.running_mean is not None
    return (conv, norm) if known and not (_has_hooks(conv) or _has_hooks(norm)) else None


def _called(node: fx.Node, parts: dict[str, nn.Module]) -> nn.Module | None:
    """Module that a node calls, if it calls one and that is no folded one."""
    return parts.get(str(node.target)) if node.op == "call_module" else None


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
