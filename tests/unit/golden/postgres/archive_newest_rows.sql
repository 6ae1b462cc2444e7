SELECT * FROM (SELECT "partition", "offset", "ingested_at", "happ""ened" AS happened FROM archive WHERE "partition" = 0 ORDER BY "offset" DESC LIMIT 1000) AS newest_0
UNION ALL
SELECT * FROM (SELECT "partition", "offset", "ingested_at", "happ""ened" AS happened FROM archive WHERE "partition" = 1 ORDER BY "offset" DESC LIMIT 1000) AS newest_1
