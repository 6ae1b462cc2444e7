SELECT "offset", "reason" FROM dead_letters WHERE "partition" = 2 AND "offset" > 5
