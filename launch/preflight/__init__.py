"""Before a job: what the machines are, what the training will ask of them, and where it will wait."""
