"""Families of metrics that need nothing but landmarks, and sound or times of sounds."""
