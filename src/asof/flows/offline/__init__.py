"""Historical reads: feature values as of the time of each row of an entity frame."""
