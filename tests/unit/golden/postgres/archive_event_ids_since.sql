SELECT "i""d" AS id, "partition", "offset", "ingested_at" FROM archive WHERE "ingested_at" >= timestamptz '2024-02-01 00:00:00.123456+00:00' AND "i""d" IS NOT NULL
