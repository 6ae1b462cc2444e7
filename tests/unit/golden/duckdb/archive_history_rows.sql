SELECT "text", "b""ig", "offset" FROM archive WHERE "partition" = -1
