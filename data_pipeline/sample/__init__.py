"""Slot number -> batch: filter, selection, mixture, order, windows, batches (which replace damaged clips), loader."""
