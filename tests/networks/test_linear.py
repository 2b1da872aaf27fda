import pytest
import torch

from rs4a.networks import Linear


@pytest.mark.parametrize("shape", [(2, 3, 4), (24,)])
def test_weights_times_flat_inputs(shape):
    torch.manual_seed(0)
    net = Linear(shape, n_classes=5)
    X = torch.randn(6, *shape)
    expected = X.reshape(6, 24) @ net.layer.weight.T + net.layer.bias
    torch.testing.assert_close(net(X), expected)
