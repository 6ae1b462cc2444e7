"""What several pages show: examples of keys, freshness, trust, what depends on an object."""
