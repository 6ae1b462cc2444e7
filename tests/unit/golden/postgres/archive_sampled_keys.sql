SELECT DISTINCT "text", "b""ig" FROM archive WHERE "offset" % 7 = 3 AND "text" IS NOT NULL AND "b""ig" IS NOT NULL LIMIT 200
