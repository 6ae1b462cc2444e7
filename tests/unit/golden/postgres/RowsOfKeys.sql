SELECT k0 AS k0, CAST(EXTRACT(EPOCH FROM ts) * 1000000 AS bigint) AS ts, CAST(EXTRACT(EPOCH FROM ts) * 1000000 AS bigint) AS created, row_number() OVER (PARTITION BY k0 ORDER BY ts, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST) AS arrived, c0 AS c0, c1 AS c1, c2 AS c2, c3 AS c3, c4 AS c4
FROM (
SELECT "user_id" AS k0, ("happened" AT TIME ZONE 'UTC') AS ts, CASE WHEN coalesce("asof_origin_partition", "partition") < 0 THEN 4503599628000000 ELSE CAST(coalesce("asof_origin_partition", "partition") - coalesce("asof_origin_partition", "partition") % 1000000 + 2000000 AS bigint) * 4503599628 END + coalesce("asof_pushed_at", 0) AS era, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_offset", "offset") ELSE coalesce("asof_origin_partition", "partition") END AS arrived, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_partition", "partition") ELSE coalesce("asof_origin_offset", "offset") END AS part, "user_id" AS c0, CAST("amount" AS bigint) AS c1, "price" AS c2, "page" AS c3, ((CASE WHEN isfinite("happened") THEN "happened" END) AT TIME ZONE 'UTC') AS c4
FROM "asof"."shop__events__clicks"
WHERE "happened" > '-infinity' AND "happened" < 'infinity' AND "user_id" IS NOT NULL AND "happened" <= (timestamptz '2024-02-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND ("partition" = -1) = (("happened" AT TIME ZONE 'UTC') < timestamptz '2024-01-01 00:00:00+00:00')
) AS asof_q
WHERE ts <= timestamptz '2024-02-01 00:00:00+00:00' AND (k0) IN (SELECT k0 FROM asof__wanted)
ORDER BY asof_q.k0, asof_q.ts, arrived
