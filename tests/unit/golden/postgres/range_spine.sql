SELECT "user_id" AS "user_id", "event_timestamp" AS "event_timestamp" FROM (
SELECT DISTINCT k0 AS "user_id", ts AS "event_timestamp" FROM (
SELECT "user_id" AS k0, ("happened" AT TIME ZONE 'UTC') AS ts, CASE WHEN "written" BETWEEN timestamptz '0001-01-01 00:00:00+00:00' AND timestamptz '9999-12-31 23:59:59.999999+00:00' THEN "written" ELSE ("happened" AT TIME ZONE 'UTC') END AS created
FROM "public"."orders"
WHERE "happened" BETWEEN (timestamptz '0001-01-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND (timestamptz '9999-12-31 23:59:59.999999+00:00' AT TIME ZONE 'UTC') AND "user_id" IS NOT NULL AND "happened" >= (timestamptz '2024-01-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND "happened" <= (timestamptz '2024-02-01 00:00:00+00:00' AT TIME ZONE 'UTC')
) AS asof_q WHERE ts >= timestamptz '2024-01-01 00:00:00+00:00' AND ts < timestamptz '2024-02-01 00:00:00+00:00'
UNION
SELECT DISTINCT k0 AS "user_id", ts AS "event_timestamp" FROM (
SELECT "user_id" AS k0, ("happened" AT TIME ZONE 'UTC') AS ts, CASE WHEN coalesce("asof_origin_partition", "partition") < 0 THEN 4503599628000000 ELSE CAST(coalesce("asof_origin_partition", "partition") - coalesce("asof_origin_partition", "partition") % 1000000 + 2000000 AS bigint) * 4503599628 END + coalesce("asof_pushed_at", 0) AS era, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_offset", "offset") ELSE coalesce("asof_origin_partition", "partition") END AS arrived, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_partition", "partition") ELSE coalesce("asof_origin_offset", "offset") END AS part
FROM "asof"."shop__events__clicks"
WHERE "happened" BETWEEN (timestamptz '0001-01-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND (timestamptz '9999-12-31 23:59:59.999999+00:00' AT TIME ZONE 'UTC') AND "user_id" IS NOT NULL AND "happened" >= (timestamptz '2024-01-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND "happened" <= (timestamptz '2024-02-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND ("partition" = -1) = (("happened" AT TIME ZONE 'UTC') < timestamptz '2024-01-01 00:00:00+00:00')
) AS asof_q WHERE ts >= timestamptz '2024-01-01 00:00:00+00:00' AND ts < timestamptz '2024-02-01 00:00:00+00:00'
) AS asof_q
ORDER BY "event_timestamp", "user_id" NULLS FIRST
