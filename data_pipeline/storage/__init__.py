"""Bytes of files, local and remote: ranges, retries, and a cache on the node."""
