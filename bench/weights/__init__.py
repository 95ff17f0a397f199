"""Weights put on a model's denoiser: `base.py` says what a row is, `files.py` pins them, `published.py` has the rows."""
