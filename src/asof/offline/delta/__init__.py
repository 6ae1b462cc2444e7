"""Archives as Delta tables."""
