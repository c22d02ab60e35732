"""The windows of motion examples that several tests draw: short ones, of clips of talking people."""

from __future__ import annotations

from data_pipeline.sample.windows import WindowConfig

WINDOW = WindowConfig(min_frames=12, max_frames=24, source_frames=10)
