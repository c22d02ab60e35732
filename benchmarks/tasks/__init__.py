"""How fast tasks are shared out, and what a second worker brings: `python -m benchmarks.tasks`."""
