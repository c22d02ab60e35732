"""One manifest over third-party tars and existing shard folders."""
