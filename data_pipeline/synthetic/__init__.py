"""The drawn corpus: people who are drawn and really speak. Imported by its command, the demo and tests only."""
