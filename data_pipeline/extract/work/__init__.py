"""The work of an extraction: its tasks, who does them, what is said meanwhile, and how it is closed."""
