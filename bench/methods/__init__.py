"""Noise methods, one a file. To add one, copy `inversion.py` or see README.md, "Add a method"."""
