"""A whole run, stage after stage, and what it needs before it starts."""
