"""The table of a manifest: its columns and kinds, its file, and how a new one takes over what an old one knew."""
