"""Metrics, one a file; `base.py` says what one is."""
