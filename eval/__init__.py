"""Metrics, protocols and reports. Run as `python -m eval`; never `import eval`, which hides the builtin."""
