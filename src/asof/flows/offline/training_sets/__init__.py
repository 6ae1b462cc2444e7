"""Training sets: rows of a historical read that are kept under a name and can be rebuilt."""
