"""Records of certificates."""
