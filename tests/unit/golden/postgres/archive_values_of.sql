SELECT "b""ig" FROM archive WHERE "b""ig" IS NOT NULL
