"""How a drawn person is painted."""
