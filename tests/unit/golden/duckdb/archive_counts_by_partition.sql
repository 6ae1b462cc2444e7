SELECT "partition", count(*) AS n FROM letters GROUP BY "partition"
