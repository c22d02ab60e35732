"""Jobs of Slurm: what is asked for, the script that does it, and what becomes of it."""
