"""Prompt sets: `base.py` says what one is, `files.py` reads the public ones, `own.py` the files that a suite names."""
