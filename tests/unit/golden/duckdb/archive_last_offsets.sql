SELECT "partition", max("offset") AS last FROM archive GROUP BY "partition" ORDER BY "partition"
