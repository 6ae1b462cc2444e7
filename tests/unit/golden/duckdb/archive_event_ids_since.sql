SELECT "i""d" AS id, "partition", "offset", "ingested_at" FROM archive WHERE "ingested_at" >= make_timestamptz(1706745600123456) AND "i""d" IS NOT NULL
