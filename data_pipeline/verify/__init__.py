"""Whether shards are what their manifest says: bytes, keys, lengths, decodability, people of the splits."""
