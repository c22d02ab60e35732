"""MyTalk: lip sync by speech-to-motion diffusion and motion-conditioned appearance (arXiv 2406.08096)."""
