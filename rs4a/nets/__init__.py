"""What nets answer, and what they are."""
