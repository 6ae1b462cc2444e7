SELECT "i""d" FROM archive WHERE "i""d" IS NOT NULL
