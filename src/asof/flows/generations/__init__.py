"""Generations of a view's online rows: which there are, how they are written, and how far each is."""
