SELECT "partition", count(*) AS n FROM archive WHERE "ingested_at" > make_timestamptz(1706745600123456) GROUP BY "partition"
