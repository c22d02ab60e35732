"""Facts of clips that are added to the manifest later: a module each, shards are never rewritten."""
