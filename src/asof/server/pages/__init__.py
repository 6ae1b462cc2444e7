"""The catalog's pages on the feature server; loaded at the first request for one."""
