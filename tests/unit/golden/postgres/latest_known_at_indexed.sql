SELECT asof_s.asof_n, asof_l0.asof_f0 AS f0, coalesce(asof_l0.asof_f1, CAST('0.5' AS double precision)) AS f1, asof_l0.asof_f2 AS f2
FROM (SELECT * FROM asof_spine ORDER BY "user_id", asof_at) AS asof_s
LEFT JOIN LATERAL (
SELECT CAST("amount" AS bigint) AS asof_f0, "price" AS asof_f1, "page" AS asof_f2
FROM (
SELECT *
FROM "public"."orders" AS asof_r
WHERE "user_id" = asof_s."user_id" AND "happened" <= (asof_s.asof_at AT TIME ZONE 'UTC') AND "happened" >= ((asof_s.asof_at - interval '86400000000 microseconds') AT TIME ZONE 'UTC') AND "happened" >= (timestamptz '0001-01-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND CASE WHEN "written" BETWEEN timestamptz '0001-01-01 00:00:00+00:00' AND timestamptz '9999-12-31 23:59:59.999999+00:00' THEN "written" ELSE ("happened" AT TIME ZONE 'UTC') END <= asof_s.asof_at
ORDER BY "happened" DESC
FETCH FIRST 1 ROW WITH TIES
) AS asof_r
LIMIT 2
) AS asof_l0 ON TRUE;

-- for the spine rows with two results, whose numbers are then in asof_tied:
SELECT asof_s.asof_n, asof_l0.asof_f0 AS f0, coalesce(asof_l0.asof_f1, CAST('0.5' AS double precision)) AS f1, asof_l0.asof_f2 AS f2
FROM (SELECT * FROM asof_spine WHERE asof_n IN (SELECT asof_n FROM asof_tied)) AS asof_s
LEFT JOIN LATERAL (
SELECT CAST("amount" AS bigint) AS asof_f0, "price" AS asof_f1, "page" AS asof_f2
FROM (
SELECT *
FROM "public"."orders" AS asof_r
WHERE "user_id" = asof_s."user_id" AND "happened" <= (asof_s.asof_at AT TIME ZONE 'UTC') AND "happened" >= ((asof_s.asof_at - interval '86400000000 microseconds') AT TIME ZONE 'UTC') AND "happened" >= (timestamptz '0001-01-01 00:00:00+00:00' AT TIME ZONE 'UTC') AND CASE WHEN "written" BETWEEN timestamptz '0001-01-01 00:00:00+00:00' AND timestamptz '9999-12-31 23:59:59.999999+00:00' THEN "written" ELSE ("happened" AT TIME ZONE 'UTC') END <= asof_s.asof_at
ORDER BY "happened" DESC
FETCH FIRST 1 ROW WITH TIES
) AS asof_r
ORDER BY CASE WHEN "written" BETWEEN timestamptz '0001-01-01 00:00:00+00:00' AND timestamptz '9999-12-31 23:59:59.999999+00:00' THEN "written" ELSE ("happened" AT TIME ZONE 'UTC') END DESC NULLS LAST, "amount" DESC NULLS LAST, "price" DESC NULLS LAST, ("page" COLLATE "C") DESC NULLS LAST
LIMIT 1
) AS asof_l0 ON TRUE
