"""Rows on their way through the flows: batches, pushes, keys, tombstones, archived rows; no decisions."""
