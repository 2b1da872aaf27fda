"""Networks, as plain torch modules."""

from rs4a.networks.mlp import MLP

__all__ = ["MLP"]
