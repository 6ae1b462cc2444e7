"""Feature reads of the server: the readers of one snapshot, on-demand functions, and the responses."""
