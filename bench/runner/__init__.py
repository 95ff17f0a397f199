"""From a plan to images and scores."""
