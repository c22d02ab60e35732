"""The layouts of corpora on disk: one file each, listed in layouts.py."""
