"""Video and audio files in and out, by time: `from mytalk import media`, then `media.read_frames(...)`."""

from mytalk.media.colour import Colour
from mytalk.media.notes import MediaError, Notes
from mytalk.media.opening import VERSION, Probe, audio_hz, probe, read_tags
from mytalk.media.pictures import MOST_HZ, decode_frames, measured_hz, read_frames, usual_hz
from mytalk.media.sound import read_audio, read_channels
from mytalk.media.writing import AAC_HZ, CLIP_CODEC, encode_frames, write_video, writer

__all__ = [
    "AAC_HZ",
    "CLIP_CODEC",
    "MOST_HZ",
    "VERSION",
    "Colour",
    "MediaError",
    "Notes",
    "Probe",
    "audio_hz",
    "decode_frames",
    "encode_frames",
    "measured_hz",
    "probe",
    "read_audio",
    "read_channels",
    "read_frames",
    "read_tags",
    "usual_hz",
    "write_video",
    "writer",
]
