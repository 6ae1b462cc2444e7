SELECT 0 AS place, CAST(f0 AS text) AS value, count(*) AS n FROM rows WHERE f0 IS NOT NULL GROUP BY f0 ORDER BY n DESC, CAST(f0 AS text) COLLATE "C" LIMIT 20
SELECT 3 AS place, CAST(f3 AS text) AS value, count(*) AS n FROM rows WHERE f3 IS NOT NULL AND length(f3) <= 200 GROUP BY f3 ORDER BY n DESC, CAST(f3 AS text) COLLATE "C" LIMIT 20
SELECT 4 AS place, CAST(f4 AS text) AS value, count(*) AS n FROM rows WHERE f4 IS NOT NULL GROUP BY f4 ORDER BY n DESC, CAST(f4 AS text) COLLATE "C" LIMIT 20
SELECT 9 AS place, CAST(f9 AS text) AS value, count(*) AS n FROM rows WHERE f9 IS NOT NULL AND length(f9) <= 200 GROUP BY f9 ORDER BY n DESC, CAST(f9 AS text) COLLATE "C" LIMIT 20
