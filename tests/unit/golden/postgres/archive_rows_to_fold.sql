SELECT "b""ig", "at" FROM archive WHERE ("partition" = -1 AND "offset" <= 4) OR ("partition" = 0 AND "offset" <= 10)
