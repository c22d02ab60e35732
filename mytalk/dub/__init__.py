"""Dubbing a video: a first pass finds the face, the motion is written, a second pass paints it."""
