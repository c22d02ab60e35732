"""Video and audio files in and out, by time: `from mytalk import media`, then `media.read_frames(...)`."""

from mytalk.media.reading import (
    MOST_HZ,
    VERSION,
    MediaError,
    Probe,
    audio_hz,
    decode_frames,
    measured_hz,
    probe,
    read_audio,
    read_frames,
    read_tags,
)
from mytalk.media.writing import AAC_HZ, CLIP_CODEC, encode_frames, write_video

__all__ = [
    "AAC_HZ",
    "CLIP_CODEC",
    "MOST_HZ",
    "VERSION",
    "MediaError",
    "Probe",
    "audio_hz",
    "decode_frames",
    "encode_frames",
    "measured_hz",
    "probe",
    "read_audio",
    "read_frames",
    "read_tags",
    "write_video",
]
