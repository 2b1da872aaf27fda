"""What X is, decided once."""
