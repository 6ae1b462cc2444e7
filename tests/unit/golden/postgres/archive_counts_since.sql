SELECT "partition", count(*) AS n FROM archive WHERE "ingested_at" > timestamptz '2024-02-01 00:00:00.123456+00:00' GROUP BY "partition"
