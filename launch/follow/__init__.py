"""What a run folder tells of its training, and when a training that ended is started again."""
