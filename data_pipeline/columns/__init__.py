"""Further columns of shards: features of every clip in aligned tars."""
