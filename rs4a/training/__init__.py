"""Training under noise, and recipes for more data."""

from rs4a.training.recipes import replace_last_layer, with_pseudo_labels

__all__ = ["replace_last_layer", "with_pseudo_labels"]
