"""Weights that methods put on a model: `base.py` says what a row is, `files.py` pins, `published.py` has the rows."""
