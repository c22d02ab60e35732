"""Videos to clips in shards: corpora, sources, two passes over each video, spans. The crop: mytalk/face/crop.py."""
