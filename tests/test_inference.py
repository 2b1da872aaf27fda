import copy
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
import torch
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn

from rs4a.inference import Inference, optimized
from rs4a.networks import MLP, WideResNet
from rs4a.utils.params import from_json, to_json

CPU = torch.device("cpu")
OPTIONS = [
    {"dtype": "bfloat16"},
    {"channels_last": True},
    {"fold_batch_norm": True},
    {"dtype": "bfloat16", "channels_last": True, "fold_batch_norm": True},
]
NETS = ["conv_net", "wide_resnet"]


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16, affine=False), nn.ReLU(),
            nn.Dropout(0.5),
        )  # fmt: skip
        self.fc = nn.Linear(16, 5)

    def forward(self, X):
        return self.fc(self.layers(X).mean(dim=(2, 3)))


def trained(module):
    """The module as training might leave it: its normalisations do something."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_()
            part.running_var.uniform_(0.3, 3.0)
            if part.affine:
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias)
    return module.eval()


def net_named(name):
    torch.manual_seed(0)
    return trained(ConvNet() if name == "conv_net" else WideResNet(10, 1))


def images(n=8, side=12):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, side, side, generator=generator)


def run(module, X):
    with torch.inference_mode():
        return module(X)


def assert_same_outputs(module, other, X, dtype=torch.float32):
    """Equal to some units in the last place of `dtype`, as shares of the largest output."""
    expected, outputs = run(module, X), run(other, X)
    assert outputs.dtype == dtype
    scale = expected.abs().max().item()
    torch.testing.assert_close(
        outputs.float(), expected, rtol=0, atol=16 * torch.finfo(dtype).eps * scale
    )


def n_norms(module):
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


# What every option does


@pytest.mark.parametrize("inference", [None, Inference()])
def test_defaults_return_the_module_itself(inference):
    net = ConvNet()  # in training mode, which is nobody's business here
    assert optimized(net, inference, CPU) is net


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_outputs_agree(name, options):
    net = net_named(name)
    dtype = torch.bfloat16 if "dtype" in options else torch.float32
    fast = optimized(net, Inference(**options), CPU)
    for X in (images(), images(3, side=20)):
        assert_same_outputs(net, fast, X, dtype)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_module_stays_as_it_was(name, options):
    net = net_named(name)
    parts = dict(net.named_modules())
    tensors = dict(net.state_dict(keep_vars=True))
    before = {key: value.detach().clone() for key, value in tensors.items()}
    layouts = {key: (v.data_ptr(), v.stride()) for key, v in tensors.items()}

    fast = optimized(net, Inference(**options), CPU)
    run(fast, images())

    assert {key: id(part) for key, part in net.named_modules()} == {
        key: id(part) for key, part in parts.items()
    }
    assert not any(part.training for part in net.modules())
    after = net.state_dict(keep_vars=True)
    assert after.keys() == before.keys()
    for key, value in after.items():
        assert value is tensors[key]
        assert (value.data_ptr(), value.stride()) == layouts[key]
        assert value.requires_grad == isinstance(value, nn.Parameter)
        torch.testing.assert_close(value.detach(), before[key], rtol=0, atol=0)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_result_is_in_evaluation_mode(options):
    fast = optimized(net_named("conv_net"), Inference(**options), CPU)
    assert not any(part.training for part in fast.modules())


@pytest.mark.parametrize("options", [*OPTIONS, {"compile": True}], ids=str)
def test_training_mode_is_refused(options):
    net = net_named("conv_net")
    net.layers[1].train()
    with pytest.raises(ValueError, match=r"its layer layers\.1 is in training mode"):
        optimized(net, Inference(**options), CPU)
    with pytest.raises(ValueError, match=r"but it is in training mode\. Call eval"):
        optimized(net.train(), Inference(**options), CPU)


# dtype


def test_dtype_shares_all_weights():
    net = net_named("conv_net")
    for _ in range(2):
        fast = optimized(net, Inference(dtype="bfloat16"), CPU)
        assert all(a is b for a, b in zip(net.parameters(), fast.parameters(), strict=True))


def test_without_dtype_autocast_is_the_callers():
    fast = optimized(net_named("conv_net"), Inference(channels_last=True), CPU)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert run(fast, images()).dtype == torch.bfloat16
    assert run(fast, images()).dtype == torch.float32


def test_float16_on_a_cpu_is_refused():
    with pytest.raises(ValueError, match="dtype must be 'bfloat16' or None on a CPU"):
        optimized(net_named("conv_net"), Inference(dtype="float16"), CPU)


def test_device_without_autocast_is_refused():
    with pytest.raises(ValueError, match="dtype must be None on the device meta"):
        optimized(net_named("conv_net"), Inference(dtype="bfloat16"), torch.device("meta"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_float16_on_a_gpu():
    net = net_named("conv_net").cuda()
    fast = optimized(net, Inference(dtype="float16"), torch.device("cuda"))
    assert_same_outputs(net, fast, images().cuda(), torch.float16)


# channels_last


def test_channels_last_lays_out_weights_and_inputs():
    seen = []
    net = net_named("conv_net")
    net.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    fast = optimized(net, Inference(channels_last=True), CPU)
    run(fast, images())
    weights = [value for value in fast.parameters() if value.ndim == 4]
    assert len(weights) == 2
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(7,), (7, 2), (3, 2, 2, 2)])
def test_channels_last_leaves_other_inputs_alone(shape):
    net = MLP(shape, n_classes=3).eval()
    fast = optimized(net, Inference(channels_last=True), CPU)
    X = torch.randn(4, *shape)
    torch.testing.assert_close(run(fast, X), run(net, X), rtol=0, atol=0)


# fold_batch_norm


@pytest.mark.parametrize(
    ("name", "n_before", "n_after"), [("conv_net", 2, 0), ("wide_resnet", 7, 4)]
)
def test_folding_removes_norms_behind_convolutions(name, n_before, n_after):
    net = net_named(name)
    fast = optimized(net, Inference(fold_batch_norm=True), CPU)
    assert (n_norms(net), n_norms(fast)) == (n_before, n_after)


def test_folding_shares_the_other_weights():
    net = net_named("wide_resnet")
    first, second = (optimized(net, Inference(fold_batch_norm=True), CPU) for _ in "ab")
    shared = {id(value) for value in net.parameters()}
    own = [value for value in first.parameters() if id(value) not in shared]
    assert len(own) == 6  # weight and bias of the convolutions before three norms
    assert shared & {id(value) for value in first.parameters()} == shared & {
        id(value) for value in second.parameters()
    }
    assert any(value is net.fc.weight for value in first.parameters())


class Shared(nn.Module):
    """A convolution that is called with a normalisation behind it, and without."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, X):
        return self.norm(self.conv(X)) + self.conv(2 * X)


class Twice(Shared):
    """A convolution whose output is used with a normalisation, and without."""

    def forward(self, X):
        planes = self.conv(X)
        return self.norm(planes) + planes


class Defaults(Shared):
    """A module that does something else where it gets a second argument."""

    def forward(self, X, scale=None):
        return self.norm(self.conv(X if scale is None else scale * X))


@pytest.mark.parametrize(("kind", "n_norms_left"), [(Shared, 0), (Twice, 1), (Defaults, 0)])
def test_folding_looks_at_every_call(kind, n_norms_left):
    net = trained(kind())
    fast = optimized(net, Inference(fold_batch_norm=True), CPU)
    assert n_norms(fast) == n_norms_left
    assert_same_outputs(net, fast, images())


@pytest.mark.parametrize("where", ["conv", "norm", ""])
def test_folding_keeps_hooks(where):
    net = trained(Shared())
    net.get_submodule(where).register_forward_hook(lambda *args: 3 * args[-1].abs())
    fast = optimized(net, Inference(fold_batch_norm=True), CPU)
    assert_same_outputs(net, fast, images())


class DoubledConv(nn.Conv2d):
    def forward(self, X):
        return 2 * super().forward(X).abs()


@pytest.mark.parametrize(
    "norm", [nn.InstanceNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False)]
)
def test_folding_leaves_other_norms(norm):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), norm).eval()
    fast = optimized(net, Inference(fold_batch_norm=True), CPU)
    assert_same_outputs(net, fast, images())


def test_folding_leaves_subclasses_of_convolutions():
    net = trained(nn.Sequential(DoubledConv(3, 4, 1), nn.BatchNorm2d(4)))
    fast = optimized(net, Inference(fold_batch_norm=True), CPU)
    assert_same_outputs(net, fast, images())


def test_folding_without_anything_to_fold():
    net = MLP((3, 12, 12), n_classes=4).eval()
    assert_same_outputs(net, optimized(net, Inference(fold_batch_norm=True), CPU), images())


class Untraceable(Shared):
    def forward(self, X):
        return self.norm(self.conv(X if X.sum() > 0 else -X))


def test_folding_what_cannot_be_traced():
    with pytest.raises(ValueError, match=r"fold_batch_norm must be False for Untraceable"):
        optimized(trained(Untraceable()), Inference(fold_batch_norm=True), CPU)


def test_folding_while_other_threads_classify():
    net, X = net_named("wide_resnet"), images(2)
    expected, call = run(net, X), nn.Module.__call__
    done = threading.Event()

    def classify():
        outputs = []
        while not done.is_set():
            outputs = [*outputs[-50:], run(net, X)]
        return outputs

    def fold():
        return [optimized(net, Inference(fold_batch_norm=True), CPU) for _ in range(5)]

    with ThreadPoolExecutor(3) as pool:
        outputs = pool.submit(classify)
        folded = [pool.submit(fold) for _ in range(2)]
        wait(folded)
        done.set()
    for fast in folded[0].result() + folded[1].result():
        assert n_norms(fast) == 4
        assert_same_outputs(net, fast, X)
    for output in outputs.result():
        torch.testing.assert_close(output, expected)
    assert nn.Module.__call__ is call


# compile


@pytest.mark.skipif(
    not any(map(shutil.which, ["c++", "g++", "clang++"])), reason="needs a C++ compiler"
)
# Python 3.13.0 has a defect, gone in 3.13.1, which costs torch.compile time, no result.
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
@pytest.mark.parametrize("dtype", [None, pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_compiled_outputs_agree(dtype):
    net = net_named("conv_net")
    state = copy.deepcopy(net.state_dict())
    inference = Inference(dtype, channels_last=True, compile=True, fold_batch_norm=True)
    fast = optimized(net, inference, CPU)
    assert_same_outputs(net, fast, images(), torch.bfloat16 if dtype else torch.float32)
    assert not any(part.training for part in fast.modules())
    assert not any(part.training for part in net.modules())
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=0, atol=0)


def test_compilation_shares_all_weights_and_waits():
    net = net_named("conv_net")
    fast = optimized(net, Inference(compile=True), CPU)
    assert all(a is b for a, b in zip(net.parameters(), fast.parameters(), strict=True))
    assert not any(part.training for part in fast.modules())


# The parameter object


def test_parameters():
    inference = Inference(dtype="bfloat16", compile=True)
    assert inference.get_params() == {
        "dtype": "bfloat16",
        "channels_last": False,
        "compile": True,
        "fold_batch_norm": False,
    }
    assert clone(inference).get_params() == inference.get_params()
    assert inference.set_params(dtype=None, compile=False).get_params() == (
        Inference().get_params()
    )


def test_parameters_survive_json():
    inference = Inference(dtype="float16", channels_last=True)
    data = json.loads(json.dumps(to_json(inference)))
    again = from_json(data, {"Inference": Inference})
    assert again.get_params() == inference.get_params()


@pytest.mark.parametrize(
    ("name", "value"),
    [("dtype", "float64"), ("dtype", torch.bfloat16), ("dtype", "")]
    + [(name, "yes") for name in ("channels_last", "compile", "fold_batch_norm")]
    + [(name, None) for name in ("channels_last", "compile", "fold_batch_norm")],
)
def test_invalid_parameters(name, value):
    inference = Inference(**{name: value})  # the constructor only stores
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of Inference"):
        optimized(net_named("conv_net"), inference, CPU)
