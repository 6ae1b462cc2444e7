SELECT * FROM served ORDER BY "served_at", "partition", "offset"
