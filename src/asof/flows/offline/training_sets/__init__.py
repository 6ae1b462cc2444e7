"""Training sets: saved rows of a historical read, which can be rebuilt."""
