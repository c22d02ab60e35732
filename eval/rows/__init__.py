"""The rows of a report, made for one clip: landmarks (`score`) or dubbed videos (`benchmark`), and then measured."""
