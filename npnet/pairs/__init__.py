"""Noise pairs: collected, kept on disk, scored, selected and looked into. Nothing here knows of the network."""
