"""A small training is disturbed in every way that a cluster disturbs one; afterwards nothing may differ."""
