"""What tests share: shards of synthetic talkers, servers that fail, runs of the training matrix."""
