"""A manifest over tars that others wrote and over folders of shards, merged."""
