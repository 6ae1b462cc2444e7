SELECT "offset", "reason" FROM letters WHERE "partition" = 2 AND "offset" > 5
