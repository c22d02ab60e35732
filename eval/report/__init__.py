"""A report: built from the scores of clips, checked, written as report.json, and shown as text and as a page."""
