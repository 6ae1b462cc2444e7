"""Online reads: feature values at one moment, from the online rows or, where they cannot say, from history."""
