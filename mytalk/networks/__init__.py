"""The networks, what they are made of, and how a trained one lies on disk."""
