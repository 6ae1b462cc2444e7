SELECT k0 AS k0, CAST(EXTRACT(EPOCH FROM ts) * 1000000 AS bigint) AS ts, CAST(EXTRACT(EPOCH FROM created) * 1000000 AS bigint) AS created, 0 AS arrived, f0 AS f0, f1 AS f1, f2 AS f2
FROM (
SELECT *, row_number() OVER (PARTITION BY k0 ORDER BY ts DESC, created DESC NULLS LAST, tie0 DESC NULLS LAST, tie1 DESC NULLS LAST, tie2 DESC NULLS LAST) AS asof_place
FROM (
SELECT "user_id" AS k0, ("happened" AT TIME ZONE 'UTC') AS ts, CASE WHEN "written" BETWEEN timestamptz '0001-01-01 00:00:00+00:00' AND timestamptz '9999-12-31 23:59:59.999999+00:00' THEN "written" ELSE ("happened" AT TIME ZONE 'UTC') END AS created, "amount" AS tie0, "price" AS tie1, ("page" COLLATE "C") AS tie2, CASE WHEN "written" BETWEEN timestamptz '0001-01-01 00:00:00+00:00' AND timestamptz '9999-12-31 23:59:59.999999+00:00' THEN "written" ELSE ("happened" AT TIME ZONE 'UTC') END AS known, CAST("amount" AS bigint) AS f0, "price" AS f1, "page" AS f2
FROM "public"."orders"
WHERE "happened" BETWEEN (timestamptz '0001-01-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND (timestamptz '9999-12-31 23:59:59.999999+00:00' AT TIME ZONE 'UTC') AND "user_id" IS NOT NULL AND "happened" <= (timestamptz '2024-02-01 00:00:00+00:00' AT TIME ZONE 'UTC')
) AS asof_q
WHERE ts <= timestamptz '2024-02-01 00:00:00+00:00' AND (known >= timestamptz '2024-01-01 00:00:00+00:00' OR ts >= timestamptz '2023-12-31 05:20:00+00:00')
) AS asof_q
WHERE asof_place = 1
ORDER BY (asof_q.k0 < 0), asof_q.k0
