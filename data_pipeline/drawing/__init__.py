"""What the drawn corpus is made of: people, words, mouth shapes, movement, paint, film."""
