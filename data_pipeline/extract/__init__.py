"""Videos to clips in shards: corpora, sources, one pass over each video, spans, rules. The crop: mytalk/face/crop.py."""
