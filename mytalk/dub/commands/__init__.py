"""The commands of `python -m mytalk`."""
