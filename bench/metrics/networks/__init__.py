"""Parts of scorers that need torch at their top; the metrics import them when they load."""
