"""Historical reads: an entity frame in, feature values as of each of its rows out."""
