"""From a slot number to a batch: filter, mixture, order, windows, batches, loader."""
