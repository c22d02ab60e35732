"""Videos to clips in shards: corpora, sources, one pass over each video, spans, rules. Crop: mytalk/face/crop.py."""
