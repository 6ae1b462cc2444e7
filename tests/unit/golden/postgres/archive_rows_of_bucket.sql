SELECT * FROM archive WHERE 0 = 0 AND (("partition" = -1 AND "offset" <= 4) OR ("partition" = 0 AND "offset" <= 10))
