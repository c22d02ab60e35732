"""What it costs to filter, join and split a manifest of any number of clips."""
