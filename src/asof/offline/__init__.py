"""Where history is kept and joined: one protocol, and a file per product."""
