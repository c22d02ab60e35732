"""Videos to clips in shards."""
