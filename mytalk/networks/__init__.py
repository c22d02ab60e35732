"""The networks, their building blocks, and the format of a trained one on disk."""
