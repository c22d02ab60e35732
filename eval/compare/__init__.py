"""Several reports at once: paired tests between their methods, and one page of all."""
