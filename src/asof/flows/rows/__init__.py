"""Forms of rows within the flows: batches, pushes, keys, tombstones, archived rows; no decisions."""
