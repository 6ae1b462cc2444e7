"""What serving reads: one packed row per table and key, behind one protocol with one file per product."""
