"""The judges of others, measured: `python -m benchmarks.judges`."""
