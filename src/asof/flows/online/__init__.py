"""Online reads: feature values at one time, from the online rows, or from history for times before them."""
