"""Marks of tests that need packages which may be missing: without them they are skipped, with the reason."""

from __future__ import annotations

import importlib.util

import pytest


def packages(*names: str, extras: str) -> pytest.MarkDecorator:
    """Skipped unless all of these are installed, which `extras` bring."""
    lacking = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(lacking), reason=f"needs {', '.join(lacking)} of the extras {extras}")


drawn_people = packages("mediapipe", "espeakng_loader", "cv2", extras="landmarks and demo")
drawn_scenes = packages("mediapipe", "scenedetect", "espeakng_loader", "cv2", extras="landmarks and demo")
ray = packages("ray", extras="ray")
