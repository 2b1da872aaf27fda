"""Training under noise."""
