SELECT "b""ig", "partition", "offset" FROM archive WHERE ("partition" = -1 AND "offset" <= 9) OR ("partition" = 500000 AND "offset" <= 4) ORDER BY "partition", "offset"
