SELECT DISTINCT k0 AS "user_id", make_timestamptz(ts) AS "event_timestamp" FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, coalesce(epoch_us("written"), ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000) AS created, asof_row AS arrived, asof_row AS source_row
FROM asof_source_0
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL
) WHERE ts >= 1704067200000000 AND ts < 1706745600000000
UNION
SELECT DISTINCT k0 AS "user_id", make_timestamptz(ts) AS "event_timestamp" FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, "offset" AS arrived, "partition" AS part, asof_row AS source_row
FROM asof_source_1
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("partition" = -1 OR ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 >= 1704067200000000)
) WHERE ts >= 1704067200000000 AND ts < 1706745600000000
ORDER BY "event_timestamp", "user_id" NULLS FIRST
