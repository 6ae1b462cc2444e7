CREATE TEMP TABLE asof_events_l0 ON COMMIT DROP AS
SELECT DISTINCT ON (k0, ts) k0, ts, asof_f0, asof_f1, asof_f2
FROM (
SELECT "user_id" AS k0, ("happened" AT TIME ZONE 'UTC') AS ts, CASE WHEN "written" BETWEEN timestamptz '0001-01-01 00:00:00+00:00' AND timestamptz '9999-12-31 23:59:59.999999+00:00' THEN "written" ELSE ("happened" AT TIME ZONE 'UTC') END AS created, CAST("amount" AS bigint) AS asof_f0, "price" AS asof_f1, "page" AS asof_f2
FROM "public"."orders"
WHERE "happened" BETWEEN (timestamptz '0001-01-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND (timestamptz '9999-12-31 23:59:59.999999+00:00' AT TIME ZONE 'UTC') AND "user_id" IS NOT NULL AND "happened" >= (timestamptz '2023-12-30 23:55:00+00:00' AT TIME ZONE 'UTC') AND "happened" <= (timestamptz '2024-02-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND ("user_id") IN (SELECT CAST("user_id" AS bigint) FROM asof_spine)
) AS asof_q
ORDER BY k0, ts, created DESC NULLS LAST, asof_f0 DESC NULLS LAST, asof_f1 DESC NULLS LAST, (asof_f2 COLLATE "C") DESC NULLS LAST;

CREATE INDEX ON asof_events_l0 (k0, ts);

ANALYZE asof_events_l0 (k0, ts);

SELECT asof_s.asof_n, asof_l0.asof_f0 AS f0, coalesce(asof_l0.asof_f1, CAST('0.5' AS double precision)) AS f1, asof_l0.asof_f2 AS f2
FROM (SELECT * FROM asof_spine ORDER BY "user_id", asof_at) AS asof_s
LEFT JOIN LATERAL (
SELECT asof_f0, asof_f1, asof_f2
FROM asof_events_l0
WHERE k0 = asof_s."user_id" AND ts <= (asof_s.asof_at - interval '300000000 microseconds') AND ts >= (asof_s.asof_at - interval '300000000 microseconds') - interval '86400000000 microseconds'
ORDER BY ts DESC
LIMIT 1
) AS asof_l0 ON TRUE
