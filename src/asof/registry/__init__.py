"""Where applied definitions live: one protocol, and one file per product."""
