CREATE TEMP TABLE asof_events_l0 ON COMMIT DROP AS
SELECT k0, ts, known, asof_f0, asof_f1, asof_f2, row_number() OVER (ORDER BY k0, ts, created NULLS FIRST, asof_f0 NULLS FIRST, asof_f1 NULLS FIRST, (asof_f2 COLLATE "C") NULLS FIRST) AS place
FROM (
SELECT "user_id" AS k0, ("happened" AT TIME ZONE 'UTC') AS ts, CASE WHEN "written" BETWEEN timestamptz '0001-01-01 00:00:00+00:00' AND timestamptz '9999-12-31 23:59:59.999999+00:00' THEN "written" ELSE ("happened" AT TIME ZONE 'UTC') END AS created, CASE WHEN "written" BETWEEN timestamptz '0001-01-01 00:00:00+00:00' AND timestamptz '9999-12-31 23:59:59.999999+00:00' THEN "written" ELSE ("happened" AT TIME ZONE 'UTC') END AS known, CAST("amount" AS bigint) AS asof_f0, "price" AS asof_f1, "page" AS asof_f2
FROM "public"."orders"
WHERE "happened" BETWEEN (timestamptz '0001-01-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND (timestamptz '9999-12-31 23:59:59.999999+00:00' AT TIME ZONE 'UTC') AND "user_id" IS NOT NULL
) AS asof_q;

CREATE INDEX ON asof_events_l0 (k0, ts, place);

ANALYZE asof_events_l0 (k0, ts);

SELECT asof_s.asof_n, asof_l0.asof_f0 AS f0, coalesce(asof_l0.asof_f1, CAST('0.5' AS double precision)) AS f1, asof_l0.asof_f2 AS f2
FROM (SELECT * FROM asof_spine ORDER BY "user_id", asof_at) AS asof_s
LEFT JOIN LATERAL (
SELECT asof_f0, asof_f1, asof_f2
FROM asof_events_l0
WHERE k0 = asof_s."user_id" AND ts <= asof_s.asof_at AND known <= asof_s.asof_at AND ts >= asof_s.asof_at - interval '86400000000 microseconds'
ORDER BY ts DESC, place DESC
LIMIT 1
) AS asof_l0 ON TRUE
