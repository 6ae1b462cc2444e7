SELECT DISTINCT k0 AS "user_id", make_timestamptz(ts) AS "event_timestamp" FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, CASE WHEN "written" BETWEEN make_timestamptz(-62135596800000000) AND make_timestamptz(253402300799999999) THEN epoch_us("written") ELSE ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 END AS created, asof_row AS arrived, asof_row AS source_row
FROM asof_source_0
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL
) WHERE ts >= 1704067200000000 AND ts < 1706745600000000
UNION
SELECT DISTINCT k0 AS "user_id", make_timestamptz(ts) AS "event_timestamp" FROM (
SELECT "user_id" AS k0, ((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 AS ts, CASE WHEN coalesce("asof_origin_partition", "partition") < 0 THEN 4503599628000000 ELSE CAST(coalesce("asof_origin_partition", "partition") - coalesce("asof_origin_partition", "partition") % 1000000 + 2000000 AS BIGINT) * 4503599628 END + coalesce("asof_pushed_at", 0) AS era, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_offset", "offset") ELSE coalesce("asof_origin_partition", "partition") END AS arrived, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_partition", "partition") ELSE coalesce("asof_origin_offset", "offset") END AS part, asof_row AS source_row
FROM asof_source_1
WHERE "happened" IS NOT NULL AND "user_id" IS NOT NULL AND ("partition" = -1) = (((epoch_ns("happened")) - (((epoch_ns("happened")) % 1000) + 1000) % 1000) // 1000 < 1704067200000000)
) WHERE ts >= 1704067200000000 AND ts < 1706745600000000
ORDER BY 2, 1 NULLS FIRST
