"""What the drawn people say, their voices, and the mouth shapes of it."""
