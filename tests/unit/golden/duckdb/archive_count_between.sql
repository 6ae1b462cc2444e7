SELECT count(*) AS n FROM archive WHERE "partition" = 3 AND "offset" > 10 AND "offset" <= 20
