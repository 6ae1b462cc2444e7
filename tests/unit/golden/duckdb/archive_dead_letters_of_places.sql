SELECT * FROM dead_letters WHERE ("partition" = 0 AND "offset" IN (9)) OR ("partition" = 1 AND "offset" IN (7))
