"""Slot number -> batch: filter, selection, mixture, order, windows, batches, loader."""
