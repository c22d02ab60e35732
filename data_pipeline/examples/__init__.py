"""Training examples, one file for each recipe."""
