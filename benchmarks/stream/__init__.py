"""What the stream costs beside its rivals: `python -m benchmarks.stream`."""
