"""Tests of noise pairs: how they are made, kept, selected and read."""
