SELECT "partition", count(*) AS n FROM dead_letters GROUP BY "partition"
