"""What is there, as tables."""
