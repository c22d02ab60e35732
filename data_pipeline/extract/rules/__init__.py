"""The rules that spans are judged by, and their thresholds."""
