"""The rows of a report, made for one clip: landmarks (`motion`) or dubbed videos (`benchmark`), and then measured."""
