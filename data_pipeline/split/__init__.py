"""Who goes into which split: people with all that they share, dealt by shares, lists and held-out corpora."""
