import copy
import json
import shutil

import pytest
import torch
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn

from rs4a import Inference
from rs4a.nets.inference import optimized
from rs4a.networks import MLP, WideResNet
from rs4a.utils.params import from_json, to_json

CPU = torch.device("cpu")
OPTIONS = [
    {"dtype": "bfloat16"},
    {"channels_last": True},
    {"dtype": "bfloat16", "channels_last": True},
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


# compile


@pytest.mark.skipif(
    not any(map(shutil.which, ["c++", "g++", "clang++"])), reason="needs a C++ compiler"
)
# Python 3.13.0 has a defect, gone in 3.13.1, which costs torch.compile time, no result.
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_compiled_outputs_agree(dtype):
    net = net_named("conv_net")
    state = copy.deepcopy(net.state_dict())
    inference = Inference(dtype, channels_last=True, compile=True)
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
    + [(name, "yes") for name in ("channels_last", "compile")]
    + [(name, None) for name in ("channels_last", "compile")],
)
def test_invalid_parameters(name, value):
    inference = Inference(**{name: value})  # the constructor only stores
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of Inference"):
        optimized(net_named("conv_net"), inference, CPU)
