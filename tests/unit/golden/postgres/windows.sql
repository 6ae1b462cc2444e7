CREATE TEMP TABLE asof_events_0 ON COMMIT DROP AS
SELECT k0, ts, place, start_3600000000, v2, count(v0) OVER asof_ever AS total0, count(v1) OVER asof_ever AS total1, sum(v1) OVER asof_ever AS total2, count(v3) OVER asof_session_3600000000 AS total3, max(v4) OVER asof_session_3600000000 AS total4
FROM (
SELECT *, max(begin_3600000000) OVER asof_ever AS first_3600000000, max(CASE WHEN begin_3600000000 > 0 THEN ts END) OVER asof_ever AS start_3600000000
FROM (
SELECT *, row_number() OVER asof_ever AS place, CASE WHEN ts <= lag(ts) OVER asof_ever + interval '3600000000 microseconds' THEN NULL ELSE row_number() OVER asof_ever END AS begin_3600000000
FROM (
SELECT "user_id" AS k0, ("happened" AT TIME ZONE 'UTC') AS ts, CASE WHEN coalesce("asof_origin_partition", "partition") < 0 THEN 4503599628000000 ELSE CAST(coalesce("asof_origin_partition", "partition") - coalesce("asof_origin_partition", "partition") % 1000000 + 2000000 AS bigint) * 4503599628 END + coalesce("asof_pushed_at", 0) AS era, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_offset", "offset") ELSE coalesce("asof_origin_partition", "partition") END AS arrived, CASE WHEN "asof_pushed_at" IS NULL THEN coalesce("asof_origin_partition", "partition") ELSE coalesce("asof_origin_offset", "offset") END AS part, TRUE AS v0, CASE WHEN (("page" COLLATE "C") = 'x') THEN CAST("amount" AS bigint) END AS v1, "page" AS v2, CASE WHEN (("page" COLLATE "C") <> 'y') THEN TRUE END AS v3, (SELECT CASE WHEN abs("price") >= CAST('Infinity' AS double precision) OR abs(asof_v.asof_b) >= CAST('Infinity' AS double precision) OR "price" = 0 OR asof_v.asof_b = 0 THEN "price" * asof_v.asof_b WHEN abs("price") >= 1 AND abs(asof_v.asof_b) >= 1 THEN CASE WHEN abs(("price" * 7.458340731200207e-155) * (asof_v.asof_b * 7.458340731200207e-155)) >= 1 THEN sign("price") * sign(asof_v.asof_b) * CAST('Infinity' AS double precision) ELSE "price" * asof_v.asof_b END WHEN abs("price") < 1e-200 AND abs(asof_v.asof_b) < 1e-200 THEN 0 WHEN abs("price") < 1 AND abs(asof_v.asof_b) < 1 THEN CASE WHEN abs(("price" * 1.3407807929942597e154) * (asof_v.asof_b * 1.3407807929942597e154)) <= 4.440892098500626e-16 THEN 0 ELSE "price" * asof_v.asof_b END ELSE "price" * asof_v.asof_b END FROM (SELECT CAST('2' AS double precision) AS asof_b OFFSET 0) AS asof_v) AS v4
FROM "asof"."shop__events__clicks"
WHERE "happened" BETWEEN (timestamptz '0001-01-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND (timestamptz '9999-12-31 23:59:59.999999+00:00' AT TIME ZONE 'UTC') AND "user_id" IS NOT NULL AND ("partition" = -1) = (("happened" AT TIME ZONE 'UTC') < timestamptz '2024-01-01 00:00:00+00:00')
) AS asof_q
WINDOW asof_ever AS (PARTITION BY k0 ORDER BY ts, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST ROWS UNBOUNDED PRECEDING)
) AS asof_q
WINDOW asof_ever AS (PARTITION BY k0 ORDER BY ts, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST ROWS UNBOUNDED PRECEDING)
) AS asof_q
WINDOW asof_ever AS (PARTITION BY k0 ORDER BY ts, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST ROWS UNBOUNDED PRECEDING), asof_session_3600000000 AS (PARTITION BY k0, first_3600000000 ORDER BY ts, era NULLS FIRST, arrived NULLS FIRST, part NULLS FIRST ROWS UNBOUNDED PRECEDING);

CREATE INDEX ON asof_events_0 (k0, ts, place);

ANALYZE asof_events_0 (k0, ts);

SELECT asof_s.asof_n, CASE WHEN asof_s."user_id" IS NOT NULL AND asof_s.asof_at IS NOT NULL THEN coalesce((coalesce(asof_e0.total0, 0) - coalesce(asof_b0_3600000000_300000000.total0, 0)), 0) END AS f0, CASE WHEN (coalesce(asof_e0.total1, 0) - coalesce(asof_b0_86400000000_3600000000.total1, 0)) > 0 THEN CASE WHEN (coalesce(asof_e0.total2, 0) - coalesce(asof_b0_86400000000_3600000000.total2, 0)) BETWEEN -9223372036854775808 AND 9223372036854775807 THEN CAST((coalesce(asof_e0.total2, 0) - coalesce(asof_b0_86400000000_3600000000.total2, 0)) AS bigint) END END AS f1, (SELECT v2 FROM asof_events_0 WHERE k0 = asof_s."user_id" AND ts <= asof_s.asof_at AND v2 IS NOT NULL ORDER BY ts DESC, place DESC LIMIT 1) AS f2, CASE WHEN asof_s."user_id" IS NOT NULL AND asof_s.asof_at IS NOT NULL THEN coalesce(CASE WHEN asof_e0.ts >= asof_s.asof_at - interval '3600000000 microseconds' THEN asof_e0.total3 END, 0) END AS f3, CASE WHEN asof_e0.ts >= asof_s.asof_at - interval '3600000000 microseconds' THEN asof_e0.total4 END AS f4
FROM (SELECT * FROM asof_spine ORDER BY "user_id", asof_at) AS asof_s
LEFT JOIN LATERAL (
SELECT ts, start_3600000000, total0, total1, total2, total3, total4
FROM asof_events_0
WHERE k0 = asof_s."user_id" AND ts <= asof_s.asof_at
ORDER BY ts DESC, place DESC
LIMIT 1
) AS asof_e0 ON TRUE
LEFT JOIN LATERAL (
SELECT total0
FROM asof_events_0
WHERE k0 = asof_s."user_id" AND ts < date_bin(interval '300000000 microseconds', (asof_s.asof_at - interval '3600000000 microseconds'), timestamptz '0001-01-01 00:05:00+00:00')
ORDER BY ts DESC, place DESC
LIMIT 1
) AS asof_b0_3600000000_300000000 ON TRUE
LEFT JOIN LATERAL (
SELECT total1, total2
FROM asof_events_0
WHERE k0 = asof_s."user_id" AND ts < date_bin(interval '3600000000 microseconds', (asof_s.asof_at - interval '86400000000 microseconds'), timestamptz '0001-01-01 01:00:00+00:00')
ORDER BY ts DESC, place DESC
LIMIT 1
) AS asof_b0_86400000000_3600000000 ON TRUE
