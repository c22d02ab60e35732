"""The format on disk: shards, clips, checksums, manifest and ledgers, read and written."""
