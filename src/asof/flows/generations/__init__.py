"""Generations of a view's online rows: their names, writes and progress."""
