SELECT "b""ig", "at", "offset" FROM archive ORDER BY "b""ig" NULLS FIRST, "at" NULLS FIRST
