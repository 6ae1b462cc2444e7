SELECT "b""ig" FROM archive WHERE ("partition" = 0 AND "offset" <= 10) ORDER BY "b""ig", "at"
