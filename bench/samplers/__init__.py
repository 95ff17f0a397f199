"""Samplers: diffusers' schedulers by name, with their number of denoiser calls."""
