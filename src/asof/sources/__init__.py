"""Where rows come from: one protocol, and a file per product."""
