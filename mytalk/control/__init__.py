"""What a user decides about the mouth beside the speech: promises, how far it moves, and the file of its motion."""
