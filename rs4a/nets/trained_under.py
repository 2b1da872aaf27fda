"""The template of deterministic noise that a net was trained under."""

from skorch import NeuralNet

from rs4a.nets.fingerprint import fingerprint
from rs4a.noises import Noise

__all__ = ["noise_of_training", "remember_noise"]


def remember_noise(net: NeuralNet, noise: Noise) -> None:
    """Let a net know under which template it was trained, for whoever uses it elsewhere.

    Parameters
    ----------
    net : skorch.NeuralNet
        Trained net.

    noise : Noise
        Noise of its training; only deterministic noise has a template.
    """
    if noise.deterministic:
        net.trained_under_ = noise, fingerprint(net)


def noise_of_training(net: NeuralNet) -> Noise | None:
    """Noise whose template a net belongs to.

    Parameters
    ----------
    net : skorch.NeuralNet
        Any net.

    Returns
    -------
    noise : Noise or None
        None if there is none, or the net's weights are others by now.
    """
    noise, digest = getattr(net, "trained_under_", (None, None))
    return noise if digest is not None and digest == fingerprint(net) else None
