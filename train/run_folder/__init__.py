"""What a run keeps on disk, and how it begins again from it."""
