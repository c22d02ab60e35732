"""A clip, or a source video with what extraction made of it, drawn for people to look at."""
