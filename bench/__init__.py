"""A benchmark and evaluation harness for noise methods of text-to-image diffusion."""

__version__ = "0.1.0"
