"""Benchmarks of models whose rows are over people."""
